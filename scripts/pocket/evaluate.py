#!/usr/bin/env python3
"""Evaluates an exported folder on prompts with something that training never saw.

    python evaluate.py --recipe gpu --out RUN --folder FOLDER [--version-1 FOLDER] [--prompts 2000] [--steps 4 16]

Objects are named by the run's judge in the regions that the caption implies, the background is the border's median colour, an
object that nobody asked for fails the prompt. The ceiling is the same on real pictures after the autoencoder. With
`--version-1`, both models also draw version 1's own grammar, by its own score and by the judge. Writes evaluation.json.
"""

import argparse
import json
import random
from pathlib import Path

import torch

import bank
import captions
import imported
import marks
import painter
import phase_autoencoder
import phase_judge
import recipe as recipes
import scenes
import words
from studio import Studio, say

SEED = 20_000
COLUMNS = ("object", "background", "nothing_else", "prompt")


def heldout_prompts(book, count, seed=SEED):
    """Scenes with something held out, and a caption of each."""
    rng, drawn, texts = random.Random(seed), [], []
    while len(drawn) < count:
        scene = scenes.for_evaluation(rng, book)
        text = captions.say(rng, book, scene)[0]
        if len(book.encode(text)) <= book.length - 2:
            drawn.append(scene)
            texts.append(text)
    return drawn, texts


def version_1_caption(rng, scene):
    """A scene of version 1's grammar in its words."""
    colours = list(words.COLOURS)
    said = [" ".join(w for w in (words.SIZES[n.size], colours[n.colour], words.SHAPES[n.kind]) if w) for n in scene.nouns]
    said = [f"{words.article(s)} {s}" for s in said]
    relation = {"row": ("left of", "right of"), "column": ("above", "below")}.get(scene.layout)
    text = said[0]
    if relation:
        text = rng.choice([f"{said[0]} {relation[0]} {said[1]}", f"{said[1]} {relation[1]} {said[0]}"])
    ground = colours[scene.background]
    return f"{text} on {words.article(ground)} {ground} background"


def version_1_prompts(book, count, seed=SEED + 1):
    """Scenes of version 1's grammar; kinds are counted from the first shape for the caption alone."""
    rng, drawn, texts = random.Random(seed), [], []
    for _ in range(count):
        scene = scenes.of_version_1(rng, book)
        bare = tuple(scenes.Noun(n.kind - len(book.concepts), n.colour, n.size) for n in scene.nouns)
        texts.append(version_1_caption(rng, scenes.Scene(scene.layout, bare, scene.background, 0, 0)))
        drawn.append(scene)
    return drawn, texts


class Bench:
    """The judge and the ceiling of a run."""

    def __init__(self, studio):
        self.studio, self.judge = studio, phase_judge.load(studio)

    def rows(self, drawn, texts):
        """The scenes as a bank on the device."""
        made = painter.to_torch(bank.of_scenes(self.studio.book, drawn, texts))
        return {k: v.to(self.studio.device) for k, v in made.items()}

    def results(self, drawn, texts, pictures_of, batch=64):
        """Marks of all prompts, drawn a batch at a time."""
        found = []
        for i in range(0, len(drawn), batch):
            rows = self.rows(drawn[i:i + batch], texts[i:i + batch])
            found += marks.mark(self.judge, pictures_of(rows, texts[i:i + batch], i), rows)
        return found

    def table(self, results, drawn):
        """Shares, and what was taken for what."""
        names = [self.studio.book.name(kind) for kind in range(self.studio.book.kinds)] + ["nothing"]
        return marks.table(results, drawn) | dict(mistakes=marks.mistakes(results, names))

    def ceiling(self, drawn, texts, size):
        """Marks of real pictures after the round trip."""
        autoencoder, facts = phase_autoencoder.load(self.studio)

        def real(rows, _texts, _start):
            x = self.studio.painter(size).paint(rows)
            return phase_autoencoder.decode(autoencoder, facts, phase_autoencoder.encode(autoencoder, facts, x))
        return self.table(self.results(drawn, texts, real), drawn)

    def model(self, folder, drawn, texts, steps):
        """Marks of a folder's pictures."""
        made = self.results(drawn, texts, lambda _rows, part, start: folder.draw(part, steps, SEED + start))
        return self.table(made, drawn)

    def grammar_1(self, folder, count, steps):
        """A folder on version 1's grammar: by its score and by the judge."""
        drawn, texts = version_1_prompts(self.studio.book, count)
        by_judge, parts = [], []
        for i in range(0, count, 64):
            rows = self.rows(drawn[i:i + 64], texts[i:i + 64])
            pictures = folder.draw(texts[i:i + 64], steps, SEED + i)
            parts.append(pictures.cpu())
            by_judge += marks.mark(self.judge, pictures, rows)
        return dict(by_colour=marks.by_colour(torch.cat(parts), drawn), by_judge=marks.table(by_judge, drawn))


def line(name, found):
    """One row of the table that is printed."""
    cells = [f"{k} {v['share']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" for k, v in found.items() if "share" in v]
    say(f"{name:24}", "  ".join(cells))


SCORE = "\n## Score\n"


def into_readme(path, report):
    """Puts the figures at the end of the model's README, in place of earlier ones."""
    rows = [(name, found) for name, found in report.items() if isinstance(found, dict)]
    flat = [(n, f) for n, f in rows if "prompt" in f] + [(f"{n}, {b}", f[b]) for n, f in rows if "prompt" not in f for b in f]
    lines = [f"| {n.replace('_', ' ')} | " + " | ".join(
        f"{f[k]['share']:.3f} ({f[k]['low']:.3f} to {f[k]['high']:.3f})" if k in f else "" for k in COLUMNS) + " |" for n, f in flat]
    head = f"\n{report['prompts']} prompts with something that training never saw; in brackets 95 % intervals.\n\n"
    head += "| | object | background | nothing else | prompt |\n|---|---|---|---|---|\n"
    path.write_text(path.read_text().split(SCORE)[0].rstrip() + "\n" + SCORE + head + "\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=recipes.RECIPES, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--folder", type=Path, help="an exported model; without one, the ceiling alone is measured")
    parser.add_argument("--version-1", type=Path)
    parser.add_argument("--prompts", type=int)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--to", type=Path, help="where evaluation.json goes (default: the folder, else the run)")
    parser.add_argument("--data")
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    studio = Studio(args.recipe, args.out, args.data, args.device, args.threads)
    count, bench = args.prompts or studio.recipe["prompts"], Bench(studio)
    drawn, texts = heldout_prompts(studio.book, count)
    folder = imported.Folder(args.folder).to(studio.device) if args.folder else None
    report = dict(prompts=count, recipe=studio.name, ceiling=bench.ceiling(
        drawn, texts, folder.config["image_size"] if folder else studio.largest))
    line("ceiling", report["ceiling"])
    for steps in args.steps if folder else []:
        report[f"steps_{steps}"] = bench.model(folder, drawn, texts, steps)
        line(f"{steps} steps", report[f"steps_{steps}"])
    if args.version_1 and folder:
        few = min(count, 500)
        for name, one in (("version 1", imported.Folder(args.version_1).to(studio.device)), ("this", folder)):
            report[f"grammar_1 {name}"] = bench.grammar_1(one, few, 4)
            for by in ("by_colour", "by_judge"):
                line(f"{name}, its grammar {by}", report[f"grammar_1 {name}"][by])
    to = (args.to or args.folder or Path(args.out)) / "evaluation.json"
    to.write_text(json.dumps(report, indent=1))
    if folder:
        into_readme(args.folder / "README.md", report)
    say(f"written: {to}")


if __name__ == "__main__":
    main()
