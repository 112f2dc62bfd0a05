#!/usr/bin/env python3
"""Drops concepts that look like another one: trains the judge on real pictures of all candidates and reads its mistakes.

    python prune.py [--minutes 6] [--limit 0.04]

Writes confusable.txt, one `dropped ~ kept` a line. Of a pair that is taken for one another in more than `limit` of the
crops (both ways together, small objects included), the one that stands later in concepts.txt goes.
"""

import argparse
from pathlib import Path

import torch

import atlas
import bank
import concepts
import judge
import keeping
import painter
from studio import say


def lesson(easel, rows, **options):
    """A lesson on pictures as they were composed."""
    pictures, gone = judge.stage(easel, rows, None, **options)
    return judge.lesson(pictures, rows, gone)


def learn(args, book, sprites):
    """A judge of all candidates, from pictures without an autoencoder."""
    easel = painter.Painter(sprites, judge.SIDE, args.device)
    model = judge.Judge(book.kinds, args.width).to(args.device)
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    rows = painter.to_torch(bank.make(book, 60_000, 77, args.processes, shapes=0.03))
    budget, step = keeping.Budget(args.minutes), 0
    while budget.left():
        batch = {k: v.to(args.device) for k, v in painter.take(rows, torch.randint(0, 60_000, (args.batch,))).items()}
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * budget.rate(step)
        with torch.autocast(args.device, torch.bfloat16):
            cost = judge.loss(model, *lesson(easel, batch))
        optimiser.zero_grad()
        cost.backward()
        optimiser.step()
        step += 1
        if step % 50 == 0:
            say("judge", step, f"loss {cost.item():.3f}")
    return model.eval(), easel


@torch.no_grad()
def mistakes(model, easel, book, args, rounds):
    """Share of the crops of each kind (row) that were called each kind (column), on scenes it did not train on."""
    counts = torch.zeros(book.kinds, book.kinds + 1)
    rows = painter.to_torch(bank.make(book, rounds * 256, 78, args.processes, shapes=0.03))
    for start in range(0, rounds * 256, 64):
        batch = {k: v[start:start + 64].to(args.device) for k, v in rows.items()}
        crops, kind, _ = lesson(easel, batch, missing=0.0)
        said = model(crops)[0].argmax(1)
        counts.index_put_((kind.cpu(), said.cpu()), torch.ones(len(kind)), accumulate=True)
    say(f"right: {counts.diagonal().sum() / counts.sum():.4f} of {int(counts.sum())} crops")
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def drop(book, shares, limit):
    """(dropped, kept) by the share of mistakes, the earlier concept staying."""
    n, gone = len(book.concepts), {}
    both = shares[:n, :n] + shares[:n, :n].T
    for late in range(n):
        for early in range(late):
            if book.name(early) not in gone and both[late, early] > limit:
                gone[book.name(late)] = book.name(early)
                break
    return gone


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--limit", type=float, default=0.04)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--concepts", type=int, default=0, help="look at the first N candidates only")
    parser.add_argument("--styles", type=int, default=3)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", type=Path, default=concepts.HERE / "data")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(5)
    book = concepts.Book(concepts.candidates()[: args.concepts or None], styles=args.styles)
    sprites, _, _ = atlas.load(args.data, book)
    model, easel = learn(args, book, sprites)
    gone = drop(book, mistakes(model, easel, book, args, args.rounds), args.limit)
    head = "# Written by prune.py: what a classifier takes for something that stands earlier in concepts.txt.\n"
    text = "".join(f"{late} ~ {early}\n" for late, early in gone.items())
    (concepts.HERE / "confusable.txt").write_text(head + text)
    say(f"dropped {len(gone)} of {len(book.concepts)}: {gone}")


if __name__ == "__main__":
    main()
