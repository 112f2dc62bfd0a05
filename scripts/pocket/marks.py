"""Marks: what of a caption a picture shows, and how sure the share of it is."""

import math
from collections import Counter

import torch

import judge
import scenes
import words

BORDER, APART, STRAY = 5, 0.30, 0.012  # pixels; distance of a colour from the background; share of the picture


def interval(right, count, z=1.96):
    """Wilson's 95 % interval of a share."""
    if count == 0:
        return 0.0, 1.0
    p, square = right / count, z * z / count
    middle, half = p + square / 2, z * math.sqrt(p * (1 - p) / count + square / (4 * count))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def share(flags):
    """A share with its interval and count, as it is written down."""
    flags = [bool(f) for f in flags]
    low, high = interval(sum(flags), len(flags))
    return dict(share=round(sum(flags) / max(1, len(flags)), 4), low=round(low, 4), high=round(high, 4), of=len(flags))


def border(pictures):
    """The median colour of each picture's border, in [0, 1]."""
    side, b = pictures.shape[-1], BORDER
    frame = torch.ones(side, side, dtype=torch.bool, device=pictures.device)
    frame[b:side - b, b:side - b] = False
    return (pictures[:, :, frame] / 2 + 0.5).median(-1).values


def nearest(colours):
    """Indices of the named colours nearest to some (n, 3) in [0, 1]."""
    named = torch.tensor(list(words.COLOURS.values()), device=colours.device) / 255
    return torch.cdist(colours, named).argmin(1)


def strays(pictures, base, rows):
    """Share of each picture that is no background and lies outside of every region that the caption implies."""
    away = ((pictures / 2 + 0.5) - base[:, :, None, None]).abs().amax(1) > APART
    side = pictures.shape[-1]
    axis = (torch.arange(side, device=pictures.device) + 0.5) / side * 2 - 1
    owner, _, place, _, _ = judge.regions(rows)
    reach = place[:, 2, None] * judge.REACH + 0.02
    inside = ((axis - place[:, 1, None]).abs() < reach)[:, :, None] & ((axis - place[:, 0, None]).abs() < reach)[:, None, :]
    covered = torch.zeros_like(away)
    for i, o in enumerate(owner.tolist()):
        covered[o] |= inside[i]
    return (away & ~covered).float().mean((1, 2))


@torch.no_grad()
def mark(model, pictures, rows):
    """For each picture: is the background right, each object right, anything there that nobody asked for."""
    pictures = judge.at_side(pictures)
    base = border(pictures)
    ground = nearest(base) == rows["ground"][:, 0].long()
    owner, _, place, kind, tint = judge.regions(rows)
    kinds, tints = model(judge.crops(pictures, owner, place))
    shape = tint < len(words.COLOURS)
    named = kinds.argmax(1)
    right = (named == kind) & (~shape | (tints.argmax(1) == tint))
    extra = strays(pictures, base, rows) > STRAY
    result = [dict(ground=bool(g), extra=bool(e), objects=[], mistaken=[]) for g, e in zip(ground, extra)]
    for o, r, asked, said in zip(owner.tolist(), right.tolist(), kind.tolist(), named.tolist()):
        result[o]["objects"].append(r)
        if asked != said:
            result[o]["mistaken"].append((asked, said))
    for r in result:
        r["whole"] = r["ground"] and not r["extra"] and all(r["objects"])
    return result


def table(results, drawn):
    """Shares over all prompts and by layout."""
    objects = [o for r in results for o in r["objects"]]
    kinds = {}
    for r, scene in zip(results, drawn):
        kinds.setdefault(scene.layout, []).append(r["whole"])
    return dict(object=share(objects), background=share([r["ground"] for r in results]),
                nothing_else=share([not r["extra"] for r in results]), prompt=share([r["whole"] for r in results]),
                by_layout={k: share(kinds[k]) for k in scenes.NAMES if k in kinds})


def mistakes(results, names, most=12):
    """What was taken for what, the most frequent first."""
    counts = Counter(pair for r in results for pair in r["mistaken"])
    return {f"{names[asked]} taken for {names[said]}": n for (asked, said), n in counts.most_common(most)}


HALVES = {"left": (slice(None), 0), "right": (slice(None), 1), "top": (0, slice(None)), "bottom": (1, slice(None))}


def by_colour(pictures, drawn):
    """Version 1's own score: the corner has the background's colour, and each object's colour fills more than 3 % of
    the half of the picture in which it was asked for."""
    named = torch.tensor(list(words.COLOURS.values()), device=pictures.device) / 127.5 - 1
    grounds, colours, whole = [], [], []
    for picture, scene in zip(pictures, drawn):
        near = torch.cdist(picture.flatten(1).T, named).argmin(1).view(picture.shape[1:])
        half = near.shape[0] // 2
        quarters = near.view(2, half, 2, half)
        corner = near[3:6, 3:6].flatten().mode().values.item()
        found = []
        for noun, label in zip(scene.nouns, scenes.LAYOUTS[scene.layout].labels):
            where = HALVES.get(label)
            part = near if where is None else quarters[where[0]] if where[1] == slice(None) else quarters[:, :, where[1]]
            found.append((part == noun.colour).float().mean().item() > 0.03)
        grounds.append(corner == scene.background)
        colours += found
        whole.append(all(found))
    return dict(object=share(colours), background=share(grounds), prompt=share(whole))
