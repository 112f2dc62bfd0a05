"""The judge: a small network that names what stands in a region of a picture. It learns from real pictures that went
through the autoencoder, blurred and noisy, so that it judges drawings and not the decoder's habits.
"""

import torch
import torch.nn.functional as F
from torch import nn

import scenes
import words

SIDE, CROP, REACH = 128, 48, 1.15  # pictures are judged at 128; a region reaches a little beyond the object


class Judge(nn.Module):
    """A crop's kind (the last class: nothing) and its tint (the last: its own colours)."""

    def __init__(self, kinds, width=32):
        super().__init__()
        widths = [width, 2 * width, 3 * width, 4 * width]
        layers, last = [], 3
        for w in widths:
            layers += [nn.Conv2d(last, w, 3, 2, 1), nn.GroupNorm(8, w), nn.SiLU(),
                       nn.Conv2d(w, w, 3, 1, 1), nn.GroupNorm(8, w), nn.SiLU()]
            last = w
        self.body = nn.Sequential(*layers)
        self.drop = nn.Dropout(0.1)
        self.kind = nn.Linear(2 * last, kinds + 1)
        self.tint = nn.Linear(2 * last, len(words.COLOURS) + 1)

    def forward(self, crops):
        x = self.body(crops)
        x = self.drop(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))
        return self.kind(x), self.tint(x)


def at_side(pictures):
    """Pictures at the size at which they are judged."""
    size = pictures.shape[-1]
    if size == SIDE:
        return pictures
    return F.interpolate(pictures, (SIDE, SIDE), mode="bilinear", antialias=size > SIDE, align_corners=False)


def crops(pictures, owner, place):
    """Regions (x, y, half side) of pictures[owner], each CROP x CROP; beyond the border the border goes on."""
    axis = (torch.arange(CROP, device=pictures.device) + 0.5) / CROP * 2 - 1
    reach = place[:, 2, None] * REACH
    gx, gy = place[:, 0, None] + axis * reach, place[:, 1, None] + axis * reach
    grid = torch.stack([gx[:, None, :].expand(-1, CROP, -1), gy[:, :, None].expand(-1, -1, CROP)], -1)
    return F.grid_sample(pictures[owner], grid, padding_mode="border", align_corners=False)


def regions(rows):
    """Owner, place, kind and tint of every object of rows."""
    kind, colour = rows["kind"].long(), rows["colour"].long()
    place = rows["place"].view(len(kind), scenes.MOST, 3)
    owner, slot = (kind >= 0).nonzero(as_tuple=True)
    tint = colour[owner, slot]
    return owner, slot, place[owner, slot], kind[owner, slot], torch.where(tint < 0, len(words.COLOURS), tint)


def spoil(pictures, generator=None):
    """Blur of up to 1.3 pixels and noise of up to 6 %."""
    device = pictures.device
    sigma = torch.rand(1, device=device, generator=generator).item() * 1.3
    if sigma > 0.3:
        axis = torch.arange(-3, 4, device=device, dtype=torch.float32)
        kernel = torch.exp(-axis**2 / (2 * sigma**2))
        kernel = (kernel / kernel.sum()).expand(3, 1, 1, 7)
        pictures = F.conv2d(F.pad(pictures, (3, 3, 3, 3), "replicate"), kernel.contiguous(), groups=3)
        pictures = F.conv2d(pictures, kernel.transpose(2, 3).contiguous(), groups=3)
    amount = torch.rand(len(pictures), 1, 1, 1, device=device, generator=generator) * 0.06 * 2
    return pictures + amount * torch.randn(pictures.shape, device=device, generator=generator)


@torch.no_grad()
def stage(painter, rows, round_trip, missing=0.06):
    """Pictures of rows without some of their objects, and which of them are gone: (batch, most)."""
    gone = torch.rand(rows["kind"].shape, device=rows["kind"].device) < missing
    pictures = painter.paint(dict(rows, kind=torch.where(gone, -1, rows["kind"])))
    return at_side(round_trip(pictures) if round_trip else pictures), gone


@torch.no_grad()
def lesson(pictures, rows, gone):
    """Crops of spoilt pictures with their kinds and tints: the places of objects that are gone are called nothing."""
    owner, slot, place, kind, tint = regions(rows)
    gone = gone[owner, slot]
    kind = torch.where(gone, -1, kind)
    tint = torch.where(gone, len(words.COLOURS), tint)
    wiggle = 1 + (torch.rand(len(place), 1, device=place.device) - 0.5) * 0.1
    return crops(spoil(pictures), owner, torch.cat([place[:, :2], place[:, 2:] * wiggle], 1)), kind, tint


def loss(judge, crops_, kind, tint):
    """Both cross entropies; the last class of kinds is nothing."""
    kinds, tints = judge(crops_)
    kind = torch.where(kind < 0, kinds.shape[1] - 1, kind)
    return F.cross_entropy(kinds.float(), kind, label_smoothing=0.02) + 0.5 * F.cross_entropy(tints.float(), tint)
