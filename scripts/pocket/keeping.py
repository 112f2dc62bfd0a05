"""Keeping: checkpoints that replace each other whole, and budgets in minutes that outlast an interruption."""

import os
import time
from pathlib import Path

import torch

EVERY = 150.0  # seconds between checkpoints


def write(path, state):
    """Writes a state so that a reader finds the old or the new one, never half of one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(path.suffix + ".part")
    torch.save(state, part)
    os.replace(part, path)


def read(path, device="cpu"):
    """A state, or None when there is none yet."""
    return torch.load(path, map_location=device, weights_only=True) if Path(path).exists() else None


def processor_clock(threads):
    """Seconds that this process had a processor, by thread: on a busy machine a budget is worth as much as on an idle one."""
    return lambda: time.process_time() / max(1, threads)


class Budget:
    """Minutes of a phase, counted over all its runs; and the step size that follows from the share that is spent."""

    clock = staticmethod(time.monotonic)
    pause = 1e12  # seconds of one run, by any clock on the wall, after which it stops, to go on later

    def __init__(self, minutes, spent=0.0):
        self.total, self.before, self.start = minutes * 60, spent, self.clock()
        self.saved = self.begun = time.monotonic()

    @property
    def spent(self):
        """Seconds so far."""
        return self.before + self.clock() - self.start

    @property
    def share(self):
        """Share of the budget that is spent."""
        return self.spent / self.total if self.total > 0 else 1.0

    def left(self):
        """Whether there is any left, and this run may still use it."""
        return self.share < 1 and time.monotonic() - self.begun < self.pause

    def due(self):
        """Whether a checkpoint is due; saying so counts as having written it."""
        if time.monotonic() - self.saved < EVERY:
            return False
        self.saved = time.monotonic()
        return True

    def rate(self, step, warm=100, fall=0.4):
        """Step size over its peak: up over the first steps of a run, flat, then down to nearly nothing."""
        return min(1.0, (step + 1) / warm) * (0.02 + 0.98 * min(1.0, max(0.0, (1 - self.share) / fall)))


class Average:
    """A running average of weights, kept beside the live ones."""

    def __init__(self, parameters, decay=0.9995):
        self.live, self.decay, self.steps = list(parameters), decay, 0
        self.kept = [p.detach().clone() for p in self.live]

    @torch.no_grad()
    def update(self):
        """Moves towards the live weights; quickly at first."""
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 20))
        torch._foreach_lerp_(self.kept, [p.detach() for p in self.live], 1 - decay)

    @torch.no_grad()
    def swap(self):
        """Exchanges live and kept weights."""
        for live, kept in zip(self.live, self.kept):
            other = live.detach().clone()
            live.copy_(kept)
            kept.copy_(other)

    def __enter__(self):
        self.swap()

    def __exit__(self, *_):
        self.swap()
