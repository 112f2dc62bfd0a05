"""Layouts: our modules' tensors under the names of the original files.

    flux()         Black Forest Labs        double_blocks.*, single_blocks.*, ...
    mmdit()        Stability AI             model.diffusion_model.joint_blocks.*, ...
    autoencoder()  latent diffusion         decoder.up.*, decoder.mid.*, ...
    t5(), clip()   Hugging Face             shared, encoder.block.*; text_model.*

Modulations that diffusers keeps as (scale, shift) are (shift, scale) in the originals.
"""

import re

import torch


class Renamer:
    """Moves tensors from one dictionary to another and remembers what was taken."""

    def __init__(self, source):
        self.source, self.made, self.taken = source, {}, set()

    def _parts(self, name):
        return [p for p in ("weight", "bias") if f"{name}.{p}" in self.source]

    def move(self, name, new):
        """A layer as it is."""
        for part in self._parts(name):
            self.made[f"{new}.{part}"] = self.one(f"{name}.{part}")

    def join(self, names, new):
        """Several layers, one below the other."""
        for part in self._parts(names[0]):
            self.made[f"{new}.{part}"] = torch.cat([self.one(f"{n}.{part}") for n in names])

    def swap(self, name, new):
        """A modulation with its halves exchanged."""
        for part in self._parts(name):
            scale, shift = self.one(f"{name}.{part}").chunk(2)
            self.made[f"{new}.{part}"] = torch.cat([shift, scale])

    def one(self, name):
        """One tensor; from now on it counts as taken."""
        self.taken.add(name)
        return self.source[name]

    def count(self, pattern):
        """How many blocks there are."""
        return 1 + max((int(m[1]) for k in self.source if (m := re.match(pattern, k))), default=-1)

    def finish(self):
        """The new dictionary; nothing may be left."""
        left = set(self.source) - self.taken
        assert not left, f"not placed: {sorted(left)[:5]}"
        return self.made


def flux(tensors):
    """FluxTransformer2DModel to the original."""
    r = Renamer(tensors)
    r.move("x_embedder", "img_in")
    r.move("context_embedder", "txt_in")
    for ours, theirs in (("timestep_embedder", "time_in"), ("text_embedder", "vector_in")):
        r.move(f"time_text_embed.{ours}.linear_1", f"{theirs}.in_layer")
        r.move(f"time_text_embed.{ours}.linear_2", f"{theirs}.out_layer")
    for i in range(r.count(r"transformer_blocks\.(\d+)")):
        _double(r, f"transformer_blocks.{i}", f"double_blocks.{i}")
    for i in range(r.count(r"single_transformer_blocks\.(\d+)")):
        _single(r, f"single_transformer_blocks.{i}", f"single_blocks.{i}")
    r.swap("norm_out.linear", "final_layer.adaLN_modulation.1")
    r.move("proj_out", "final_layer.linear")
    return r.finish()


def _double(r, old, new):
    streams = (("img", "norm1", "to_{}", "norm_{}", "to_out.0", "ff"),
               ("txt", "norm1_context", "add_{}_proj", "norm_added_{}", "to_add_out", "ff_context"))
    for stream, norm, head, scale, out, mlp in streams:
        r.move(f"{old}.{norm}.linear", f"{new}.{stream}_mod.lin")
        r.join([f"{old}.attn.{head.format(x)}" for x in "qkv"], f"{new}.{stream}_attn.qkv")
        for x, name in (("q", "query"), ("k", "key")):
            r.made[f"{new}.{stream}_attn.norm.{name}_norm.scale"] = r.one(f"{old}.attn.{scale.format(x)}.weight")
        r.move(f"{old}.attn.{out}", f"{new}.{stream}_attn.proj")
        r.move(f"{old}.{mlp}.net.0.proj", f"{new}.{stream}_mlp.0")
        r.move(f"{old}.{mlp}.net.2", f"{new}.{stream}_mlp.2")


def _single(r, old, new):
    r.move(f"{old}.norm.linear", f"{new}.modulation.lin")
    r.join([*(f"{old}.attn.to_{x}" for x in "qkv"), f"{old}.proj_mlp"], f"{new}.linear1")
    r.move(f"{old}.proj_out", f"{new}.linear2")
    for x, name in (("q", "query"), ("k", "key")):
        r.made[f"{new}.norm.{name}_norm.scale"] = r.one(f"{old}.attn.norm_{x}.weight")


def mmdit(tensors, prefix="model.diffusion_model."):
    """SD3Transformer2DModel to the original."""
    r = Renamer(tensors)
    r.move("pos_embed.proj", "x_embedder.proj")
    r.made["pos_embed"] = r.one("pos_embed.pos_embed")
    r.move("context_embedder", "context_embedder")
    for ours, theirs in (("timestep_embedder", "t_embedder"), ("text_embedder", "y_embedder")):
        r.move(f"time_text_embed.{ours}.linear_1", f"{theirs}.mlp.0")
        r.move(f"time_text_embed.{ours}.linear_2", f"{theirs}.mlp.2")
    blocks = r.count(r"transformer_blocks\.(\d+)")
    for i in range(blocks):
        _joint(r, f"transformer_blocks.{i}", f"joint_blocks.{i}", i == blocks - 1)
    r.swap("norm_out.linear", "final_layer.adaLN_modulation.1")
    r.move("proj_out", "final_layer.linear")
    return {prefix + k: v for k, v in r.finish().items()}


def _joint(r, old, new, last):
    streams = (("x_block", "norm1", "to_{}", "norm_{}", "to_out.0", "ff"),
               ("context_block", "norm1_context", "add_{}_proj", "norm_added_{}", "to_add_out", "ff_context"))
    for stream, norm, head, scale, out, mlp in streams:
        # the last context block has no way on: only (shift, scale) are left of its modulation
        turn = r.swap if last and stream == "context_block" else r.move
        turn(f"{old}.{norm}.linear", f"{new}.{stream}.adaLN_modulation.1")
        r.join([f"{old}.attn.{head.format(x)}" for x in "qkv"], f"{new}.{stream}.attn.qkv")
        for x in "qk":
            r.move(f"{old}.attn.{scale.format(x)}", f"{new}.{stream}.attn.ln_{x}")
        r.move(f"{old}.attn.{out}", f"{new}.{stream}.attn.proj")
        r.move(f"{old}.{mlp}.net.0.proj", f"{new}.{stream}.mlp.fc1")
        r.move(f"{old}.{mlp}.net.2", f"{new}.{stream}.mlp.fc2")


ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}


def autoencoder(tensors, levels, prefix="", encoder=False):
    """AutoencoderKL to the original; the decoder alone unless asked."""
    made = {}
    for name, tensor in tensors.items():
        side, rest = name.split(".", 1)
        if side == "decoder" or encoder:
            new = _ldm(rest.split("."), levels).replace("conv_shortcut", "nin_shortcut")
            if ".attn_1." in new and new.endswith("weight") and ".norm." not in new:
                tensor = tensor[:, :, None, None]
            made[f"{prefix}{side}.{new}"] = tensor
    return made


def _ldm(parts, levels):
    """The original name of a tensor of one side; levels of the decoder are counted from the picture down."""
    head, *rest = parts
    if head in ("conv_in", "conv_out"):
        return ".".join(parts)
    if head == "conv_norm_out":
        return f"norm_out.{rest[0]}"
    if head == "mid_block" and rest[0] == "resnets":
        return f"mid.block_{int(rest[1]) + 1}." + ".".join(rest[2:])
    if head == "mid_block":
        return f"mid.attn_1.{ATTENTION[rest[2]]}.{rest[-1]}"
    up, number = head == "up_blocks", int(rest[0])
    level = f"up.{levels - 1 - number}" if up else f"down.{number}"
    if rest[1] == "resnets":
        return f"{level}.block.{rest[2]}." + ".".join(rest[3:])
    return f"{level}.{'upsample' if up else 'downsample'}.conv.{rest[-1]}"


def t5(tensors):
    """T5EncoderModel: the table once."""
    return {k: v for k, v in tensors.items() if "embed_tokens" not in k}


def clip(tensors):
    """CLIPTextModel with or without a projection, below text_model whatever the library's version calls it."""
    made = {}
    for name, tensor in tensors.items():
        if "position_ids" not in name:
            outside = name.startswith(("text_model.", "text_projection"))
            made[name if outside else f"text_model.{name}"] = tensor
    return made
