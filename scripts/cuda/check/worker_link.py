"""Drives worker processes without the daemon: one socket and one segment each, as `ipc-protocol` defines them."""

import os
import select
import signal
import socket
import struct
import subprocess
import time

PAGE = 4096
PROTOCOL = 7


class WorkerEnded(Exception):
    """The worker exited or stopped talking; carries its exit code and what it wrote."""


class JobFailed(Exception):
    """A job ended without a picture and the worker goes on; carries the reason's name and its text."""


def varint(n):
    """bincode's encoding of an unsigned number."""
    if n < 251:
        return bytes([n])
    for mark, form in ((251, "<H"), (252, "<I"), (253, "<Q")):
        if n < 1 << (8 * struct.calcsize(form)):
            return bytes([mark]) + struct.pack(form, n)
    raise ValueError(n)


def text(s):
    raw = s.encode()
    return varint(len(raw)) + raw


class Reader:
    def __init__(self, body):
        self.body, self.at = body, 0

    def take(self, n):
        self.at += n
        return self.body[self.at - n : self.at]

    def varint(self):
        first = self.take(1)[0]
        form = {251: "<H", 252: "<I", 253: "<Q"}.get(first)
        return struct.unpack(form, self.take(struct.calcsize(form)))[0] if form else first

    def text(self):
        return self.take(self.varint()).decode("utf-8", "replace")


def pages(n):
    return -(-n // PAGE) * PAGE


class Worker:
    """One worker process with a loaded or loading model."""

    DTYPES = {"f32": 0, "bf16": 1, "f16": 2, "auto": 3}
    ENCODERS = {"keep": 0, "drop": 1, "cpu": 2}
    DECODING = {"whole": 0, "tiled": 1}

    def __init__(self, program, source, device=None, side=256, dtype="auto", encoders="keep", decoding="whole", threads=4, env=None):
        """`source` is ("embedded", key) or ("folder", path, family); `device` the ordinal of a GPU, or None for the CPU."""
        latents = 16 * (side // 8) ** 2 * 4
        self.picture_bytes, preview = side * side * 3, (side // 8) ** 2 * 3
        self.picture_at = 3 * pages(latents) + pages(preview)
        total = self.picture_at + pages(self.picture_bytes)
        self.segment = os.memfd_create("gpu-check")
        os.posix_fallocate(self.segment, 0, total)
        ours, theirs = socket.socketpair()
        self.log = os.memfd_create("gpu-check-log")
        self.process = subprocess.Popen([program], stdin=theirs, stdout=self.segment, stderr=self.log, env=env)
        theirs.close()
        self.socket, self.buffer, self.jobs = ours, b"", 0
        kind = {"embedded": 0, "folder": 1}[source[0]]
        model = varint(kind) + text(source[1])
        if kind == 1:
            model += b"\x01" + text(source[2])
        body = varint(0) + varint(PROTOCOL) + varint(1) + varint(os.getpid()) + model
        body += b"\x00" if device is None else b"\x01" + varint(device)
        body += varint(threads) + varint(self.DTYPES[dtype]) + varint(self.ENCODERS[encoders])
        body += varint(latents) + varint(preview) + varint(self.picture_bytes) + text("") + varint(self.DECODING[decoding])
        self.begun = time.monotonic()
        self.send(1, body)

    def send(self, kind, body):
        try:
            self.socket.sendall(b"IMGP" + struct.pack("<HHI", kind, 0, len(body)) + body)
        except OSError as error:
            raise self.ended(str(error)) from error

    def ended(self, why):
        code = self.process.wait(10) if self.process.poll() is None else self.process.returncode
        return WorkerEnded(code, f"{why}: {self.told()}")

    def told(self):
        size = os.fstat(self.log).st_size
        return os.pread(self.log, 2000, max(0, size - 2000)).decode("utf-8", "replace").strip()

    def frame(self, until):
        """The next frame as (kind, reader)."""
        while True:
            if len(self.buffer) >= 12:
                kind, _, length = struct.unpack("<HHI", self.buffer[4:12])
                if len(self.buffer) >= 12 + length:
                    body = self.buffer[12 : 12 + length]
                    self.buffer = self.buffer[12 + length :]
                    reader = Reader(body)
                    reader.varint()  # the variant, which the kind repeats
                    return kind, reader
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                raise TimeoutError(f"no frame in time: {self.told()}")
            data = self.socket.recv(1 << 16)
            if not data:
                raise self.ended("the worker closed its socket")
            self.buffer += data

    def ready(self, limit):
        """Waits until the model is loaded; returns the seconds since the start, and the host's peak in bytes."""
        until = time.monotonic() + limit
        while True:
            kind, body = self.frame(until)
            if kind == 3:
                return time.monotonic() - self.begun, body.varint()
            if kind == 8:
                raise self.ended(body.text())

    def draw(self, prompt, side, steps=4, seed=1, limit=60, on_step=None):
        """Draws a picture; returns its bytes, the milliseconds of encode, steps and decode, and those of each step."""
        self.jobs += 1
        body = varint(1) + varint(self.jobs) + text(prompt) + b"\x00" + varint(side) + varint(side) + varint(steps)
        body += struct.pack("<f", 0.0) + varint(seed) + varint(0) + varint(0) + b"\x00"
        self.send(2, body)
        until, each = time.monotonic() + limit, []
        while True:
            kind, body = self.frame(until)
            if kind == 5:
                _, step, _, _ = (body.varint() for _ in range(4))
                if body.take(1) == b"\x01":
                    body.varint(), body.varint()
                each.append(body.varint())
                if on_step:
                    on_step(step)
            elif kind == 6:
                picture = os.pread(self.segment, side * side * 3, self.picture_at)
                timings = self.timings(body)
                return picture, timings, each
            elif kind == 7:
                body.varint()
                reasons = ("bad_request", "out_of_memory", "not_finite", "cancelled", "other")
                raise JobFailed(reasons[body.varint()], body.body[body.at :].decode("utf-8", "replace"))
            elif kind == 8:
                raise self.ended(body.text())

    @staticmethod
    def timings(body):
        """The milliseconds of encode, steps and decode in a Done frame, after the size and the reading of the prompt."""
        body.varint(), body.varint(), body.varint(), body.take(1)
        for _ in range(body.varint()):  # unknown words, each with the closest known one
            body.text()
            if body.take(1) == b"\x01":
                body.text()
        for _ in range(body.varint()):
            body.text()
        return dict(zip(("encode_ms", "denoise_ms", "decode_ms"), (body.varint() for _ in range(3))))

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait(20)
        self.close()

    def leave(self):
        try:
            self.send(4, varint(3))
        except WorkerEnded:
            pass
        code = self.process.wait(30)
        self.close()
        return code

    def close(self):
        for descriptor in (self.segment, self.log):
            os.close(descriptor)
        self.socket.close()
