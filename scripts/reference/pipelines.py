"""The reference's pipelines on a folder of original files, through diffusers' own converters.

A folder has the files that `write_folder` writes. Every tensor of a file must find its place; tensors that a module
computes itself are the only ones that a file may lack.
"""
import inspect
from pathlib import Path

import diffusers.loaders.single_file_utils as converters
import torch
from diffusers import (AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel, SD3Transformer2DModel,
                       StableDiffusion3Pipeline)
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

import vocabularies
import weights

TRANSFORMER, T5, SD3 = "flux1-schnell.safetensors", "t5xxl.safetensors", "sd3.5_large_turbo.safetensors"
CLIP_FLUX, AUTOENCODER = "clip_l_flux.safetensors", "ae.safetensors"
CLIPS = ("text_encoders/clip_l.safetensors", "text_encoders/clip_g.safetensors")
MMDIT, FIRST_STAGE = "model.diffusion_model.", "first_stage_model."
MARK = {"format": "pt"}


def save(folder, name, tensors, mark=MARK):
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, str(path), mark)


def write_folder(folder, sizes, family, run=0):
    """Random weights of a family in the published layout."""
    half, bf16 = torch.float16, torch.bfloat16
    save(folder, T5, weights.t5(sizes, run))
    if family == "flux":
        save(folder, TRANSFORMER, weights.flux(sizes, run))
        save(folder, CLIP_FLUX, weights.clip(sizes, "l", 4, bf16, None, run))
        save(folder, AUTOENCODER, weights.autoencoder(sizes, 8, run=run))
    else:
        save(folder, SD3, weights.mmdit(sizes, run=run) | weights.autoencoder(sizes, 3, FIRST_STAGE, run))
        save(folder, CLIPS[0], weights.clip(sizes, "l", 5, half, "identity", run))
        save(folder, CLIPS[1], weights.clip(sizes, "g", 6, half, "drawn", run))


def read(folder, name, dtype, prefix=""):
    tensors = load_file(str(Path(folder) / name))
    return {key: tensor.to(dtype) for key, tensor in tensors.items() if key.startswith(prefix)}


def filled(module, tensors):
    """The module with these tensors in place of its own; a tensor without a place, or a place without one, is an error."""
    missing, unexpected = module.load_state_dict(tensors, strict=False, assign=True)
    if unexpected:
        raise ValueError(f"no place for {unexpected}")
    for part in module.modules():
        if getattr(part, "position_ids", None) is not None and part.position_ids.is_meta:
            part.position_ids = torch.arange(part.position_ids.shape[-1])[None]
    empty = [name for name, tensor in [*module.named_parameters(), *module.named_buffers()] if tensor.is_meta]
    if empty:
        raise ValueError(f"no tensor for {empty}")
    return module.eval().requires_grad_(False)


def bare(make, dtype):
    with torch.device("meta"):
        return make().to(dtype)


def flux_names(width):
    """diffusers' converter of FLUX's names, whose one fixed width is the published one."""
    source = inspect.getsource(converters.convert_flux_transformer_checkpoint_to_diffusers)
    fixed = "inner_dim = 3072"
    if fixed not in source:
        raise ValueError(f"diffusers' converter has no {fixed!r} any more")
    names = dict(vars(converters))
    exec(source.replace(fixed, f"inner_dim = {width}"), names)  # noqa: S102: its own source with one number changed
    return names["convert_flux_transformer_checkpoint_to_diffusers"]


def flux_transformer(sizes, folder, dtype):
    own = sizes["flux"]
    make = lambda: FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=own["depth"], num_single_layers=own["single"],
        attention_head_dim=own["hidden"] // own["heads"], num_attention_heads=own["heads"], joint_attention_dim=sizes["t5"]["d_model"],
        pooled_projection_dim=sizes["clip_l"]["hidden"], guidance_embeds=False, axes_dims_rope=tuple(own["axes"]))
    return filled(bare(make, dtype), flux_names(own["hidden"])(read(folder, TRANSFORMER, dtype)))


def sd3_transformer(sizes, folder, dtype):
    own = sizes["mmdit"]
    make = lambda: SD3Transformer2DModel(
        sample_size=max(sizes["size"]) // 8, patch_size=2, in_channels=16, out_channels=16, num_layers=own["depth"],
        attention_head_dim=own["head"], num_attention_heads=own["depth"], joint_attention_dim=sizes["t5"]["d_model"],
        caption_projection_dim=own["depth"] * own["head"], pooled_projection_dim=sizes["clip_l"]["proj"] + sizes["clip_g"]["proj"],
        pos_embed_max_size=own["pos"], qk_norm="rms_norm")
    return filled(bare(make, dtype), converters.convert_sd3_transformer_checkpoint_to_diffusers(read(folder, SD3, dtype, MMDIT)))


def autoencoder(sizes, tensors, dtype, scale, shift):
    """An autoencoder with the numbers between its latents and the transformer's."""
    own, levels = sizes["vae"], len(sizes["vae"]["mult"])
    make = lambda: AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(own["ch"] * factor for factor in own["mult"]), layers_per_block=own["res"], latent_channels=16,
        norm_num_groups=32, scaling_factor=scale, shift_factor=shift, use_quant_conv=False, use_post_quant_conv=False, force_upcast=True)
    module = bare(make, dtype)
    return filled(module, converters.convert_ldm_vae_checkpoint(tensors, module.config))


def clip(sizes, which, kind, folder, name, dtype):
    own = sizes[f"clip_{which}"]
    config = CLIPTextConfig(
        vocab_size=sizes["clip_vocab"], hidden_size=own["hidden"], intermediate_size=own["inter"], num_hidden_layers=own["layers"],
        num_attention_heads=own["heads"], max_position_embeddings=77, hidden_act=own["act"], projection_dim=own["proj"],
        layer_norm_eps=1e-5, eos_token_id=2, bos_token_id=0, pad_token_id=1)
    module, tensors = bare(lambda: kind(config), dtype), read(folder, name, dtype)
    if not any(key.startswith("text_model.") for key in module.state_dict()):
        tensors = {key.removeprefix("text_model."): tensor for key, tensor in tensors.items()}
    return filled(module, tensors)


def t5(sizes, folder, dtype):
    own = sizes["t5"]
    config = T5Config(
        vocab_size=sizes["t5_vocab"], d_model=own["d_model"], d_kv=own["d_kv"], d_ff=own["d_ff"], num_layers=own["layers"],
        num_heads=own["heads"], feed_forward_proj="gated-gelu", tie_word_embeddings=False, relative_attention_num_buckets=32,
        relative_attention_max_distance=128, layer_norm_epsilon=1e-6)
    module, tensors = bare(lambda: T5EncoderModel(config), dtype), read(folder, T5, dtype)
    if "encoder.embed_tokens.weight" in module.state_dict():
        tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"]
    return filled(module, tensors)


def flux(sizes, folder, scratch, dtype=torch.float32):
    """FLUX's pipeline; writes the folder's tokenizers."""
    clip_l, _, pieces = vocabularies.load(sizes, Path(folder) / "tokenizers", Path(scratch))
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0, use_dynamic_shifting=False,
                                                base_image_seq_len=256, max_image_seq_len=4096, base_shift=0.5, max_shift=1.15)
    made = FluxPipeline(
        scheduler=scheduler, tokenizer=clip_l, tokenizer_2=pieces, transformer=flux_transformer(sizes, folder, dtype),
        vae=autoencoder(sizes, read(folder, AUTOENCODER, dtype), dtype, 0.3611, 0.1159),
        text_encoder=clip(sizes, "l", CLIPTextModel, folder, CLIP_FLUX, dtype), text_encoder_2=t5(sizes, folder, dtype))
    made.set_progress_bar_config(disable=True)
    return made


def sd3(sizes, folder, scratch, dtype=torch.float32):
    """Stable Diffusion 3's pipeline; writes the folder's tokenizers."""
    clip_l, clip_g, pieces = vocabularies.load(sizes, Path(folder) / "tokenizers", Path(scratch))
    projecting = CLIPTextModelWithProjection
    made = StableDiffusion3Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0), transformer=sd3_transformer(sizes, folder, dtype),
        vae=autoencoder(sizes, read(folder, SD3, dtype, FIRST_STAGE), dtype, 1.5305, 0.0609),
        tokenizer=clip_l, text_encoder=clip(sizes, "l", projecting, folder, CLIPS[0], dtype),
        tokenizer_2=clip_g, text_encoder_2=clip(sizes, "g", projecting, folder, CLIPS[1], dtype),
        tokenizer_3=pieces, text_encoder_3=t5(sizes, folder, dtype))
    made.set_progress_bar_config(disable=True)
    return made


MAKERS = dict(flux=flux, sd3=sd3)
