#!/usr/bin/env python3
"""The contact sheet: 32 prompts of a folder in 4 steps, one seed, none left out.

    python sheet.py --folder FOLDER --to sheet.png [--seed 1] [--steps 4]

Prompts with words that the model does not know give way to simpler ones. The prompts are written beside the picture.
"""

import argparse
from pathlib import Path

import imported
import painter

PROMPTS = """
a fox left of a slice of pizza on a yellow background
a slice of pizza left of a fox on a yellow background
a cat above a rocket on a blue background
a big frog on a pink background
three apples on a white background
an owl between a cactus and a car on an orange background
a small panda below a banana on a striped green background
five strawberries on a checkered pink background
a red circle left of a blue square on a white background
a penguin to the right of an umbrella on a purple background
two bees on a blue background
a house below a rainbow on a white background
a lion in soft style on a green background
a turtle in classic style on a yellow background
a small mushroom above a big watermelon on a gray background
four balloons on a dotted blue background
a guitar and a donut on a black background
a ghost on a black background
a butterfly over a sunflower on a green background
a robot left of a crown on a red background
a whale under a sailboat on a striped blue background
a burger between a carrot and a pig on a yellow background
an airplane above a tree on a white background
a purple heart right of a yellow star on a black background
an octopus next to a fish on an orange background
a big green triangle on a pink background
a rose above a key and a gift on a gray background
an elephant below a moon and a cloud on a purple background
three small ducks on a yellow background
a pumpkin left of a lemon on a black background
a bicycle on a dotted red background
a dog beneath an icecream on a white background
""".strip().splitlines()
SPARE = ["a big fox on a white background", "two cats on a blue background", "a pizza above a car on a gray background",
         "a cactus right of a fish on a pink background"]


def known(folder, texts):
    """The prompts with every unknown one replaced."""
    spare = iter(SPARE * 8)
    return [t if 2 not in folder.ids.encode(t).ids else next(spare) for t in texts]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    folder = imported.Folder(args.folder)
    texts = known(folder, PROMPTS)
    painter.save_sheet(folder.draw(texts, args.steps, args.seed, batch=8), args.to)
    numbered = "".join(f"{i // 8 + 1}.{i % 8 + 1} {t}\n" for i, t in enumerate(texts))
    args.to.with_suffix(".txt").write_text(f"row.column, {args.steps} steps, seed {args.seed}\n{numbered}")
    print(f"sheet: {args.to}")


if __name__ == "__main__":
    main()
