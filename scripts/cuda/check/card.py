"""What the management library says of one card, and programs that misuse it on purpose."""

import ctypes
import threading
import time

# Writes to address 16.
BAD_KERNEL = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry bad() {
  .reg .b64 %a;
  .reg .b32 %v;
  mov.u64 %a, 16;
  mov.u32 %v, 1;
  st.global.u32 [%a], %v;
  ret;
}
\0"""


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class Card:
    def __init__(self, index=0, library="libnvidia-ml.so.1"):
        self.lib = ctypes.CDLL(library)
        self._ok(self.lib.nvmlInit_v2())
        self.handle = ctypes.c_void_p()
        self._ok(self.lib.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(self.handle)))

    @staticmethod
    def _ok(status):
        if status:
            raise OSError(f"the management library returned {status}")

    def _text(self, function, *arguments):
        buffer = ctypes.create_string_buffer(96)
        self._ok(getattr(self.lib, function)(*arguments, buffer, ctypes.c_uint(96)))
        return buffer.value.decode()

    def facts(self):
        return {
            "card": self._text("nvmlDeviceGetName", self.handle),
            "driver": self._text("nvmlSystemGetDriverVersion"),
            "total_mb": self.memory().total >> 20,
        }

    def memory(self):
        memory = _Memory()
        self._ok(self.lib.nvmlDeviceGetMemoryInfo(self.handle, ctypes.byref(memory)))
        return memory

    def used(self):
        return self.memory().used


class Peak:
    """The largest memory in use while it is open, sampled every 2 ms."""

    def __init__(self, card):
        self.card, self.peak, self.stop = card, 0, threading.Event()

    def __enter__(self):
        def watch():
            while not self.stop.wait(0.002):
                self.peak = max(self.peak, self.card.used())

        self.thread = threading.Thread(target=watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def _context():
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context = ctypes.c_int(), ctypes.c_void_p()
    for status in (cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), 0)):
        Card._ok(status)
    Card._ok(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    Card._ok(cuda.cuCtxSetCurrent(context))
    return cuda


def hog(leave):
    """Takes all memory of the card except `leave` bytes, says so, and keeps it until its stdin closes."""
    cuda, card = _context(), Card()
    for size in (1 << 30, 1 << 26, 1 << 22):
        pointer = ctypes.c_uint64()
        while card.memory().free > leave + size and cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(size)) == 0:
            pass
    print(card.memory().free >> 20, flush=True)
    input()


def illegal():
    """Runs a kernel that writes to an illegal address; returns CUDA's error number, 700 if all is as expected."""
    cuda = _context()
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    Card._ok(cuda.cuModuleLoadData(ctypes.byref(module), BAD_KERNEL))
    Card._ok(cuda.cuModuleGetFunction(ctypes.byref(function), module, b"bad"))
    Card._ok(cuda.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, None, None, None))
    return cuda.cuCtxSynchronize()


def seconds_until(condition, limit):
    """Seconds until the condition holds; None if it does not in time."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > limit:
            return None
        time.sleep(0.002)
    return time.monotonic() - begun
