#!/usr/bin/env python3
"""Writes a trained model as a folder that a worker reads: original layouts in f16, config.json, tokenizers, a README.

    python export.py --recipe gpu --out RUN --family flux --to FOLDER [--q8]

Takes the straightened weights where there are any. `--q8` writes the transformer as GGUF with matrices in blocks of
8 bits (the 13.5 M values of the large one do not fit into 24 MB otherwise). Then reads everything back through diffusers'
own converters (`imported.py`) and compares.
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

import imported
import layouts
import models
import near
import phase_autoencoder
import phase_flow
import recipe as recipes
import tokenizer
import words
from studio import Studio, say

TRANSFORMER = {"flux": "flux1-schnell", "sd3": "sd3.5_large_turbo"}


def halves(tensors):
    """As stored: f16, contiguous, on the processor."""
    return {k: v.detach().cpu().half().contiguous() for k, v in tensors.items()}


def save(tensors, path):
    """A safetensors file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(halves(tensors), path)


def save_q8(tensors, path):
    """A GGUF file: matrices whose rows are whole blocks in q8_0, vectors in f32, the rest in f16."""
    import gguf

    writer = gguf.GGUFWriter(path, "flux")
    for name, tensor in tensors.items():
        array = tensor.detach().cpu().float().numpy()
        if array.ndim == 2 and array.shape[1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array if array.ndim == 1 else array.astype("float16"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def families_parts(family, model, autoencoder, levels):
    """File names and their tensors."""
    if family == "flux":
        return {"flux1-schnell.safetensors": layouts.flux(model.net.state_dict()),
                "ae.safetensors": layouts.autoencoder(autoencoder.state_dict(), levels),
                "t5.safetensors": layouts.t5(model.t5.state_dict()),
                "clip_l.safetensors": layouts.clip(model.clip.state_dict())}
    one = layouts.mmdit(model.net.state_dict())
    one.update(layouts.autoencoder(autoencoder.state_dict(), levels, "first_stage_model."))
    return {"sd3.5_large_turbo.safetensors": one, "t5xxl.safetensors": layouts.t5(model.t5.state_dict()),
            "text_encoders/clip_l.safetensors": layouts.clip(model.clip_l.state_dict()),
            "text_encoders/clip_g.safetensors": layouts.clip(model.clip_g.state_dict())}


GROUPS = {"animals-nature": "animals and plants", "food-drink": "food", "travel-places": "sky, places, vehicles",
          "activities": "play", "objects": "objects", "people-body": "faces", "smileys-emotion": "faces"}


def known(studio):
    """What the model can draw, by group, and which of it other words are near to."""
    groups, book = {}, studio.book
    for concept, entry in zip(book.concepts, studio.entries):
        groups.setdefault(GROUPS.get(entry["group"], "more"), []).append(concept.name)
    groups["shapes in a colour"] = words.SHAPES
    groups["colours"] = list(words.COLOURS)
    groups["sizes"] = words.SIZES[1:]
    groups["numbers"] = words.COUNTS[2:]
    groups["places"] = ["left of", "right of", "above", "below", "between", "next to"]
    groups["backgrounds"] = ["plain", *words.PATTERNS[1:]]
    groups["styles"] = words.STYLES[: book.styles]
    nearest = near.table(book, studio.entries, studio.about["spoken"]) | near.synonyms(book)
    return dict(groups=[dict(name=n, things=t) for n, t in groups.items()], near=dict(sorted(nearest.items())))


def preview(facts):
    """Red, green and blue of a picture's squares from its latents, the first three of which are just that."""
    weights = [[(1 / facts["scale"]) * (channel == colour) for colour in range(3)] for channel in range(models.LATENT_CHANNELS)]
    return dict(weights=weights, bias=[facts["shift"]] * 3)


def configuration(studio, family, facts, seen):
    """config.json: every size, the vocabulary, the sources of the pictures."""
    r, book = studio.recipe, studio.book
    sizes = r[family]
    clip = dict(max_position_embeddings=book.length, bos=book.bos, eos=book.eos, pad=book.eos)
    config = dict(family=family, image_size=sizes["size"], steps=recipes.STEPS,
                  latent=dict(channels=16, scale_factor=facts["scale"], shift_factor=facts["shift"]), preview=preview(facts),
                  transformer=sizes["transformer"], autoencoder=r["autoencoder"],
                  t5=dict(sizes["t5"], vocab_size=book.embedding_rows, length=book.length))
    for name in ("clip", "clip_l", "clip_g"):
        if name in sizes:
            config[name] = dict(sizes[name], **(dict(clip, pad=0) if name == "clip_g" else clip))
    ordered = sorted(book.ids, key=book.ids.get)
    return dict(config, licence="MIT OR Apache-2.0", words=ordered, vocabulary=known(studio), recipe=studio.name, samples_seen=seen,
                attribution=[{k: s[k] for k in ("title", "author", "licence", "home")} for s in used(studio)])


def used(studio):
    """Sources whose pictures or words are in this model."""
    return [s for s in studio.about["sources"] if s.get("style") in (None, *words.STYLES[: studio.book.styles])]


def readme(studio, family, folder, config):
    """What the folder holds, where it comes from, and whom to thank."""
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    groups = "\n".join(f"- {g['name']}: {', '.join(g['things'])}" for g in config["vocabulary"]["groups"])
    thanks = "\n".join(f"- {s['title']}, {s['author']}, {s['licence']}: {s['home']}" for s in config["attribution"])
    files = "\n".join(f"- `{f.relative_to(folder)}` {f.stat().st_size:,} bytes" for f in sorted(folder.rglob("*")) if f.is_file())
    text = f"""# pocket-{family}

A text-to-image model with the architecture of {'FLUX.1-schnell' if family == 'flux' else 'SD3.5-Large-Turbo'}, trained from
scratch for this project by `scripts/pocket` (recipe `{studio.name}`, {config['samples_seen']:,} samples) on pictures that a
program composed of openly licensed emoji and captioned. {size / 1e6:.1f} MB, {config['image_size']}x{config['image_size']} pixels,
{config['steps']} steps, no guidance. The norms of the autoencoder have {config['autoencoder']['norm_groups']} groups.

{files}

## What it can draw

{groups}

A flat style and a white background go without saying. Other words for these things are known too, and of a word that is not
the nearest is told.

## Licence and attribution

Weights and this folder: MIT OR Apache-2.0, as the project. The pictures it learned from were composed of these sets, which
were scaled, tinted and placed; their licences ask for this notice, which travels with the weights:

{thanks}
"""
    (folder / "README.md").write_text(text)


def sums(folder):
    """SHA256SUMS of the weights, which a worker compares when it loads them."""
    weights = sorted(f for end in ("safetensors", "gguf") for f in folder.rglob(f"*.{end}"))
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(folder)}\n" for f in weights]
    (folder / "SHA256SUMS").write_text("".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=recipes.RECIPES, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--family", choices=recipes.FAMILIES, default="flux")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--q8", action="store_true")
    parser.add_argument("--data")
    args = parser.parse_args()
    studio = Studio(args.recipe, args.out, args.data, "cpu", 1)
    model, state = phase_flow.load_average(studio, args.family, "straight.pt", "flow.pt", "text.pt")
    autoencoder, facts = phase_autoencoder.load(studio)
    args.to.mkdir(parents=True, exist_ok=True)
    parts = families_parts(args.family, model, autoencoder, len(studio.recipe["autoencoder"]["ch_mult"]))
    for name, tensors in parts.items():
        whole = args.to / name
        if args.q8 and name == "flux1-schnell.safetensors":
            save_q8(tensors, whole.with_suffix(".gguf"))
        else:
            save(tensors, whole)
    tokenizer.write(studio.book, args.to)
    config = configuration(studio, args.family, facts, state.get("seen", 0))
    (args.to / "config.json").write_text(json.dumps(config, ensure_ascii=False, indent=1))
    readme(studio, args.family, args.to, config)
    sums(args.to)
    for file in args.to.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    say(f"{args.to}: {sum(f.stat().st_size for f in args.to.rglob('*') if f.is_file()):,} bytes")
    imported.compare(args.to, model, autoencoder, studio.book, exact=not args.q8)


if __name__ == "__main__":
    main()
