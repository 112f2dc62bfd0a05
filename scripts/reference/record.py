"""Draws with a reference pipeline and records every part: ids, states, each step, the decoder's output, the bytes."""
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import sizes as presets

# What our tests read of each case.
KEPT = {"clip_ids", "clip_l_ids", "clip_g_ids", "t5_ids", "t5_embeds", "pooled", "pooled_neg", "context", "context_neg",
        "latents_init", "latents_packed", "latents_final", "sigmas", "vae_out", "image_u8"}
KEPT_SERIES = {"pred", "latents", "clip_l", "clip_g"}  # `pred.0`, `clip_l.pooled`


def noise(seed, pictures, rows, columns):
    """torch's own noise for the first latents; pixels are eight times as many a side."""
    return torch.randn(pictures, 16, rows, columns, generator=torch.Generator("cpu").manual_seed(seed))


class Series:
    """What a module gives, call by call, as `name.0`, `name.1` and so on."""

    def __init__(self, module, name, found):
        self.calls, self.name, self.found = 0, name, found
        self.hook = module.register_forward_hook(self.record)

    def record(self, _module, _given, output):
        value = output[0] if isinstance(output, (tuple, list)) else output
        self.found[f"{self.name}.{self.calls}"] = value.detach().float().cpu().clone()
        self.calls += 1


def ids(tokenizer, prompts, length):
    return tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids


def drawn(pipeline, found, dtype, **given):
    """Runs the steps; records predictions and latents after each."""
    series = Series(pipeline.transformer, "pred", found)

    def after_step(_pipeline, step, _time, values):
        found[f"latents.{step}"] = values["latents"].float().cpu().clone()
        return values

    latents = pipeline(output_type="latent", callback_on_step_end=after_step, **given).images
    series.hook.remove()
    found["timesteps"], found["sigmas"] = pipeline.scheduler.timesteps, pipeline.scheduler.sigmas
    return latents


def decoded(pipeline, found, latents):
    """Records the decoder's output and the bytes of the picture."""
    config = pipeline.vae.config
    found["latents_final"] = latents
    found["vae_out"] = pipeline.vae.decode(latents / config.scaling_factor + config.shift_factor, return_dict=False)[0]
    pictures = pipeline.image_processor.postprocess(found["vae_out"].float(), output_type="pil")
    found["image_u8"] = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))


@torch.no_grad()
def flux(pipeline, case, sizes, seed, dtype=torch.float32):
    """One case through FLUX's pipeline."""
    prompts, (height, width), length = [case["prompt"]], extent(case, sizes), case.get("t5_len", sizes["t5_len"])
    found = {"latents_init": noise(seed, 1, height // 8, width // 8)}
    states, pooled, _ = pipeline.encode_prompt(prompt=prompts, prompt_2=prompts, max_sequence_length=length, device="cpu")
    found |= {"t5_embeds": states, "pooled": pooled, "clip_ids": ids(pipeline.tokenizer, prompts, 77),
              "t5_ids": ids(pipeline.tokenizer_2, prompts, length)}
    packed = pipeline._pack_latents(found["latents_init"].to(dtype), 1, 16, height // 8, width // 8)
    found["latents_packed"] = packed
    final = drawn(pipeline, found, dtype, prompt_embeds=states, pooled_prompt_embeds=pooled, height=height, width=width,
                  num_inference_steps=case["steps"], guidance_scale=0.0, latents=packed, max_sequence_length=length)
    decoded(pipeline, found, pipeline._unpack_latents(final, height, width, pipeline.vae_scale_factor))
    return found


@torch.no_grad()
def sd3(pipeline, case, sizes, seed, dtype=torch.float32):
    """One case through Stable Diffusion 3's pipeline; a case with guidance has a negative prompt."""
    prompts, (height, width), length = [case["prompt"]], extent(case, sizes), case.get("t5_len", sizes["t5_len"])
    guidance = case.get("guidance", 0.0)
    found = {"latents_init": noise(seed, 1, height // 8, width // 8)}
    given = dict(prompt=prompts, prompt_2=prompts, prompt_3=prompts, max_sequence_length=length, device="cpu",
                 do_classifier_free_guidance=guidance > 1)
    if guidance > 1:
        negative = [case["negative"]]
        given |= dict(negative_prompt=negative, negative_prompt_2=negative, negative_prompt_3=negative)
    context, context_neg, pooled, pooled_neg = pipeline.encode_prompt(**given)
    found |= {"context": context, "pooled": pooled}
    if guidance > 1:
        found |= {"context_neg": context_neg, "pooled_neg": pooled_neg}
    for name, tokenizer, encoder in (("clip_l", pipeline.tokenizer, pipeline.text_encoder),
                                     ("clip_g", pipeline.tokenizer_2, pipeline.text_encoder_2)):
        found[f"{name}_ids"] = ids(tokenizer, prompts, 77)
        states = encoder(found[f"{name}_ids"], output_hidden_states=True)
        found |= {f"{name}.penultimate": states.hidden_states[-2], f"{name}.pooled": states.text_embeds,
                  f"{name}.last": states.last_hidden_state}
    found["t5_ids"] = ids(pipeline.tokenizer_3, prompts, length)
    found["t5_embeds"] = pipeline.text_encoder_3(found["t5_ids"])[0]
    final = drawn(pipeline, found, dtype, prompt_embeds=context, pooled_prompt_embeds=pooled, negative_prompt_embeds=context_neg,
                  negative_pooled_prompt_embeds=pooled_neg, height=height, width=width, num_inference_steps=case["steps"],
                  guidance_scale=guidance, latents=found["latents_init"].to(dtype), max_sequence_length=length)
    decoded(pipeline, found, final)
    return found


FAMILIES = dict(flux=flux, sd3=sd3)


def extent(case, sizes):
    height, width = sizes["size"]
    return height, width + case.get("wider", 0)


def write(found, path, kept=None):
    """Writes the parts that tests read; floats as f32."""
    kept = kept or (lambda name: name in KEPT or name.split(".")[0] in KEPT_SERIES)
    values = {name: value.detach().cpu() for name, value in found.items() if kept(name)}
    whole = {name: value if value.dtype in (torch.uint8, torch.int64) else value.float() for name, value in values.items()}
    save_file({name: value.contiguous().clone() for name, value in whole.items()}, str(path))


def meta(folder, sizes, cases, **more):
    """`meta.json`: the sizes of the models, and each case as our reader expects it."""
    described = {}
    for name, case in cases.items():
        height, width = extent(case, sizes)
        described[name] = dict(prompts=[case["prompt"]], height=height, width=width, steps=case["steps"],
                               t5_len=case.get("t5_len", sizes["t5_len"]), **case.get("described", {}))
        if "guidance" in case:
            described[name] |= dict(negative=[case["negative"]], cfg=case["guidance"])
    Path(folder, "meta.json").write_text(json.dumps(dict(config=sizes, cases=described, **more), indent=1))


def folder(to, family, pipeline, sizes, names, run=0, dtype=torch.float32):
    """Records the named cases into a folder with its `meta.json`."""
    seed = presets.SEED + run
    cases = {name: presets.CASES[name] | dict(described=dict(seed=seed)) for name in names}
    for name, case in cases.items():
        write(FAMILIES[family](pipeline, case, sizes, seed, dtype), Path(to, f"golden_{family}_{name}.safetensors"))
    import diffusers
    import transformers
    versions = dict(torch=torch.__version__, diffusers=diffusers.__version__, transformers=transformers.__version__)
    named = {f"{family}_{name}": case for name, case in cases.items()}
    meta(to, sizes, named, dtype=str(dtype).removeprefix("torch."), versions=versions)
