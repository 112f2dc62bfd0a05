"""Recipes: every size and budget of a training run, by the machine that it is for."""

import copy

AUTOENCODERS = {
    # ch and ch_mult as the original configuration writes 32, 48, 96, 128: the decoder alone is shipped
    "large": dict(ch=16, ch_mult=[2, 3, 6, 8], num_res_blocks=1, norm_groups=8, z_channels=16),
    "small": dict(ch=32, ch_mult=[1, 1, 2, 3], num_res_blocks=1, norm_groups=8, z_channels=16),
    "least": dict(ch=8, ch_mult=[1, 1, 2, 2], num_res_blocks=1, norm_groups=8, z_channels=16),
}


def _t5(width, inner):
    return dict(d_model=width, d_kv=32, d_ff=inner, num_layers=2, num_heads=width // 32, feed_forward_proj="gated-gelu")


def _clip(width, act):
    return dict(hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=width // 32,
                hidden_act=act)


def _flux(hidden, double, single, t5, clip):
    return dict(size=None, t5=_t5(t5, 2 * t5), clip=_clip(clip, "quick_gelu"),
                transformer=dict(in_channels=64, hidden_size=hidden, num_heads=hidden // 32, depth=double,
                                 depth_single_blocks=single, axes_dim=[8, 12, 12], context_in_dim=t5, vec_in_dim=clip,
                                 mlp_ratio=4, theta=10000, guidance_embed=False))


def _sd3(depth, t5, clip_l, clip_g, largest):
    return dict(size=None, t5=_t5(t5, 2 * t5), clip_l=_clip(clip_l, "quick_gelu"), clip_g=_clip(clip_g, "gelu"),
                transformer=dict(depth=depth, head_size=32, in_channels=16, patch_size=2, context_in_dim=t5,
                                 vec_in_dim=clip_l + clip_g, pos_embed_max_size=largest // 16, qk_norm="rms"))


RECIPES = {
    "gpu": dict(
        concepts=224, styles=3, length=32, autoencoder=AUTOENCODERS["large"], bank=1_000_000, processes=16,
        flux=_flux(256, 3, 6, 256, 128) | dict(size=256), sd3=_sd3(5, 192, 64, 96, 256) | dict(size=128),
        minutes=dict(autoencoder=2.5, decoder=0, judge=1.0, text=0.6, flow=8.0, straighten=4.0),
        batch=dict(autoencoder=48, judge=192, text=512, flow=512, straighten=512, sample=512),
        pool=49_152, fresh=128, fresh_every=1, crop=128, judged=16_384, pairs=150_000, prompts=2000, compile=True, tf32=True),
    "cpu": dict(
        concepts=56, styles=1, length=24, autoencoder=AUTOENCODERS["small"], bank=150_000, processes=1,
        flux=_flux(192, 2, 4, 128, 64) | dict(size=128), sd3=_sd3(4, 128, 32, 64, 128) | dict(size=128),
        minutes=dict(autoencoder=60, decoder=30, judge=12, text=6, flow=420, straighten=120),
        batch=dict(autoencoder=16, judge=48, text=128, flow=64, straighten=64, sample=32),
        pool=6144, fresh=24, fresh_every=6, crop=64, judged=2400, pairs=6000, prompts=500, compile=True, tf32=False),
    "smoke": dict(
        concepts=6, styles=1, length=24, autoencoder=AUTOENCODERS["least"], bank=400, processes=1,
        flux=_flux(64, 1, 1, 64, 32) | dict(size=64), sd3=_sd3(2, 128, 32, 64, 64) | dict(size=64),
        minutes=dict(autoencoder=0.1, decoder=0.1, judge=0.1, text=0.1, flow=0.1, straighten=0.1),
        batch=dict(autoencoder=4, judge=8, text=32, flow=8, straighten=8, sample=8),
        pool=64, fresh=8, fresh_every=4, crop=32, judged=24, pairs=16, prompts=8, compile=False, tf32=False),
}
FAMILIES = ("flux", "sd3")
STEPS = 4


def named(name):
    """A recipe of one's own to change."""
    return copy.deepcopy(RECIPES[name])
