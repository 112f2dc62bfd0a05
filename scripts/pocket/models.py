"""The models: diffusers' and transformers' own classes in our sizes, and what the two families do differently.

    Flux   context = T5's states                       pooled = CLIP's
    Sd3    context = [CLIP-L | CLIP-G | 0 ; T5]        pooled = [CLIP-L | CLIP-G], each through its projection
"""

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel, SD3Transformer2DModel
from torch import nn
from transformers import (CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel)

LATENT_CHANNELS, FACTOR = 16, 8


def attend_plainly():
    """On a processor, attention by two products: over a hundred tokens the fused kernel's backward takes three times as long."""
    fused = nn.functional.scaled_dot_product_attention

    def attend(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **more):
        if attn_mask is not None or dropout_p or is_causal or more.get("enable_gqa") or query.shape[-2] > 256:
            return fused(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **more)
        weights = (query * (scale or query.shape[-1] ** -0.5)) @ key.mT
        return weights.softmax(-1).to(value.dtype) @ value

    nn.functional.scaled_dot_product_attention = attend


def autoencoder(sizes):
    """The autoencoder with its encoder."""
    levels = [sizes["ch"] * m for m in sizes["ch_mult"]]
    return AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * len(levels),
        up_block_types=("UpDecoderBlock2D",) * len(levels), block_out_channels=tuple(levels),
        layers_per_block=sizes["num_res_blocks"], latent_channels=sizes["z_channels"],
        norm_num_groups=sizes["norm_groups"], use_quant_conv=False, use_post_quant_conv=False)


def t5_encoder(sizes, rows):
    """A T5 encoder."""
    keys = ("d_model", "d_kv", "d_ff", "num_layers", "num_heads", "feed_forward_proj")
    return T5EncoderModel(T5Config(vocab_size=rows, dropout_rate=0.0, **{k: sizes[k] for k in keys}))


def clip_encoder(sizes, book_like, with_projection):
    """A CLIP text encoder; the pooled state is read at the first end token."""
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act")
    config = CLIPTextConfig(
        vocab_size=book_like["rows"], max_position_embeddings=book_like["length"], projection_dim=sizes["hidden_size"],
        bos_token_id=book_like["bos"], eos_token_id=book_like["eos"], pad_token_id=book_like["eos"],
        **{k: sizes[k] for k in keys})
    return (CLIPTextModelWithProjection if with_projection else CLIPTextModel)(config)


def vocabulary(book):
    """The numbers of a vocabulary that encoders are built from."""
    return dict(rows=book.embedding_rows, length=book.length, bos=book.bos, eos=book.eos)


def clip_ids(t5_ids, vocabulary, pad):
    """CLIP's ids from T5's: begin in front, the end token where T5 has its own, then `pad`."""
    shifted = torch.cat([torch.full_like(t5_ids[:, :1], vocabulary["bos"]), t5_ids[:, :-1]], 1)
    ended = torch.where(shifted == 1, vocabulary["eos"], shifted)
    ended = torch.where(shifted == 0, pad, ended)
    full = (ended == vocabulary["eos"]).any(1, keepdim=True)
    last = torch.where(full, ended[:, -1:], vocabulary["eos"])
    return torch.cat([ended[:, :-1], last], 1)


class Flux(nn.Module):
    """The FLUX family: T5 and CLIP beside a transformer of double and single blocks."""

    family = "flux"

    def __init__(self, sizes, words):
        super().__init__()
        self.words, self.size, t = words, sizes["size"], sizes["transformer"]
        self.net = FluxTransformer2DModel(
            patch_size=1, in_channels=t["in_channels"], num_layers=t["depth"], num_single_layers=t["depth_single_blocks"],
            attention_head_dim=t["hidden_size"] // t["num_heads"], num_attention_heads=t["num_heads"],
            joint_attention_dim=t["context_in_dim"], pooled_projection_dim=t["vec_in_dim"], guidance_embeds=False,
            axes_dims_rope=tuple(t["axes_dim"]))
        self.t5 = t5_encoder(sizes["t5"], words["rows"])
        self.clip = clip_encoder(sizes["clip"], words, False)

    def encode(self, ids):
        """Context and pooled state of T5 ids (batch, length)."""
        return self.t5(ids)[0], self.clip(clip_ids(ids, self.words, self.words["eos"])).pooler_output

    def velocity(self, x, t, context, pooled):
        """The predicted velocity; t from 1 (noise) to 0."""
        b, c, h, w = x.shape
        packed = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, c * 4)
        rows, columns = torch.meshgrid(torch.arange(h // 2), torch.arange(w // 2), indexing="ij")
        places = torch.stack([torch.zeros_like(rows), rows, columns], -1).reshape(-1, 3).to(x.device, torch.float32)
        out = self.net(hidden_states=packed, timestep=t, guidance=None, pooled_projections=pooled,
                       encoder_hidden_states=context, txt_ids=torch.zeros(context.shape[1], 3, device=x.device),
                       img_ids=places, return_dict=False)[0]
        return out.view(b, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)

    @staticmethod
    def sigmas(steps):
        """Noise levels of a schedule of `steps`, 0 last: even, as schnell's."""
        return [1 - i / steps for i in range(steps)] + [0.0]


class Sd3(nn.Module):
    """The SD3 family: three encoders beside the MMDiT."""

    family = "sd3"

    def __init__(self, sizes, words):
        super().__init__()
        self.words, self.size, t = words, sizes["size"], sizes["transformer"]
        self.net = SD3Transformer2DModel(
            sample_size=sizes["size"] // FACTOR, patch_size=2, in_channels=t["in_channels"], num_layers=t["depth"],
            attention_head_dim=t["head_size"], num_attention_heads=t["depth"], joint_attention_dim=t["context_in_dim"],
            caption_projection_dim=t["depth"] * t["head_size"], pooled_projection_dim=t["vec_in_dim"],
            out_channels=t["in_channels"], pos_embed_max_size=t["pos_embed_max_size"], qk_norm="rms_norm")
        self.t5 = t5_encoder(sizes["t5"], words["rows"])
        self.clip_l = clip_encoder(sizes["clip_l"], words, True)
        self.clip_g = clip_encoder(sizes["clip_g"], words, True)
        # The published CLIP-L's projection is the identity, and programs leave it out.
        nn.init.eye_(self.clip_l.text_projection.weight).requires_grad_(False)

    def encode(self, ids):
        """Context and pooled state; CLIP-G's padding is id 0, CLIP-L's the end token, as in the published pipeline."""
        left = self.clip_l(clip_ids(ids, self.words, self.words["eos"]), output_hidden_states=True)
        right = self.clip_g(clip_ids(ids, self.words, 0), output_hidden_states=True)
        far = self.t5(ids)[0]
        near = torch.cat([left.hidden_states[-2], right.hidden_states[-2]], -1)
        near = nn.functional.pad(near, (0, far.shape[-1] - near.shape[-1]))
        return torch.cat([near, far.to(near.dtype)], 1), torch.cat([left.text_embeds, right.text_embeds], -1)

    def velocity(self, x, t, context, pooled):
        """The predicted velocity; this family's timestep runs to 1000."""
        return self.net(hidden_states=x, timestep=t * 1000, encoder_hidden_states=context, pooled_projections=pooled,
                        return_dict=False)[0]

    @staticmethod
    def sigmas(steps, shift=3.0, train=1000):
        """Levels as diffusers' scheduler makes them: even between the shifted ends, then shifted once more."""
        bend = lambda s: shift * s / (1 + (shift - 1) * s)
        first, last = bend(1.0), bend(1 / train)
        even = [first + (last - first) * i / max(1, steps - 1) for i in range(steps)]
        return [bend(s) for s in even] + [0.0]


def build(family, recipe, book):
    """A family's model by a recipe, with random weights."""
    return {"flux": Flux, "sd3": Sd3}[family](recipe[family], vocabulary(book))


@torch.no_grad()
def sample(model, ids, noise, steps, guidance=1.0, empty=None):
    """Latents from noise by Euler steps; above guidance 1 also against the empty caption."""
    context, pooled = model.encode(ids)
    if guidance > 1:
        nothing = model.encode(empty[None].expand(len(ids), -1))
        context, pooled = torch.cat([context, nothing[0]]), torch.cat([pooled, nothing[1]])
    x, levels = noise, model.sigmas(steps)
    for now, then in zip(levels, levels[1:]):
        if guidance > 1:
            t = torch.full((2 * len(x),), now, device=x.device)
            with_, without = model.velocity(torch.cat([x, x]), t, context, pooled).float().chunk(2)
            v = without + guidance * (with_ - without)
        else:
            v = model.velocity(x, torch.full((len(x),), now, device=x.device), context, pooled).float()
        x = x + (then - now) * v
    return x
