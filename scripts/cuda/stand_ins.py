"""Archives with the CUDA libraries' entry points, so that a program links and starts without CUDA.

candle links the CUDA libraries by name. Linked against these archives instead, the program loads a library at the first
call into it. If the library is missing, a function returns its library's "not available" status, which candle turns
into an ordinary error. The entry points are those that cudarc's bindings declare. x86-64 Linux only.
"""

import pathlib
import re
import subprocess
import tempfile
from dataclasses import dataclass

# Names of the shared objects by preference. 13 before 12, so that the newer of two installed ones is used.
@dataclass(frozen=True)
class Library:
    link: str      # the name after -l
    bindings: str  # cudarc's module
    objects: tuple
    absent: int    # the status of a function whose library is missing


LIBRARIES = (
    Library("cuda", "driver", ("libcuda.so.1",), 100),  # CUDA_ERROR_NO_DEVICE
    Library("cublas", "cublas", ("libcublas.so.13", "libcublas.so.12"), 1),  # CUBLAS_STATUS_NOT_INITIALIZED
    Library("cublasLt", "cublaslt", ("libcublasLt.so.13", "libcublasLt.so.12"), 1),
    Library("curand", "curand", ("libcurand.so.10",), 203),  # CURAND_STATUS_INITIALIZATION_FAILED
    Library("nvrtc", "nvrtc", ("libnvrtc.so.13", "libnvrtc.so.12"), 11),  # NVRTC_ERROR_INTERNAL_ERROR
    Library("cudnn", "cudnn", ("libcudnn.so.9",), 1001),  # CUDNN_STATUS_NOT_INITIALIZED
)

# type _F = unsafe extern "C" fn(ARGUMENTS) -> RESULT; ... load::<_F>("NAME")
DECLARED = re.compile(r'type _F\s*=\s*unsafe extern "C" fn\(.*?\)\s*(?:->\s*([^;]*?))?\s*;.*?load::<_F>\(\s*"(\w+)"', re.S)

# Saves every register that can carry an argument, asks `resolve_LIB` for the function with the index on the stack,
# and continues there. 7 pushes and 136 bytes keep the stack aligned to 16 for the call.
LOADER = """
first_use_{lib}:
    pushq %rdi; pushq %rsi; pushq %rdx; pushq %rcx; pushq %r8; pushq %r9; pushq %rax
    subq $136, %rsp
{save}
    movq 192(%rsp), %rdi
    call resolve_{lib}
    movq %rax, %r11
{restore}
    addq $136, %rsp
    popq %rax; popq %r9; popq %r8; popq %rcx; popq %rdx; popq %rsi; popq %rdi
    addq $8, %rsp
    jmp *%r11
"""

RESOLVER = """
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>

__attribute__((visibility("hidden"))) extern void *targets_{lib}[];
static const char *const objects[] = {{ {objects} }};
static const struct {{ const char *name; int gives_text; }} functions[] = {{ {functions} }};
static void *library;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static long no_library(void) {{ return {absent}; }}
static const char *no_text(void) {{ return "{lib} is not installed"; }}

static void load(void) {{
    for (size_t i = 0; i < sizeof objects / sizeof *objects && !library; i++)
        library = dlopen(objects[i], RTLD_LAZY | RTLD_LOCAL);
}}

__attribute__((visibility("hidden"))) void *resolve_{lib}(size_t index) {{
    pthread_once(&once, load);
    void *found = library ? dlsym(library, functions[index].name) : NULL;
    if (!found)
        found = functions[index].gives_text ? (void *)no_text : (void *)no_library;
    __atomic_store_n(&targets_{lib}[index], found, __ATOMIC_RELEASE);
    return found;
}}
"""


def entry_points(bindings: pathlib.Path) -> dict:
    """Names of a module's functions, each with whether it returns a text."""
    found = {name: "*" in (result or "") for result, name in DECLARED.findall(bindings.read_text())}
    if len(found) < 10:
        raise SystemExit(f"{bindings} declares {len(found)} functions: cudarc writes its bindings in another way now")
    return dict(sorted(found.items()))


def assembly(lib: str, names: list) -> str:
    move = lambda back: "\n".join(
        f"    movups {16 * i}(%rsp), %xmm{i}" if back else f"    movups %xmm{i}, {16 * i}(%rsp)" for i in range(8)
    )
    lines = [".text", LOADER.format(lib=lib, save=move(False), restore=move(True))]
    for i, name in enumerate(names):
        lines += [f".globl {name}", f".hidden {name}", f".type {name}, @function"]
        lines += [f"{name}:", f"    jmp *targets_{lib}+{8 * i}(%rip)"]
        lines += [f"first_{lib}_{i}:", f"    pushq ${i}", f"    jmp first_use_{lib}"]
    lines += [".data", ".balign 8", f".globl targets_{lib}", f".hidden targets_{lib}", f"targets_{lib}:"]
    lines += [f"    .quad first_{lib}_{i}" for i in range(len(names))]
    return "\n".join(lines + ['.section .note.GNU-stack,"",@progbits', ""])


def build(library: Library, cudarc: pathlib.Path, folder: pathlib.Path) -> int:
    """Writes libNAME.a; returns the number of its functions."""
    functions = entry_points(cudarc / "src" / library.bindings / "sys" / "mod.rs")
    lib = library.link
    resolver = RESOLVER.format(
        lib=lib,
        absent=library.absent,
        objects=", ".join(f'"{name}"' for name in library.objects),
        functions=", ".join(f'{{ "{name}", {int(text)} }}' for name, text in functions.items()),
    )
    with tempfile.TemporaryDirectory() as made:
        made = pathlib.Path(made)
        (made / f"entries_{lib}.s").write_text(assembly(lib, list(functions)))
        (made / f"resolve_{lib}.c").write_text(resolver)
        sources = [f"entries_{lib}.s", f"resolve_{lib}.c"]
        subprocess.run(["gcc", "-O2", "-fPIC", "-c", *sources], cwd=made, check=True)
        archive = folder / f"lib{lib}.a"
        archive.unlink(missing_ok=True)
        objects = [made / source.rsplit(".", 1)[0] for source in sources]
        subprocess.run(["ar", "rcs", archive, *(f"{path}.o" for path in objects)], check=True)
    return len(functions)
