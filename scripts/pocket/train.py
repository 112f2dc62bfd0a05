#!/usr/bin/env python3
"""Trains the pocket models, a phase at a time; a phase that was interrupted goes on, one that is done says so.

    python train.py PHASE --recipe gpu|cpu|smoke --out DIR [--family flux|sd3] [--minutes N]

    autoencoder   pictures to latents and back; both families share it
    decoder       the autoencoder's decoder goes on alone; latents stay as they are
    judge         the classifier of the evaluation, on real pictures after the autoencoder
    text          the encoders learn what a caption says, by classification
    flow          the transformer learns the velocity from noise to latents, the encoders go along slowly
    straighten    pairs of noise and a guided 24-step sample; the model learns the straight way between them
"""

import argparse
import importlib

import recipe

PHASES = ("autoencoder", "decoder", "judge", "text", "flow", "straighten")


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=PHASES)
    parser.add_argument("--recipe", choices=recipe.RECIPES, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--family", choices=recipe.FAMILIES, default="flux")
    parser.add_argument("--minutes", type=float, help="of the phase, over all its runs (default: the recipe's)")
    parser.add_argument("--pause", type=float, default=1e9, help="stop after so many minutes of this run, to go on later")
    parser.add_argument("--data")
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = arguments()
    # only here: the processes that draw scenes import this file again and need no torch
    keeping, phase = importlib.import_module("keeping"), importlib.import_module(f"phase_{args.phase}")
    from studio import Studio, say

    keeping.Budget.pause = args.pause * 60
    studio = Studio(args.recipe, args.out, args.data, args.device, args.threads, args.seed)
    minutes = args.minutes or studio.recipe["minutes"][args.phase]
    say(f"{args.phase} of {args.family}, {minutes:g} minutes, on {studio.device}, {len(studio.book.concepts)} concepts")
    phase.run(studio, args.family, minutes)


if __name__ == "__main__":
    main()
