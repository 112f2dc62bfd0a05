"""Writes tiny models in the layouts that people have on disk, and what the reference computes from them.

Quantised values are widened by torch (fp8) and by the package gguf (blocks), written as plain f32 safetensors, and
only those are given to the reference. K-quants, which the package only reads, are random blocks with sane factors.
"""
import hashlib
import json
import shutil
import tempfile
import zlib
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from gguf import quants
from safetensors.torch import load_file, save_file

import pipelines
import record
import sizes as presets
import weights
from pipelines import AUTOENCODER, CLIP_FLUX, CLIPS, MMDIT, SD3, T5, TRANSFORMER

CASE = dict(prompt=presets.BASE, steps=2)
PLAIN_LAYERS = ("img_in", "txt_in", "time_in", "vector_in", "final_layer")
PLAIN_SD3 = ("x_embedder", "context_embedder", "t_embedder", "y_embedder", "final_layer", "pos_embed")
T5_NAMES = {"SelfAttention.q": "attn_q", "SelfAttention.k": "attn_k", "SelfAttention.v": "attn_v",
            "SelfAttention.o": "attn_o", "SelfAttention.relative_attention_bias": "attn_rel_b",
            "DenseReluDense.wi_0": "ffn_gate", "DenseReluDense.wi_1": "ffn_up", "DenseReluDense.wo": "ffn_down"}


# ---- fp8 ------------------------------------------------------------------------------------
def fp8(sd, scaled, rows):
    """(stored, widened); `scaled` names the scale ("" for none), `rows` one scale for each row."""
    stored, wide = {}, {}
    if scaled == "scale_weight":
        stored["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    for name, tensor in sd.items():
        tensor = tensor.float()
        if not scaled:
            stored[name] = tensor.to(torch.float8_e4m3fn)
            wide[name] = stored[name].float()
        elif tensor.dim() == 2 and name.endswith(".weight") and not name.startswith("shared"):
            layer = name[: -len(".weight")]
            scale = tensor.abs().amax(1, keepdim=True) / 448 if rows else tensor.abs().max() / 448
            stored[name] = (tensor / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
            stored[f"{layer}.{scaled}"] = scale.float()
            wide[name] = stored[name].float() * scale.float()
            if scaled == "scale_weight":
                stored[f"{layer}.scale_input"] = torch.tensor(1.0)
            else:
                note = json.dumps({"format": "float8_e4m3fn"}).encode()
                stored[f"{layer}.input_scale"] = torch.tensor(1.0)
                stored[f"{layer}.comfy_quant"] = torch.frombuffer(bytearray(note), dtype=torch.uint8)
        else:
            stored[name] = tensor.to(torch.bfloat16)
            wide[name] = stored[name].float()
    return stored, wide


# ---- GGUF -----------------------------------------------------------------------------------
def k_blocks(name, shape, kind, std):
    """Random blocks of a K-quant; (bytes, values) with values of about the wanted spread around zero."""
    size, width = gguf.GGML_QUANT_SIZES[kind]
    count = int(np.prod(shape)) // size
    blocks = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, (count, width), dtype=np.uint8)
    # Where the block's f16 factors lie, and the second's ratio that puts the mean at zero.
    places = {Q.Q2_K: (80, 82, 1.5), Q.Q3_K: (108, None, 0), Q.Q4_K: (0, 2, 7.5), Q.Q5_K: (0, 2, 15.5), Q.Q6_K: (208, None, 0)}
    first, second, ratio = places[kind]

    def factors(size):
        blocks[:, first:first + 2] = np.frombuffer(np.float16(size).tobytes(), np.uint8)
        if second is not None:
            blocks[:, second:second + 2] = np.frombuffer(np.float16(size * ratio).tobytes(), np.uint8)
        return quants.dequantize(blocks.reshape(shape[0], -1), kind)
    values = factors(float(std / factors(1.0).std()))
    return blocks.reshape(shape[0], -1), values


def packed(name, tensor, kinds, plain):
    """(array to write, its type, widened values)"""
    values = tensor.float().numpy()
    if values.ndim != 2 or plain:
        return values, Q.F32, values
    fitting = [k for k in kinds if values.shape[-1] % gguf.GGML_QUANT_SIZES[k][0] == 0] or [Q.F16]
    kind = fitting[zlib.crc32(name.encode()) % len(fitting)]
    if kind in (Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K, Q.Q6_K):
        data, wide = k_blocks(name, values.shape, kind, float(values.std()))
        return data, kind, wide
    if kind == Q.F16:
        half = values.astype(np.float16)
        return half, kind, half.astype(np.float32)
    data = quants.quantize(values, kind)
    return data, kind, quants.dequantize(data, kind)


def write_gguf(path, architecture, sd, rename, kinds, plain):
    writer, wide = gguf.GGUFWriter(path, architecture), {}
    writer.add_string("general.name", "tiny")
    writer.add_array("tokenizer.ggml.tokens", ["<pad>", "</s>"])
    for name, tensor in sd.items():
        data, kind, values = packed(name, tensor, kinds, plain(name))
        writer.add_tensor(rename(name), np.ascontiguousarray(data), raw_dtype=kind)
        wide[name] = torch.from_numpy(np.ascontiguousarray(values.astype(np.float32)))
    writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
    return wide


def llama_name(name):
    if name == "shared.weight": return "token_embd.weight"
    if name == "encoder.final_layer_norm.weight": return "enc.output_norm.weight"
    _, _, block, _, layer, rest = name.split(".", 5)
    rest = rest[: -len(".weight")]
    if rest == "layer_norm": rest = "attn_norm" if layer == "0" else "ffn_norm"
    return f"enc.blk.{block}.{T5_NAMES.get(rest, rest)}.weight"


# ---- what the reference computes ------------------------------------------------------------
def golden(to, family, pipeline, sizes):
    """One case with the folder's sizes."""
    found = record.FAMILIES[family](pipeline, CASE, sizes, presets.SEED)
    record.write(found, to / f"golden_{family}_base.safetensors")
    record.meta(to, sizes, {f"{family}_base": CASE})


def flux_of(sizes, tiny, transformer, t5, make):
    """Gives `make` FLUX's pipeline with these two parts' values and the tiny model's other parts."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in (CLIP_FLUX, AUTOENCODER):
            shutil.copy(tiny / name, scratch)
        pipelines.save(scratch, TRANSFORMER, transformer, None)
        pipelines.save(scratch, T5, t5, None)
        make(pipelines.flux(sizes, scratch, Path(scratch, "classes")))


def sd3_of(sizes, tiny, mmdit, make):
    """Gives `make` Stable Diffusion 3's pipeline with this transformer's values."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in (*CLIPS, T5):
            Path(scratch, name).parent.mkdir(exist_ok=True)
            shutil.copy(tiny / name, Path(scratch, name))
        others = {key: value for key, value in load_file(str(tiny / SD3)).items() if not key.startswith(MMDIT)}
        pipelines.save(scratch, SD3, {MMDIT + key: value for key, value in mmdit.items()} | others, None)
        make(pipelines.sd3(sizes, scratch, Path(scratch, "classes")))


def digests(to, tensors):
    """SHA-256 of each tensor's f32 bytes, by original name."""
    digest = lambda tensor: hashlib.sha256(tensor.float().contiguous().numpy().tobytes()).hexdigest()
    (to / "digests.json").write_text(json.dumps({name: digest(tensor) for name, tensor in sorted(tensors.items())}, indent=0))


def emptied(to):
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    return to


def decoder(vae, to):
    """As diffusers saves an autoencoder, without its encoder."""
    vae.to(torch.bfloat16).save_pretrained(to / "vae")
    path = str(to / "vae" / "diffusion_pytorch_model.safetensors")
    save_file({name: tensor for name, tensor in load_file(path).items() if name.startswith("decoder.")}, path)


def write_fp8(root, tiny, flux, t5):
    for name, scale, scale5 in (("fp8", "", ""), ("fp8-scaled", "scale_weight", "weight_scale")):
        to = emptied(root / name)
        stored, wide = fp8(flux, scale, False)
        stored5, wide5 = fp8(t5, scale5, True)
        pipelines.save(to, "flux1-schnell-fp8.safetensors", stored, None)
        pipelines.save(to, "t5xxl_fp8_e4m3fn.safetensors", stored5, None)
        flux_of(presets.TINY, tiny, wide, wide5, lambda pipeline: golden(to, "flux", pipeline, presets.TINY))


def write_flux_gguf(to, sizes, tiny, flux, t5, kinds):
    emptied(to)
    wide = write_gguf(str(to / "flux1-schnell-mixed.gguf"), "flux", flux, lambda name: name, kinds,
                      lambda name: name.startswith(PLAIN_LAYERS))
    wide5 = write_gguf(str(to / "t5-v1_1-encoder.gguf"), "t5encoder", t5, llama_name, kinds,
                       lambda name: "relative_attention_bias" in name)
    flux_of(sizes, tiny, wide, wide5, lambda pipeline: golden(to, "flux", pipeline, sizes))


def write_flux_diffusers(to, tiny, flux, t5):
    """As diffusers saves FLUX, in shards."""
    emptied(to)

    def save(pipeline):
        pipeline.transformer.to(torch.bfloat16).save_pretrained(to / "transformer", max_shard_size="500KB")
        pipeline.text_encoder_2.to(torch.float16).save_pretrained(to / "text_encoder_2", max_shard_size="200KB")
        pipeline.text_encoder.to(torch.bfloat16).save_pretrained(to / "text_encoder")
        decoder(pipeline.vae, to)
        pipeline.save_config(to)
    flux_of(presets.TINY, tiny, flux, t5, save)


def write_sd3_diffusers(to, tiny, mmdit):
    """As diffusers saves Stable Diffusion 3, without its T5."""
    emptied(to)

    def save(pipeline):
        pipeline.transformer.to(torch.bfloat16).save_pretrained(to / "transformer", max_shard_size="300KB")
        pipeline.text_encoder.to(torch.float16).save_pretrained(to / "text_encoder")
        pipeline.text_encoder_2.to(torch.float16).save_pretrained(to / "text_encoder_2")
        decoder(pipeline.vae, to)
        pipeline.save_config(to)
    sd3_of(presets.TINY, tiny, mmdit, save)
    clips = {f"{number}.{name}": tensor for number, file in enumerate(CLIPS) for name, tensor in load_file(str(tiny / file)).items()}
    digests(to, mmdit | clips)


def write_sd3_fp8(root, tiny, mmdit):
    for name, scale in (("fp8-sd3", ""), ("fp8-scaled-sd3", "scale_weight")):
        to = emptied(root / name)
        stored, wide = fp8(mmdit, scale, False)
        pipelines.save(to, SD3, {MMDIT + key: value for key, value in stored.items()}, None)
        sd3_of(presets.TINY, tiny, wide, lambda pipeline: golden(to, "sd3", pipeline, presets.TINY))


def write_sd3_gguf(to, tiny):
    """A transformer of width 320, which no K-quant divides."""
    emptied(to)
    mmdit = weights.mmdit(presets.WIDE_SD3, prefix="")
    wide = write_gguf(str(to / "sd3.5_large_turbo-mixed.gguf"), "sd3", mmdit, lambda name: name, [Q.Q4_K, Q.Q4_0, Q.Q4_1, Q.Q5_0],
                      lambda name: name.startswith(PLAIN_SD3))
    digests(to, wide)
    sd3_of(presets.WIDE_SD3, tiny, wide, lambda pipeline: golden(to, "sd3", pipeline, presets.WIDE_SD3))


def write(root, tiny):
    """Every layout, made of the tiny models in `tiny`."""
    flux, t5 = load_file(str(tiny / TRANSFORMER)), load_file(str(tiny / T5))
    mmdit = {name[len(MMDIT):]: tensor for name, tensor in load_file(str(tiny / SD3)).items() if name.startswith(MMDIT)}
    write_flux_diffusers(root / "diffusers-flux", tiny, flux, t5)
    write_fp8(root, tiny, flux, t5)
    write_flux_gguf(root / "gguf", presets.TINY, tiny, flux, t5, [Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1])
    wide = presets.WIDE_FLUX
    write_flux_gguf(root / "gguf-k", wide, tiny, weights.flux(wide), weights.t5(wide), [Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K, Q.Q6_K])
    write_sd3_diffusers(root / "diffusers-sd3", tiny, mmdit)
    write_sd3_fp8(root, tiny, mmdit)
    write_sd3_gguf(root / "gguf-sd3", tiny)
