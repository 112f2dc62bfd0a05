"""Random weights in the layouts of the published checkpoints.

Each tensor is drawn by a generator of its own, seeded with the model's number and the tensor's name, so that
neither the order nor the other tensors change it. Matrices keep the variance of their input, and norms lie around one.
Names: black-forest-labs/flux, Stability-AI/sd3.5, and transformers for the encoders.
"""
import math
import zlib

import torch


class Tensors(dict):
    """Tensors by name, drawn as they are asked for."""

    def __init__(self, number, dtype, prefix="", run=0):
        self.number, self.dtype, self.prefix = number + 1000 * run, dtype, prefix

    def normal(self, name, shape, spread, mean=0.0):
        name = self.prefix + name
        if name in self:
            raise ValueError(f"{name} is drawn twice")
        source = torch.Generator().manual_seed(self.number * 1000003 + zlib.crc32(name.encode()))
        self[name] = (torch.randn(*shape, generator=source) * spread + mean).to(self.dtype).contiguous()

    def linear(self, name, inputs, outputs, bias=0.05, gain=1.0):
        """A matrix, and a bias of this spread unless it is `None`."""
        self.normal(f"{name}.weight", (outputs, inputs), gain / math.sqrt(inputs))
        if bias is not None:
            self.normal(f"{name}.bias", (outputs,), bias)

    def modulation(self, name, inputs, outputs):
        self.linear(name, inputs, outputs, bias=0.3, gain=0.5)

    def convolution(self, name, inputs, outputs, side, gain=1.0):
        self.normal(f"{name}.weight", (outputs, inputs, side, side), gain / math.sqrt(inputs * side * side))
        self.normal(f"{name}.bias", (outputs,), 0.05)

    def norm(self, name, width, bias=True):
        self.normal(f"{name}.weight", (width,), 0.1, mean=1.0)
        if bias:
            self.normal(f"{name}.bias", (width,), 0.1)

    def scale(self, name, width):
        self.normal(f"{name}.scale", (width,), 0.1, mean=1.0)


def flux(sizes, run=0):
    """FLUX's transformer in bf16."""
    own, out = sizes["flux"], Tensors(1, torch.bfloat16, run=run)
    width, head = own["hidden"], own["hidden"] // own["heads"]
    out.linear("img_in", 64, width)
    out.linear("txt_in", sizes["t5"]["d_model"], width)
    for name, inputs in (("time_in", 256), ("vector_in", sizes["clip_l"]["hidden"])):
        out.linear(f"{name}.in_layer", inputs, width)
        out.linear(f"{name}.out_layer", width, width)
    for block in range(own["depth"]):
        for stream in ("img", "txt"):
            at = f"double_blocks.{block}.{stream}_"
            out.modulation(f"{at}mod.lin", width, 6 * width)
            out.linear(f"{at}attn.qkv", width, 3 * width)
            out.linear(f"{at}attn.proj", width, width)
            out.scale(f"{at}attn.norm.query_norm", head)
            out.scale(f"{at}attn.norm.key_norm", head)
            out.linear(f"{at}mlp.0", width, 4 * width)
            out.linear(f"{at}mlp.2", 4 * width, width)
    for block in range(own["single"]):
        at = f"single_blocks.{block}."
        out.linear(f"{at}linear1", width, 7 * width)
        out.linear(f"{at}linear2", 5 * width, width)
        out.scale(f"{at}norm.query_norm", head)
        out.scale(f"{at}norm.key_norm", head)
        out.modulation(f"{at}modulation.lin", width, 3 * width)
    out.linear("final_layer.linear", width, 64)
    out.modulation("final_layer.adaLN_modulation.1", width, 2 * width)
    return dict(out)


def mmdit(sizes, prefix="model.diffusion_model.", run=0):
    """Stable Diffusion 3.5's transformer in bf16; the prefix is part of the names that seed it."""
    own, out = sizes["mmdit"], Tensors(2, torch.bfloat16, prefix, run)
    depth, head = own["depth"], own["head"]
    width = depth * head
    out.convolution("x_embedder.proj", 16, width, 2)
    out.normal("pos_embed", (1, own["pos"] ** 2, width), 0.5)
    pooled = sizes["clip_l"]["proj"] + sizes["clip_g"]["proj"]
    for name, inputs in (("t_embedder", 256), ("y_embedder", pooled)):
        out.linear(f"{name}.mlp.0", inputs, width)
        out.linear(f"{name}.mlp.2", width, width)
    out.linear("context_embedder", sizes["t5"]["d_model"], width)
    for block in range(depth):
        for stream in ("x_block", "context_block"):
            at = f"joint_blocks.{block}.{stream}."
            lends_only = stream == "context_block" and block == depth - 1  # queries, keys and values
            out.modulation(f"{at}adaLN_modulation.1", width, (2 if lends_only else 6) * width)
            out.linear(f"{at}attn.qkv", width, 3 * width)
            out.norm(f"{at}attn.ln_q", head, bias=False)
            out.norm(f"{at}attn.ln_k", head, bias=False)
            if not lends_only:
                out.linear(f"{at}attn.proj", width, width)
                out.linear(f"{at}mlp.fc1", width, 4 * width)
                out.linear(f"{at}mlp.fc2", 4 * width, width)
    out.linear("final_layer.linear", width, 64)
    out.modulation("final_layer.adaLN_modulation.1", width, 2 * width)
    return dict(out)


def autoencoder(sizes, number, prefix="", run=0):
    """An autoencoder for 16 channels of latents in bf16; number 8 is FLUX's, 3 is Stable Diffusion's."""
    own, out = sizes["vae"], Tensors(number, torch.bfloat16, prefix, run)
    widths = [own["ch"] * factor for factor in own["mult"]]

    def residual(at, inputs, outputs):
        out.norm(f"{at}.norm1", inputs)
        out.convolution(f"{at}.conv1", inputs, outputs, 3)
        out.norm(f"{at}.norm2", outputs)
        out.convolution(f"{at}.conv2", outputs, outputs, 3)
        if inputs != outputs:
            out.convolution(f"{at}.nin_shortcut", inputs, outputs, 1)

    def middle(at, width):
        residual(f"{at}.mid.block_1", width, width)
        out.norm(f"{at}.mid.attn_1.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            out.convolution(f"{at}.mid.attn_1.{part}", width, width, 1)
        residual(f"{at}.mid.block_2", width, width)

    width = widths[0]
    out.convolution("encoder.conv_in", 3, width, 3)
    for level, next_width in enumerate(widths):
        for block in range(own["res"]):
            residual(f"encoder.down.{level}.block.{block}", width, next_width)
            width = next_width
        if level + 1 < len(widths):
            out.convolution(f"encoder.down.{level}.downsample.conv", width, width, 3)
    middle("encoder", width)
    out.norm("encoder.norm_out", width)
    out.convolution("encoder.conv_out", width, 32, 3)

    out.convolution("decoder.conv_in", 16, width, 3)
    middle("decoder", width)
    for level, next_width in reversed(list(enumerate(widths))):
        for block in range(own["res"] + 1):
            residual(f"decoder.up.{level}.block.{block}", width, next_width)
            width = next_width
        if level > 0:
            out.convolution(f"decoder.up.{level}.upsample.conv", width, width, 3)
    out.norm("decoder.norm_out", width)
    out.convolution("decoder.conv_out", width, 3, 3, gain=own.get("gain", 0.5))
    return dict(out)


def clip(sizes, which, number, dtype, projection, run=0):
    """A CLIP text encoder; `projection` is None, "drawn", or "identity" as in the published CLIP-L of SD3."""
    own, out = sizes[f"clip_{which}"], Tensors(number, dtype, run=run)
    width = own["hidden"]
    out.normal("text_model.embeddings.token_embedding.weight", (sizes["clip_vocab"], width), 0.7)
    out.normal("text_model.embeddings.position_embedding.weight", (77, width), 0.5)
    for layer in range(own["layers"]):
        at = f"text_model.encoder.layers.{layer}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            out.linear(f"{at}.self_attn.{part}", width, width)
        out.norm(f"{at}.layer_norm1", width)
        out.norm(f"{at}.layer_norm2", width)
        out.linear(f"{at}.mlp.fc1", width, own["inter"])
        out.linear(f"{at}.mlp.fc2", own["inter"], width)
    out.norm("text_model.final_layer_norm", width)
    if projection == "identity":
        out["text_projection.weight"] = torch.eye(width).to(dtype)
    elif projection == "drawn":
        out.linear("text_projection", width, own["proj"], bias=None)
    return dict(out)


def t5(sizes, run=0):
    """T5's encoder in f16."""
    own, out = sizes["t5"], Tensors(7, torch.float16, run=run)
    width, inner = own["d_model"], own["d_kv"] * own["heads"]
    out.normal("shared.weight", (sizes["t5_vocab"], width), 1.0)
    for block in range(own["layers"]):
        attention = f"encoder.block.{block}.layer.0"
        # T5 does not divide by the root of a head's width, so queries are drawn smaller.
        out.normal(f"{attention}.SelfAttention.q.weight", (inner, width), 1 / math.sqrt(width * own["d_kv"]) * 2)
        out.linear(f"{attention}.SelfAttention.k", width, inner, bias=None)
        out.linear(f"{attention}.SelfAttention.v", width, inner, bias=None)
        out.linear(f"{attention}.SelfAttention.o", inner, width, bias=None)
        if block == 0:
            out.normal(f"{attention}.SelfAttention.relative_attention_bias.weight", (32, own["heads"]), 1.0)
        out.norm(f"{attention}.layer_norm", width, bias=False)
        feed_forward = f"encoder.block.{block}.layer.1"
        out.norm(f"{feed_forward}.layer_norm", width, bias=False)
        out.linear(f"{feed_forward}.DenseReluDense.wi_0", width, own["d_ff"], bias=None)
        out.linear(f"{feed_forward}.DenseReluDense.wi_1", width, own["d_ff"], bias=None)
        out.linear(f"{feed_forward}.DenseReluDense.wo", own["d_ff"], width, bias=None)
    out.norm("encoder.final_layer_norm", width, bias=False)
    return dict(out)
