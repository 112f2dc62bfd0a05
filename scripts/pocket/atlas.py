#!/usr/bin/env python3
"""The atlas: every candidate in three openly licensed emoji sets, rasterised once.

    python atlas.py [--data DIR]

Fetches four pinned npm packages with `npm pack`, draws each concept of concepts.txt at 128x128 (premultiplied RGBA, a
margin of 4) with resvg, and version 1's shapes as white masks that the painter tints. Writes atlas.npz and atlas.json
(names, groups, tags, sources, licences). What is there already is not done again.
"""

import argparse
import io
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np

import concepts
import words

SIDE, MARGIN = 128, 4
SETS = [  # in the order of words.STYLES
    dict(package="@iconify-json/fluent-emoji-flat", version="1.2.6", style="flat", title="Fluent Emoji Flat",
         licence="MIT", author="Microsoft Corporation", home="https://github.com/microsoft/fluentui-emoji"),
    dict(package="@iconify-json/noto", version="1.2.9", style="soft", title="Noto Emoji",
         licence="Apache-2.0", author="Google Inc", home="https://github.com/googlefonts/noto-emoji"),
    dict(package="@iconify-json/twemoji", version="1.2.5", style="classic", title="Twitter Emoji (Twemoji)",
         licence="CC-BY-4.0", author="Twitter, Inc and other contributors", home="https://github.com/twitter/twemoji"),
]
LABELS = dict(package="emojibase-data", version="17.0.0", title="emojibase-data", licence="MIT", author="Miles Johnson",
              home="https://github.com/milesj/emojibase")

POINTS = "64,6 78.5,46 121,47.5 87.5,73.5 99.8,114.5 64,90.5 28.2,114.5 40.5,73.5 7,47.5 49.5,46"
SHAPES = {
    "circle": '<circle cx="64" cy="64" r="58"/>',
    "square": '<rect x="14" y="14" width="100" height="100"/>',
    "triangle": '<polygon points="64,10 122,112 6,112"/>',
    "ring": '<circle cx="64" cy="64" r="43" fill="none" stroke="#fff" stroke-width="30"/>',
    "star": f'<polygon points="{POINTS}"/>',
    "heart": '<path d="M64 116 C20 82 6 62 6 40 C6 20 20 10 36 10 C49 10 59 17 64 29 C69 17 79 10 92 10 C108 10 122 20 122 40 '
             'C122 62 108 82 64 116 Z"/>',
    "diamond": '<polygon points="64,4 114,64 64,124 14,64"/>',
    "cross": '<path d="M46 6 H82 V46 H122 V82 H82 V122 H46 V82 H6 V46 H46 Z"/>',
}


def fetch(folder, source):
    """The package's files, by path inside it; downloaded once."""
    folder.mkdir(parents=True, exist_ok=True)
    name = source["package"].lstrip("@").replace("/", "-") + f"-{source['version']}.tgz"
    path = folder / name
    if not path.exists():
        spec = f"{source['package']}@{source['version']}"
        subprocess.run(["npm", "pack", "--silent", spec], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return tarfile.open(path)


def read_json(archive, path):
    """A JSON file of a package."""
    return json.load(archive.extractfile(f"package/{path}"))


class IconSet:
    """One set's pictures by code point."""

    def __init__(self, archive):
        self.icons, self.chars = read_json(archive, "icons.json"), read_json(archive, "chars.json")

    def svg(self, code):
        """A whole SVG for a code point, or None. Some sets spell the code with its variation selector."""
        name = next((self.chars[c] for c in (code, f"{code}-fe0f") if c in self.chars), None)
        name = self.icons.get("aliases", {}).get(name, {}).get("parent", name)
        icon = self.icons["icons"].get(name)
        if icon is None:
            return None
        width, height = (icon.get(k, self.icons.get(k, 16)) for k in ("width", "height"))
        left, top = icon.get("left", 0), icon.get("top", 0)
        space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        return f'<svg {space} viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'


def rasterise(svg):
    """A sprite: premultiplied RGBA bytes, side x side x 4."""
    import resvg_py
    from PIL import Image

    inner = SIDE - 2 * MARGIN
    png = resvg_py.svg_to_bytes(svg_string=svg, width=inner, height=inner, skip_system_fonts=True)
    straight = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"), np.float32)
    sprite = np.zeros((SIDE, SIDE, 4), np.uint8)
    h, w = straight.shape[:2]
    alpha = straight[..., 3:] / 255
    y, x = (SIDE - h) // 2, (SIDE - w) // 2
    sprite[y:y + h, x:x + w] = np.concatenate([straight[..., :3] * alpha, straight[..., 3:]], -1).round()
    return sprite


def shape(name):
    """A white mask of one of version 1's shapes."""
    return rasterise(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128" fill="#fff">{SHAPES[name]}</svg>')


def described(archive):
    """Label, group and tags of every code point."""
    groups = read_json(archive, "meta/groups.json")["groups"]
    facts = {}
    for entry in read_json(archive, "en/data.json"):
        code = "-".join(c for c in entry["hexcode"].lower().split("-") if c != "fe0f")
        group = groups.get(str(entry.get("group")), "other")
        facts[code] = dict(label=entry["label"], group=group, tags=entry.get("tags", []))
    return facts


THINGS = ("animals-nature", "food-drink", "travel-places", "activities", "objects")


def spoken(facts):
    """{thing: words said of it} of every emoji of a thing, and of people by what they do (an astronaut)."""
    words_of = {}
    for code, fact in facts.items():
        named = fact["label"].lower().replace(" face", "").split()
        if fact["group"] in THINGS or ("-200d-" in code and len(named) == 1):
            said = words_of.setdefault(named[-1], set())
            said.update(w for text in (fact["label"], *fact["tags"]) for w in text.lower().split())
    return {thing: sorted(words_of[thing]) for thing in sorted(words_of)}


def build(folder):
    """Draws everything and writes both files."""
    sets = [IconSet(fetch(folder / "packages", s)) for s in SETS]
    facts = described(fetch(folder / "packages", LABELS))
    sprites, entries, missing = [], [], []
    for concept in concepts.candidates():
        svgs = [s.svg(concept.code) for s in sets]
        if None in svgs or concept.code not in facts:
            missing.append(concept.name)
            continue
        sprites.append(np.stack([rasterise(svg) for svg in svgs]))
        entries.append(dict(name=concept.name, code=concept.code, sign=concept.sign, **facts[concept.code]))
    shapes = np.stack([shape(name) for name in words.SHAPES])
    np.savez_compressed(folder / "atlas.npz", sprites=np.stack(sprites), shapes=shapes)
    about = dict(side=SIDE, entries=entries, missing=missing, sources=[*SETS, LABELS], spoken=spoken(facts))
    (folder / "atlas.json").write_text(json.dumps(about, ensure_ascii=False, indent=1))
    size = (folder / "atlas.npz").stat().st_size
    print(f"atlas: {len(entries)} things in {len(SETS)} styles, {size / 1e6:.1f} MB; not in every set: {missing or 'none'}")
    assert size <= 25_000_000, "the atlas must stay below 25 MB to travel"


def load(folder, book):
    """Sprites (style, kind, side, side, RGBA) of a book's kinds, the entries of its concepts, and the whole atlas.json."""
    about = json.loads((Path(folder) / "atlas.json").read_text())
    place = {e["name"]: i for i, e in enumerate(about["entries"])}
    absent = [c.name for c in book.concepts if c.name not in place]
    assert not absent, f"the atlas lacks {absent}: remove them from concepts.txt"
    chosen = [place[c.name] for c in book.concepts]
    with np.load(Path(folder) / "atlas.npz") as file:
        things = file["sprites"][chosen][:, : book.styles].swapaxes(0, 1)
        shapes = np.broadcast_to(file["shapes"], (book.styles, *file["shapes"].shape))
        return np.concatenate([things, shapes], 1), [about["entries"][i] for i in chosen], about


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=concepts.HERE / "data")
    folder = parser.parse_args().data
    if (folder / "atlas.npz").exists() and (folder / "atlas.json").exists():
        print(f"atlas: {folder} has it already")
        return
    folder.mkdir(parents=True, exist_ok=True)
    build(folder)


if __name__ == "__main__":
    main()
