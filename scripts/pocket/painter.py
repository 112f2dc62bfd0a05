"""The painter: composes scenes from the atlas on the device, a batch at a time."""

import torch
import torch.nn.functional as F

import scenes
import words

SHADE = 0.13  # how far a pattern's second colour is from the first: near enough to keep the colour's name


def grounds(size, device):
    """Patterns as masks, one per name: diagonal stripes, dots, checks; the plain one is empty."""
    axis = (torch.arange(size, device=device) + 0.5) / size * 8
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    soft = size / 8  # edges one pixel wide
    stripes = ((((x + y) / 1.4 % 1) - 0.5).abs() - 0.30) * soft
    dots = (0.27 - ((x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2).sqrt()) * soft
    checks = (((x % 2 - 1) * (y % 2 - 1)) > 0).float() - 0.5
    return torch.stack([torch.zeros_like(x), *((m + 0.5).clamp(0, 1) for m in (stripes, dots, checks))])


def mips(sprites):
    """The sprites at their full, half and quarter size: small objects are sampled from small pictures."""
    flat = sprites.permute(0, 3, 1, 2)
    smaller = [torch.cat([F.avg_pool2d(part.float(), k).round().byte() for part in flat.split(64)]) for k in (2, 4)]
    return [flat.contiguous(), *smaller]


class Painter:
    """Pictures in [-1, 1] of banks' rows."""

    def __init__(self, sprites, size, device):
        self.styles, self.kinds, self.side = sprites.shape[:3]
        self.size, self.device = size, device
        flat = torch.from_numpy(sprites.reshape(-1, *sprites.shape[2:]).copy())
        self.levels = [m.to(device) for m in mips(flat)]
        self.masks = grounds(size, device)
        self.colours = torch.tensor(list(words.COLOURS.values()), device=device).float() / 255

    def background(self, ground):
        """Plain and patterned backgrounds of rows (colour, pattern, style)."""
        base = self.colours[ground[:, 0]][:, :, None, None]
        shade = torch.where(base.mean(1, keepdim=True) > 0.25, base * (1 - SHADE), base + SHADE)
        mask = self.masks[ground[:, 1]][:, None]
        return base * (1 - mask) + shade * mask

    def _level(self, place):
        """Which of the three sizes of sprite an object is sampled from."""
        pixels = place[:, 2] * self.size  # its width in the picture
        return (pixels < 0.7 * self.side).long() + (pixels < 0.35 * self.side).long()

    def _window(self, level):
        """Side of a square of pixels that holds any object of a level."""
        widest = self.size if level == 0 else {1: 0.7, 2: 0.35}[level] * self.side
        return min(self.size, int(widest)) + 4

    def objects(self, level, sprite, tint, place):
        """Objects of one level, each in a window of its own: (n, RGBA, w, w) premultiplied, and the windows' corners."""
        window, half = self._window(level), self.size / 2
        centre = (place[:, :2] + 1) * half
        corner = (centre - window / 2).round()
        pixels = corner[:, :, None] + torch.arange(window, device=self.device) + 0.5
        inner = (pixels - centre[:, :, None]) / (place[:, 2, None, None] * half)
        gx, gy = inner[:, 0], inner[:, 1]
        grid = torch.stack([gx[:, None, :].expand(-1, window, -1), gy[:, :, None].expand(-1, -1, window)], -1)
        drawn = F.grid_sample(self.levels[level][sprite].float() / 255, grid, mode="bilinear", align_corners=False)
        return torch.cat([drawn[:, :3] * tint[:, :, None, None], drawn[:, 3:]], 1), corner.long()

    def _stamp(self, picture, margin, owner, drawn, corner):
        """Lays windows over their pictures (batch, size, size, 3), which have a margin for windows that hang over."""
        window = torch.arange(drawn.shape[-1], device=self.device)
        columns, rows = (corner[:, i, None] + margin + window for i in (0, 1))
        index = owner[:, None, None], rows[:, :, None], columns[:, None, :]
        drawn = drawn.permute(0, 2, 3, 1)
        picture[index] = picture[index] * (1 - drawn[..., 3:]) + drawn[..., :3]

    @torch.no_grad()
    def paint(self, rows, generator=None, jitter=True):
        """Pictures of rows of a bank: (batch, 3, size, size)."""
        ground, kind, colour = (rows[k].to(self.device).long() for k in ("ground", "kind", "colour"))
        place = rows["place"].to(self.device).view(len(kind), scenes.MOST, 3).clone()
        if jitter:
            noise = torch.rand(place.shape, device=self.device, generator=generator) * 2 - 1
            place[..., :2] += noise[..., :2] * scenes.JITTER
            place[..., 2] *= 1 + noise[..., 2] * scenes.JITTER
        margin = self.size // 2 + 8
        picture = F.pad(self.background(ground), (margin,) * 4).permute(0, 2, 3, 1).contiguous()
        sprite = ground[:, 2, None] * self.kinds + kind
        white = torch.ones(3, device=self.device)
        tint = torch.where(colour[..., None] >= 0, self.colours[colour.clamp(min=0)], white)
        for slot in range(scenes.MOST):
            level = torch.where(kind[:, slot] >= 0, self._level(place[:, slot]), -1)
            for size in range(3):
                owner = (level == size).nonzero()[:, 0]
                if len(owner):
                    drawn = self.objects(size, sprite[owner, slot], tint[owner, slot], place[owner, slot])
                    self._stamp(picture, margin, owner, *drawn)
        inner = slice(margin, margin + self.size)
        return picture[:, inner, inner].permute(0, 3, 1, 2).contiguous() * 2 - 1


def to_torch(bank):
    """A bank's arrays as tensors."""
    return {k: torch.from_numpy(v) for k, v in bank.items()}


def take(bank, index):
    """Rows of a bank."""
    return {k: v[index] for k, v in bank.items()}


def save_sheet(pictures, path, columns=8):
    """Writes pictures in [-1, 1] as one PNG, row by row."""
    from PIL import Image

    pictures = pictures.cpu()
    gap = (-len(pictures)) % columns
    if gap:
        pictures = torch.cat([pictures, torch.ones(gap, *pictures.shape[1:])])
    rows = [torch.cat(list(pictures[i:i + columns]), 2) for i in range(0, len(pictures), columns)]
    pixels = ((torch.cat(rows, 1) / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    Image.fromarray(pixels.numpy()).save(path)
