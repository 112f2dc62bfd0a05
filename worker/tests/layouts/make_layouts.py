#!/usr/bin/env python3
"""Writes the folders beside this file: tiny models in the layouts that people have on disk, and what the
reference classes compute from them.

  make_layouts.py --reference make_reference.py --tokenizers DIR --tiny DIR

`make_reference.py` is the project's reference script, DIR its vocabularies and its `--preset tiny` output.
Needs torch, diffusers, transformers, safetensors and gguf. Quantised values are widened by torch (fp8)
and by the package gguf (blocks), written as plain f32 safetensors, and only those are given to the
reference. K-quants, which the package only reads, are random blocks with sane factors.
"""
import argparse, hashlib, importlib.util, json, os, shutil, sys, tempfile, types, zlib
import gguf, numpy as np, torch
from gguf import GGMLQuantizationType as Q, quants
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
KEPT = ["clip_ids", "t5_ids", "t5_embeds", "pooled", "latents_init", "latents_packed", "latents_final",
        "sigmas", "vae_out", "image_u8", "clip_l_ids", "clip_g_ids", "clip_l", "clip_g", "context"]
TRANSFORMER, T5, SD3 = "flux1-schnell.safetensors", "t5xxl.safetensors", "sd3.5_large_turbo.safetensors"
MMDIT = "model.diffusion_model."
CLIPS = ("text_encoders/clip_l.safetensors", "text_encoders/clip_g.safetensors")
PLAIN_LAYERS = ("img_in", "txt_in", "time_in", "vector_in", "final_layer")
PLAIN_SD3 = ("x_embedder", "context_embedder", "t_embedder", "y_embedder", "final_layer", "pos_embed")
T5_NAMES = {"SelfAttention.q": "attn_q", "SelfAttention.k": "attn_k", "SelfAttention.v": "attn_v",
            "SelfAttention.o": "attn_o", "SelfAttention.relative_attention_bias": "attn_rel_b",
            "DenseReluDense.wi_0": "ffn_gate", "DenseReluDense.wi_1": "ffn_up", "DenseReluDense.wo": "ffn_down"}


def load_reference(path, arguments):
    spec = importlib.util.spec_from_file_location("reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ARGS = arguments
    return module


def reference_arguments(tokenizers):
    return types.SimpleNamespace(seed=0, family="flux", tok=tokenizers, preset="tiny", max_tap=4 << 20, threads=2)


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
def golden(reference, config, folder, wide_transformer, wide_t5, tiny):
    with tempfile.TemporaryDirectory() as out:
        for name in ("clip_l_flux.safetensors", "ae.safetensors"):
            shutil.copy(os.path.join(tiny, name), out)
        save_file(wide_transformer, os.path.join(out, TRANSFORMER))
        save_file(wide_t5, os.path.join(out, T5))
        pipe, _, _ = reference.build(config, out, torch.float32, "cpu")
        prompt, (height, width) = reference.PROMPTS["base"], config["size"]
        found = reference.run_flux(pipe, [prompt], height, width, 2, 256, 42, "cpu", torch.float32)
        record(reference, config, folder, "flux", found)


def record(reference, config, folder, family, found):
    kept = {k: v for k, v in found.items() if k in KEPT or k.split(".")[0] in KEPT + ["pred", "latents"]}
    reference.dump(kept, os.path.join(folder, f"golden_{family}_base.safetensors"))
    height, width = config["size"]
    case = dict(prompts=[reference.PROMPTS["base"]], height=height, width=width, steps=2, t5_len=256)
    json.dump(dict(config=config, cases={f"{family}_base": case}), open(os.path.join(folder, "meta.json"), "w"), indent=1)


def digests(folder, sd):
    """SHA-256 of each tensor's f32 bytes, by original name."""
    of = lambda tensor: hashlib.sha256(tensor.float().contiguous().numpy().tobytes()).hexdigest()
    json.dump({k: of(v) for k, v in sorted(sd.items())}, open(os.path.join(folder, "digests.json"), "w"), indent=0)


def folder(name):
    path = os.path.join(HERE, name)
    shutil.rmtree(path, ignore_errors=True); os.makedirs(path)
    return path


def make_fp8(reference, tiny, flux, t5):
    for name, ends in (("fp8", ("", "")), ("fp8-scaled", ("scale_weight", "weight_scale"))):
        to = folder(name)
        stored, wide = fp8(flux, ends[0], False); stored5, wide5 = fp8(t5, ends[1], True)
        save_file(stored, os.path.join(to, "flux1-schnell-fp8.safetensors"))
        save_file(stored5, os.path.join(to, "t5xxl_fp8_e4m3fn.safetensors"))
        golden(reference, reference.P["tiny"], to, wide, wide5, tiny)


def make_gguf(reference, name, config, tiny, flux, t5, kinds):
    to = folder(name)
    plain = lambda n: n.startswith(PLAIN_LAYERS)
    wide = write_gguf(os.path.join(to, "flux1-schnell-mixed.gguf"), "flux", flux, lambda n: n, kinds, plain)
    wide5 = write_gguf(os.path.join(to, "t5-v1_1-encoder.gguf"), "t5encoder", t5, llama_name, kinds,
                       lambda n: "relative_attention_bias" in n)
    golden(reference, config, to, wide, wide5, tiny)


def decoder(vae, to):
    """As diffusers saves an autoencoder, without its encoder."""
    vae.to(torch.bfloat16).save_pretrained(f"{to}/vae")
    path = f"{to}/vae/diffusion_pytorch_model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if k.startswith("decoder.")}, path)


def make_diffusers(reference, tiny):
    """As diffusers saves the tiny model, in shards, without the autoencoder's encoder."""
    to = folder("diffusers-flux")
    with tempfile.TemporaryDirectory() as out:
        for name in (TRANSFORMER, T5, "clip_l_flux.safetensors", "ae.safetensors"):
            shutil.copy(os.path.join(tiny, name), out)
        pipe, _, _ = reference.build(reference.P["tiny"], out, torch.float32, "cpu")
    pipe.transformer.to(torch.bfloat16).save_pretrained(f"{to}/transformer", max_shard_size="500KB")
    pipe.text_encoder_2.to(torch.float16).save_pretrained(f"{to}/text_encoder_2", max_shard_size="200KB")
    pipe.text_encoder.to(torch.bfloat16).save_pretrained(f"{to}/text_encoder")
    decoder(pipe.vae, to)
    pipe.save_config(to)


def build_sd3(reference, config, tiny, mmdit):
    """The reference's pipeline with this transformer and the tiny model's other parts."""
    reference.ARGS.family = "sd3"
    with tempfile.TemporaryDirectory() as out:
        os.makedirs(os.path.join(out, "text_encoders"))
        for name in (*CLIPS, T5): shutil.copy(os.path.join(tiny, name), os.path.join(out, name))
        vae = {k: v for k, v in load_file(os.path.join(tiny, SD3)).items() if not k.startswith(MMDIT)}
        save_file({MMDIT + k: v for k, v in mmdit.items()} | vae, os.path.join(out, SD3))
        return reference.build(config, out, torch.float32, "cpu")[1]


def golden_sd3(reference, config, to, tiny, mmdit):
    """What the reference computes from these widened values."""
    pipe = build_sd3(reference, config, tiny, mmdit)
    found = reference.run_sd3(pipe, [reference.PROMPTS["base"]], *config["size"], 2, 256, 42, "cpu", torch.float32)
    record(reference, config, to, "sd3", found)


def make_sd3(reference, tiny):
    """The tiny SD3 as diffusers saves it (without its T5), with its MMDiT in fp8, and one of width 320 in GGUF."""
    mmdit = {k[len(MMDIT):]: v for k, v in load_file(os.path.join(tiny, SD3)).items() if k.startswith(MMDIT)}
    to = folder("diffusers-sd3")
    pipe = build_sd3(reference, reference.P["tiny"], tiny, mmdit)
    pipe.transformer.to(torch.bfloat16).save_pretrained(f"{to}/transformer", max_shard_size="300KB")
    pipe.text_encoder.to(torch.float16).save_pretrained(f"{to}/text_encoder")
    pipe.text_encoder_2.to(torch.float16).save_pretrained(f"{to}/text_encoder_2")
    decoder(pipe.vae, to)
    pipe.save_config(to)
    clips = {f"{i}.{k}": v for i, name in enumerate(CLIPS) for k, v in load_file(os.path.join(tiny, name)).items()}
    digests(to, mmdit | clips)
    for name, scaled in (("fp8-sd3", ""), ("fp8-scaled-sd3", "scale_weight")):
        to = folder(name)
        stored, widened = fp8(mmdit, scaled, False)
        save_file({MMDIT + k: v.contiguous() for k, v in stored.items()}, os.path.join(to, SD3))
        golden_sd3(reference, reference.P["tiny"], to, tiny, widened)
    wide = dict(reference.P["tiny"], mmdit=dict(depth=2, head=160, pos=8))
    to = folder("gguf-sd3")
    mmdit = reference.make_mmdit(wide, 2, torch.bfloat16, "cpu", prefix="")
    widened = write_gguf(os.path.join(to, "sd3.5_large_turbo-mixed.gguf"), "sd3", mmdit, lambda n: n,
                         [Q.Q4_K, Q.Q4_0, Q.Q4_1, Q.Q5_0], lambda n: n.startswith(PLAIN_SD3))
    digests(to, widened)
    golden_sd3(reference, wide, to, tiny, widened)


def main():
    parser = argparse.ArgumentParser()
    for name in ("--reference", "--tokenizers", "--tiny"): parser.add_argument(name, required=True)
    given = parser.parse_args()
    reference = load_reference(given.reference, reference_arguments(given.tokenizers))
    torch.manual_seed(0); torch.set_num_threads(2)
    tiny = lambda name: load_file(os.path.join(given.tiny, name))
    flux, t5 = tiny(TRANSFORMER), tiny(T5)
    make_diffusers(reference, given.tiny)
    make_fp8(reference, given.tiny, flux, t5)
    make_gguf(reference, "gguf", reference.P["tiny"], given.tiny, flux, t5, [Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1])
    wide = dict(reference.P["tiny"], t5=dict(d_model=256, d_kv=64, heads=4, d_ff=256, layers=1),
                flux=dict(hidden=256, heads=2, depth=1, single=1, axes=[16, 56, 56]))
    half, bf16 = torch.float16, torch.bfloat16
    make_gguf(reference, "gguf-k", wide, given.tiny, reference.make_flux(wide, 1, bf16, "cpu"), reference.make_t5(wide, 7, half, "cpu"),
              [Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K, Q.Q6_K])
    make_sd3(reference, given.tiny)


if __name__ == "__main__":
    main()
