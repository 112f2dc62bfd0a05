#!/usr/bin/env python3
"""Prepares a folder to compile CUDA code with, and prints the environment for it as shell code.

    eval "$(scripts/cuda/toolkit.py FOLDER)"

The compiler is the system's (NVCC, CUDA_HOME, PATH or /usr/local/cuda; CUDA 12 or 13), else one from PyPI wheels. The
folder gets a root with bin, include and nvvm of that compiler, and a lib of its own: stand-ins for the CUDA libraries
(stand_ins.py), and the static runtime under the name that candle links. CUTLASS always comes as a wheel.
Needs python3 with pip, gcc, ar, git and cargo; x86-64 Linux. CUDA_COMPUTE_CAP is the card's compute capability
without the dot (default 90: H100, H200); the result runs only on cards of that major version.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

import stand_ins

HERE = pathlib.Path(__file__).resolve().parent
CUTLASS_COMMIT = "7d49e6c7e2f8896c47f586706e67e1fb215529dc"  # as in candle-flash-attn's build script: CUTLASS 3.5.0
# Smaller objects; and of flash-attention only what we call: whole heads of 64 and 128, without dropout, ALiBi,
# soft cap or window. A call outside this would compute something else without an error.
NVCC_FLAGS = ["-w"] + [
    f"-DFLASHATTENTION_DISABLE_{part}" for part in ("DROPOUT", "ALIBI", "SOFTCAP", "LOCAL", "UNEVEN_K")
]


def say(text):
    print(f"toolkit: {text}", file=sys.stderr)


def release(nvcc):
    """(major, minor) of a compiler; None if it does not run."""
    try:
        told = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"release (\d+)\.(\d+)", told)
    return found and (int(found[1]), int(found[2]))


def of_system():
    """The root of the system's toolkit, if it has CUDA 12 or 13."""
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")] + ["/usr/local/cuda"]
    places = [os.environ.get("NVCC"), shutil.which("nvcc")] + [f"{home}/bin/nvcc" for home in homes if home]
    for nvcc in filter(None, places):
        root = pathlib.Path(nvcc).resolve().parent.parent
        if (release(nvcc) or (0, 0))[0] in (12, 13) and (root / "include" / "cuda_runtime.h").is_file():
            return root
    return None


def unpack(requirements, prefixes, to):
    """Downloads the wheels of a list, checks their digests, and unpacks what is below the prefixes."""
    with tempfile.TemporaryDirectory(dir=to.parent) as loaded:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        pip += ["--require-hashes", "--only-binary=:all:", "-d", loaded, "-r", requirements]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        for wheel in sorted(pathlib.Path(loaded).glob("*.whl")):
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(to, [name for name in packed.namelist() if name.startswith(prefixes)])


def of_wheels(folder):
    root = folder / "wheels" / "nvidia" / "cu13"
    if not (folder / "wheels" / "complete").exists():
        say("no CUDA 12 or 13 compiler is installed: fetching CUDA 13.0 as wheels (110 MB)")
        shutil.rmtree(folder / "wheels", ignore_errors=True)
        unpack(HERE / "wheels.txt", ("nvidia/cu13/",), folder / "wheels")
        for program in [*(root / "bin").iterdir(), *(root / "nvvm" / "bin").iterdir()]:
            program.chmod(0o755)
        (folder / "wheels" / "complete").touch()
    return root


def lay_out(root, folder):
    """Links the compiler's parts into a root whose library folder is ours."""
    ours = folder / "root"
    shutil.rmtree(ours, ignore_errors=True)
    (ours / "lib64" / "stubs").mkdir(parents=True)
    (ours / "lib").symlink_to("lib64")
    for part in ("bin", "include", "nvvm", "targets"):
        if (root / part).exists():
            (ours / part).symlink_to(root / part)
    runtimes = [root / place / "libcudart_static.a" for place in ("lib64", "lib", "targets/x86_64-linux/lib")]
    runtime = next(path for path in runtimes if path.exists())
    for name in ("libcudart.a", "libcudart_static.a"):  # candle links -lcudart
        (ours / "lib64" / name).symlink_to(runtime)
    devrt = runtime.with_name("libcudadevrt.a")
    if devrt.exists():
        (ours / "lib64" / devrt.name).symlink_to(devrt)
    return ours


def cudarc_source():
    """The folder and version of the cudarc that Cargo.lock names."""
    command = ["cargo", "metadata", "-q", "--locked", "--format-version", "1", "--features", "worker/cuda"]
    packages = json.loads(subprocess.run(command, cwd=HERE.parents[1], capture_output=True, check=True).stdout)
    found = next(package for package in packages["packages"] if package["name"] == "cudarc")
    return pathlib.Path(found["manifest_path"]).parent


def cutlass(folder):
    """The headers, where candle-flash-attn's build script looks for a finished checkout."""
    place = folder / "cudaforge" / "git" / "checkouts" / f"cutlass-{CUTLASS_COMMIT[:16]}"
    if not (place / "include").exists():
        source = "cutlass_library/source/"
        unpack(HERE / "cutlass.txt", (source + "include/", source + "tools/util/include/"), folder / "cutlass")
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / "cutlass" / "cutlass_library" / "source", place)
        subprocess.run(["git", "init", "-q", place], check=True, stdout=sys.stderr)
        (place / ".git" / "HEAD").write_text(CUTLASS_COMMIT + "\n")
    return folder / "cudaforge"


def main():
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {sys.argv[0]} FOLDER")
    folder = pathlib.Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    root = lay_out(of_system() or of_wheels(folder), folder)
    major, minor = release(root / "bin" / "nvcc")
    cudarc = cudarc_source()
    counts = [stand_ins.build(library, cudarc, root / "lib64" / "stubs") for library in stand_ins.LIBRARIES]
    say(f"CUDA {major}.{minor}, stand-ins for {sum(counts)} functions of {cudarc.name}, in {folder}")
    flags = NVCC_FLAGS + (["--compress-mode=size"] if (major, minor) >= (12, 8) else [])
    values = {
        "CUDA_HOME": root,
        "CUDA_PATH": root,
        "NVCC": root / "bin" / "nvcc",
        "CUDARC_CUDA_VERSION": f"{major}0{minor}0",
        "CUDA_COMPUTE_CAP": os.environ.get("CUDA_COMPUTE_CAP", "90"),
        "CUDAFORGE_HOME": cutlass(folder),
        "CUDAFORGE_THREADS": os.environ.get("CUDAFORGE_THREADS", os.cpu_count()),
        "NVCC_APPEND_FLAGS": " ".join(flags),
    }
    for name, value in values.items():
        print(f"export {name}='{value}'")
    print(f"export PATH='{root / 'bin'}':\"$PATH\"")


main()
