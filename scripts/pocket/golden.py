#!/usr/bin/env python3
"""Goldens of an exported folder: what diffusers' and transformers' own classes make of these very files, part by part.

    python golden.py --folder FOLDER --to DIR [--prompts mine.json | --small]

Writes golden_FAMILY_NAME.safetensors (ids, states, first noise, every step's prediction and latents, the decoder's output, the
bytes) and meta.json with the cases; the model's files are linked beside them, so `scripts/golden DIR` checks a worker.
`--small` writes four cases of other sizes and steps, and points to the folder instead of linking its files: for the tests.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from diffusers.image_processor import VaeImageProcessor
from safetensors.torch import save_file

import imported
import models
import tokenizer

CASES = {"base": "a red circle left of a blue square on a white background",
         "fox": "a fox left of a slice of pizza on a yellow background",
         "between": "a small owl between a cactus and a car on a striped orange background",
         "empty": "", "unknown": "an astronaut on a horse, oil on canvas"}
# name: prompt, height, width, steps; for the tests.
SMALL = {"base": ("a red circle left of a blue square on a white background", 128, 128, 4),
         "cut": ("a small orange ring right of a big purple triangle on a white background and a red circle and a green star "
                 "and a black cross and a yellow heart", 64, 96, 2),
         "unknown": ("Two words it never saw: a turquoise Hexagon, above a BIG heart.", 80, 64, 3),
         "empty": ("", 64, 64, 1)}
UNREAD = ("image_f32", "timesteps")  # nothing compares them
SEED = 42


def text_flux(folder, prompt):
    """Ids and states of FLUX's two encoders."""
    g = dict(t5_ids=folder.tokens([prompt]))
    clip = tokenizer.reader(folder.folder, "clip", folder.words["length"], folder.words["eos"])
    g["clip_ids"] = torch.tensor([clip.encode(prompt).ids])
    g["t5_embeds"], g["pooled"] = folder.model.t5(g["t5_ids"])[0], folder.model.clip(g["clip_ids"]).pooler_output
    return g, g["t5_embeds"], g["pooled"]


def text_sd3(folder, prompt):
    """Ids and states of SD3's three encoders, and the context that they make."""
    g, length, eos = dict(t5_ids=folder.tokens([prompt])), folder.words["length"], folder.words["eos"]
    for name, pad in (("clip_l", eos), ("clip_g", 0)):
        ids = torch.tensor([tokenizer.reader(folder.folder, "clip", length, pad).encode(prompt).ids])
        out = getattr(folder.model, name)(ids, output_hidden_states=True)
        g |= {f"{name}_ids": ids, f"{name}.penultimate": out.hidden_states[-2], f"{name}.pooled": out.text_embeds,
              f"{name}.last": out.last_hidden_state}
    g["t5_embeds"] = folder.model.t5(g["t5_ids"])[0]
    g["context"], g["pooled"] = folder.model.encode(g["t5_ids"])
    return g, g["context"], g["pooled"]


def schedule(family, steps):
    """diffusers' scheduler as each family's pipeline sets it."""
    made = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0 if family == "flux" else 3.0)
    if family == "flux":
        made.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps))
    else:
        made.set_timesteps(steps)
    return made


def steps_flux(folder, g, context, pooled, sides, steps):
    """Packed latents through the schedule."""
    rows, columns = sides
    x = FluxPipeline._pack_latents(g["latents_init"], 1, 16, rows, columns)
    g["latents_packed"] = x
    scheduler = schedule("flux", steps)
    places = FluxPipeline._prepare_latent_image_ids(1, rows // 2, columns // 2, "cpu", torch.float32)
    for i, t in enumerate(scheduler.timesteps):
        v = folder.model.net(hidden_states=x, timestep=t.expand(1) / 1000, guidance=None, pooled_projections=pooled,
                             encoder_hidden_states=context, txt_ids=torch.zeros(context.shape[1], 3), img_ids=places,
                             return_dict=False)[0]
        x = scheduler.step(v, t, x, return_dict=False)[0]
        g[f"pred.{i}"], g[f"latents.{i}"] = v, x
    return scheduler, FluxPipeline._unpack_latents(x, rows * 8, columns * 8, 8)


def steps_sd3(folder, g, context, pooled, _sides, steps):
    """Latents through the schedule."""
    x, scheduler = g["latents_init"], schedule("sd3", steps)
    for i, t in enumerate(scheduler.timesteps):
        v = folder.model.net(hidden_states=x, timestep=t.expand(1), encoder_hidden_states=context,
                             pooled_projections=pooled, return_dict=False)[0]
        x = scheduler.step(v, t, x, return_dict=False)[0]
        g[f"pred.{i}"], g[f"latents.{i}"] = v, x
    return scheduler, x


@torch.no_grad()
def case(folder, prompt, height, width, steps):
    """All tensors of one prompt."""
    family, sides = folder.config["family"], (height // models.FACTOR, width // models.FACTOR)
    g, context, pooled = (text_flux if family == "flux" else text_sd3)(folder, prompt)
    g["latents_init"] = torch.randn(1, 16, *sides, generator=torch.Generator().manual_seed(SEED))
    run = steps_flux if family == "flux" else steps_sd3
    scheduler, z = run(folder, g, context, pooled, sides, steps)
    g["sigmas"], g["timesteps"], g["latents_final"] = scheduler.sigmas, scheduler.timesteps, z
    facts = folder.config["latent"]
    g["vae_out"] = folder.decoder.decode(z / facts["scale_factor"] + facts["shift_factor"], return_dict=False)[0]
    processor = VaeImageProcessor(vae_scale_factor=16)
    g["image_f32"] = processor.postprocess(g["vae_out"], output_type="pt")
    drawn = processor.postprocess(g["vae_out"], output_type="pil")
    g["image_u8"] = torch.from_numpy(np.stack([np.asarray(p) for p in drawn]))
    return {k: (v if v.dtype in (torch.uint8, torch.int64) else v.float()).contiguous().clone() for k, v in g.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--prompts", type=Path)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    folder, info = imported.Folder(args.folder), {}
    config, family = folder.config, folder.config["family"]
    args.to.mkdir(parents=True, exist_ok=True)
    size, steps = config["image_size"], config["steps"]
    prompts = json.loads(args.prompts.read_text()) if args.prompts else CASES
    cases = SMALL if args.small else {name: (prompt, size, size, steps) for name, prompt in prompts.items()}
    for name, (prompt, height, width, steps) in cases.items():
        found = case(folder, prompt, height, width, steps)
        levels = [round(s, 6) for s in found["sigmas"].tolist()]
        ours = [round(s, 6) for s in folder.model.sigmas(steps)]
        assert max(abs(a - b) for a, b in zip(levels, ours)) < 2e-6, f"trained at {ours}, drawn at {levels}"
        kept = {k: v for k, v in found.items() if k not in UNREAD} if args.small else found
        save_file(kept, args.to / f"golden_{family}_{name}.safetensors")
        info[f"{family}_{name}"] = dict(prompts=[prompt], height=height, width=width, steps=steps,
                                        t5_len=config["t5"]["length"], seed=SEED)
        print(name, {k: round(found[k].std().item(), 4) for k in ("pooled", "pred.0", "latents_final", "vae_out")})
    about = dict(cases=info)
    if args.small:
        about = dict(preset="pocket", dtype="f32", cases=info, model=os.path.relpath(args.folder, args.to))
    (args.to / "meta.json").write_text(json.dumps(about, indent=1) + "\n")
    if not args.small:
        link(args.folder, args.to)


def link(folder, to):
    """The model's files beside its goldens."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in (".safetensors", ".json", ".gguf") and path.name != "evaluation.json":
            beside = to / path.relative_to(folder)
            beside.parent.mkdir(parents=True, exist_ok=True)
            if not beside.exists():
                os.symlink(path.resolve(), beside)


if __name__ == "__main__":
    main()
