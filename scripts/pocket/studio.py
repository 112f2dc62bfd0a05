"""The studio: a recipe's vocabulary, atlas, painters and bank on one device; what every phase starts from."""

import contextlib
import json
import time
from pathlib import Path

import torch

import atlas
import bank
import concepts
import keeping
import painter
import recipe as recipes

START = time.monotonic()


def say(*parts):
    """A line of progress with the time since the start."""
    print(f"[{time.monotonic() - START:7.1f}s]", *parts, flush=True)


class Studio:
    """Opened once a command."""

    def __init__(self, name, out, data=None, device=None, threads=0, seed=0):
        self.name, self.recipe, self.out, self.seed = name, recipes.named(name), Path(out), seed
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if threads:
            torch.set_num_threads(threads)
        if self.device.type == "cpu":
            keeping.Budget.clock = staticmethod(keeping.processor_clock(torch.get_num_threads()))
        torch.manual_seed(seed)
        if self.recipe["tf32"] and self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
        r = self.recipe
        self.book = concepts.Book(concepts.chosen(r["concepts"]), styles=r["styles"], length=r["length"])
        folder = Path(data) if data else concepts.HERE / "data"
        self.sprites, self.entries, self.about = atlas.load(folder, self.book)
        self.painters = {}
        self.out.mkdir(parents=True, exist_ok=True)
        self._same_vocabulary()

    def _same_vocabulary(self):
        """A run keeps its vocabulary: another list of concepts would give other meanings to the same weights."""
        path, ids = self.path("vocabulary.json"), json.dumps(self.book.ids, ensure_ascii=False)
        if not path.exists():
            path.write_text(ids)
        elif path.read_text() != ids:
            raise SystemExit(f"{path} differs from concepts.txt and confusable.txt: use another folder or the old lists")

    @property
    def largest(self):
        """Side of the largest pictures that any family draws."""
        return max(self.recipe[f]["size"] for f in recipes.FAMILIES)

    def painter(self, size):
        """The painter of one size."""
        if size not in self.painters:
            self.painters[size] = painter.Painter(self.sprites, size, self.device)
        return self.painters[size]

    def bank(self, count=None, salt=0):
        """Scenes for training; another salt gives others. They stay in the device's memory."""
        count = count or self.recipe["bank"]
        made = painter.to_torch(bank.make(self.book, count, self.seed * 100 + salt, self.recipe["processes"]))
        say(f"bank: {count} scenes")
        return {k: v.to(self.device) for k, v in made.items()}

    def pick(self, rows, count):
        """A random batch of a bank."""
        index = torch.randint(0, len(rows["t5"]), (count,), device=self.device)
        return painter.take(rows, index)

    def half(self):
        """Mixed precision, where the device has it."""
        if self.device.type == "cpu" and not torch.backends.mkldnn.is_available():
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def path(self, *parts):
        """A file of this run."""
        return self.out.joinpath(*parts)
