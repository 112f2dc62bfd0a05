#!/usr/bin/env python3
"""Packs a run into few small files, for a machine that gives little back, and unpacks them where training goes on.

    python luggage.py pack   --out RUN --to DIR [--family flux sd3]
    python luggage.py unpack --out RUN --from DIR

Kept: the autoencoder and the judge in f16, each family's averaged weights in bf16 (of the flow beside straightened ones:
in bytes, a scale a row) with the minutes it was trained. Optimisers are left behind: training goes on with fresh moments.
Every part is at most 15 MiB: part.00, part.01, ...
"""

import argparse
import io
from pathlib import Path

import torch

import keeping
import recipe as recipes

PART = 15 << 20
STATES = ("text.pt", "flow.pt", "straight.pt")


def _cast(value, kind):
    """A tensor, or the tensors of a list or dictionary, as another type; the rest as it is."""
    if isinstance(value, dict):
        return {k: _cast(v, kind) for k, v in value.items()}
    if isinstance(value, list):
        return [_cast(v, kind) for v in value]
    return value.to(kind).clone() if torch.is_tensor(value) and value.is_floating_point() else value


def _to_bytes(weight):
    """A matrix in bytes with a scale a row; anything else in bf16."""
    if weight.ndim != 2:
        return weight.bfloat16()
    scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-8) / 127
    return dict(bytes=(weight / scale).round().to(torch.int8), scale=scale)


def _from_bytes(weight):
    """The weight again, in f32."""
    return weight["bytes"].float() * weight["scale"].float() if isinstance(weight, dict) else weight.float()


def _light(state, names, small=False):
    """A checkpoint with its averaged weights alone, under their names."""
    kept = {k: v for k, v in state.items() if k in ("step", "seen", "spent", "facts", "width", "taught")}
    if "average" not in state:
        return dict(kept, model=_cast(state["model"], torch.float16))
    buffers = {k: v for k, v in state["model"].items() if k not in names}
    return dict(kept, buffers=buffers, average=[_to_bytes(w) if small else w.bfloat16() for w in state["average"]])


def _names(studio, family):
    """Names of a family's parameters in order."""
    import models

    return [n for n, _ in models.build(family, studio.recipe, studio.book).named_parameters()]


def pack(studio, families, to, shared=True):
    """Writes the parts."""
    whole = {}
    for name in ("autoencoder.pt", "judge.pt") if shared else ():
        state = keeping.read(studio.path(name))
        if state:
            whole[name] = _light(state, [])
    for family in families:
        done = [n for n in STATES if studio.path(family, n).exists()][-2:]
        for name in [n for n in done if n != "text.pt"] or done:
            small = name == "flow.pt" and "straight.pt" in done
            whole[f"{family}/{name}"] = _light(keeping.read(studio.path(family, name)), set(_names(studio, family)), small)
    buffer = io.BytesIO()
    torch.save(whole, buffer)
    data = buffer.getvalue()
    to.mkdir(parents=True, exist_ok=True)
    for old in to.glob("part.*"):
        old.unlink()
    for i in range(0, len(data), PART):
        (to / f"part.{i // PART:02}").write_bytes(data[i:i + PART])
    print(f"packed {sorted(whole)}: {len(data):,} bytes in {-(-len(data) // PART)} parts")


def unpack(studio, source):
    """Makes checkpoints of the parts, unless the run has later ones."""
    data = b"".join(p.read_bytes() for p in sorted(source.glob("part.*")))
    whole = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    for name, state in whole.items():
        path = studio.path(name)
        if path.exists():
            print(f"{path} is there already")
            continue
        average = [_from_bytes(w) for w in state.pop("average", [])]
        state = _cast(state, torch.float32)
        if average:
            state["average"] = average
            names = _names(studio, name.split("/")[0])
            state["model"] = {**state.pop("buffers"), **dict(zip(names, state["average"]))}
            state["model"] = _tied(state["model"])
            state["optimisers"] = None
        state.setdefault("optimiser", None)
        state.setdefault("heads", None)
        keeping.write(path, state)
        print(f"unpacked {path}: step {state['step']}")


def _tied(weights):
    """T5's table has two names and is one parameter."""
    for name in [k for k in weights if k.endswith("t5.shared.weight")]:
        weights[name.replace("shared", "encoder.embed_tokens")] = weights[name]
    return weights


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("pack", "unpack"))
    parser.add_argument("--recipe", choices=recipes.RECIPES, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--family", nargs="+", default=["flux", "sd3"], choices=recipes.FAMILIES)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--alone", action="store_true", help="pack the families alone, without autoencoder and judge")
    parser.add_argument("--from", dest="source", type=Path)
    parser.add_argument("--data")
    args = parser.parse_args()
    from studio import Studio

    studio = Studio(args.recipe, args.out, args.data, "cpu", 1)
    if args.verb == "pack":
        pack(studio, args.family, args.to, not args.alone)
    else:
        unpack(studio, args.source)


if __name__ == "__main__":
    main()
