#!/usr/bin/env python3
"""Makes every golden and layout of the worker's tests again, with the reference's own classes.

    make.py [--to DIR] [--only NAME…] [--compare]       everything, into worker/tests unless --to names a folder
    make.py --folder DIR --family F [--run N] [--cases NAME…] [--dtype f32|bf16]
                                                        one folder of tiny random models; N makes other weights and noise

`--compare` prints for each file whether it has the bytes of the project's own, or how far its values are from them:
weights, ids and packed blocks come out the same everywhere, while sums of floats differ in their last bits between
processors and versions. Names: tiny-flux, tiny-flux-bf16, tiny-sd3, pocket, tokens, layouts.
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

import layouts
import pipelines
import record
import sizes as presets

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TESTS = ROOT / "worker" / "tests"


def tiny(folder):
    """Both tiny models in one folder."""
    for family in record.FAMILIES:
        pipelines.write_folder(folder, presets.TINY, family)
    return folder


def recorded(folder, family, names, sizes=presets.TINY, run=0, dtype=torch.float32):
    """Draws a folder's cases; what its classes read besides is not kept."""
    with tempfile.TemporaryDirectory() as scratch:
        pipeline = pipelines.MAKERS[family](sizes, folder, scratch, dtype)
        record.folder(folder, family, pipeline, sizes, names, run, dtype)
    for name in ("vocab.json", "merges.txt"):
        (folder / "tokenizers" / "clip" / name).unlink()


def without_encoder(folder, name, prefix, mark):
    """The decoder is all that is drawn with."""
    kept = {key: value for key, value in load_file(str(folder / name)).items() if not key.startswith(prefix)}
    pipelines.save(folder, name, kept, mark)


def write_flux(to):
    pipelines.write_folder(to, presets.TINY, "flux")
    recorded(to, "flux", ["base", "wide"])
    without_encoder(to, pipelines.AUTOENCODER, "encoder.", None)


def write_sd3(to):
    pipelines.write_folder(to, presets.TINY, "sd3")
    recorded(to, "sd3", ["base", "cfg"])
    without_encoder(to, pipelines.SD3, pipelines.FIRST_STAGE + "encoder.", None)


def write_flux_bf16(to):
    """What bf16 changes: states, predictions and latents of one case."""
    to.mkdir(parents=True, exist_ok=True)
    kept = lambda name: name in ("t5_embeds", "pooled") or name.split(".")[0] in ("pred", "latents")
    with tempfile.TemporaryDirectory() as scratch:
        pipelines.write_folder(scratch, presets.TINY, "flux")
        pipeline = pipelines.flux(presets.TINY, scratch, Path(scratch, "classes"), torch.bfloat16)
        found = record.flux(pipeline, presets.CASES["base"], presets.TINY, presets.SEED, torch.bfloat16)
        record.write(found, to / "golden_flux_base.safetensors", kept)


def write_pocket(to):
    for name in ("pocket-flux", "pocket-sd3"):
        folder = ROOT / "worker" / "assets" / name
        command = [sys.executable, "golden.py", "--small", "--folder", str(folder), "--to", str(to / name)]
        subprocess.run(command, cwd=ROOT / "scripts" / "pocket", check=True)


def write_tokens(to):
    subprocess.run([sys.executable, str(HERE / "tokens.py"), "--out", str(to)], check=True)


def write_layouts(to):
    with tempfile.TemporaryDirectory() as scratch:
        layouts.write(to, tiny(Path(scratch)))


PARTS = {
    "tiny-flux": lambda to: write_flux(to / "goldens" / "tiny-flux"),
    "tiny-flux-bf16": lambda to: write_flux_bf16(to / "goldens" / "tiny-flux-bf16"),
    "tiny-sd3": lambda to: write_sd3(to / "goldens" / "tiny-sd3"),
    "pocket": lambda to: write_pocket(to / "goldens"),
    "tokens": lambda to: write_tokens(to / "goldens" / "tokens"),
    "layouts": lambda to: write_layouts(to / "layouts"),
}


def distance(ours, theirs):
    """The largest difference of two files of tensors, as a share of the largest value; None where names or shapes differ."""
    a, b = load_file(str(ours)), load_file(str(theirs))
    if a.keys() != b.keys() or any(a[name].shape != b[name].shape for name in a):
        return None
    return max((float((a[name].double() - b[name].double()).abs().max() / b[name].double().abs().max().clamp(min=1e-30)), name)
               for name in a)


def compare(made):
    """Prints how each file that was made stands to the project's own."""
    for path in sorted(path for path in made.rglob("*") if path.is_file()):
        name = path.relative_to(made)
        own = TESTS / name
        if not own.exists():
            print(f"{name}: the project has no such file")
        elif own.read_bytes() == path.read_bytes():
            print(f"{name}: the same bytes")
        elif path.suffix == ".safetensors":
            found = distance(path, own)
            print(f"{name}: other tensors" if found is None else f"{name}: {found[0]:.1e} apart at most ({found[1]})")
        else:
            print(f"{name}: differs")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--to", type=Path, default=TESTS)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--family", choices=record.FAMILIES, default="flux")
    parser.add_argument("--cases", nargs="+", choices=presets.CASES, default=["base"])
    parser.add_argument("--run", type=int, default=0)
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    given = parser.parse_args()
    if given.compare and given.to.resolve() == TESTS:
        parser.error("--compare needs --to: files in their own place have nothing to be compared with")
    torch.manual_seed(0)
    torch.set_num_threads(2)
    if given.folder:
        dtype = dict(f32=torch.float32, bf16=torch.bfloat16)[given.dtype]
        pipelines.write_folder(given.folder, presets.TINY, given.family, given.run)
        recorded(given.folder, given.family, given.cases, run=given.run, dtype=dtype)
        return
    for name in given.only:
        print(f"{name} …", flush=True)
        PARTS[name](given.to)
    if given.compare:
        compare(given.to)


if __name__ == "__main__":
    main()
