"""Sizes of the models that the reference makes, and the prompts that it draws.

`TINY` runs in seconds and is what the tests use; `FULL` has the sizes of the published models.
"""

TINY = dict(
    size=(64, 64), t5_len=256, clip_vocab=1024, t5_vocab=1100,
    clip_l=dict(hidden=32, inter=64, layers=3, heads=2, proj=32, act="quick_gelu"),
    clip_g=dict(hidden=24, inter=96, layers=4, heads=3, proj=24, act="gelu"),
    t5=dict(d_model=64, d_kv=8, heads=4, d_ff=128, layers=3),
    flux=dict(hidden=64, heads=4, depth=2, single=3, axes=[4, 6, 6]),
    mmdit=dict(depth=3, head=16, pos=24),
    # `gain` puts some pixels beyond +-1, so that the clamp is tested.
    vae=dict(ch=32, mult=[1, 2, 1, 1], res=2, gain=1.2))

FULL = dict(
    size=(1024, 1024), t5_len=256, clip_vocab=49408, t5_vocab=32128,
    clip_l=dict(hidden=768, inter=3072, layers=12, heads=12, proj=768, act="quick_gelu"),
    clip_g=dict(hidden=1280, inter=5120, layers=32, heads=20, proj=1280, act="gelu"),
    t5=dict(d_model=4096, d_kv=64, heads=64, d_ff=10240, layers=24),
    flux=dict(hidden=3072, heads=24, depth=19, single=38, axes=[16, 56, 56]),
    mmdit=dict(depth=38, head=64, pos=192),
    vae=dict(ch=128, mult=[1, 2, 4, 4], res=2))

PRESETS = dict(tiny=TINY, full=FULL)

# Widths that K-quants divide, for the folder `gguf-k`; one that they do not divide, for `gguf-sd3`.
WIDE_FLUX = dict(TINY, t5=dict(d_model=256, d_kv=64, heads=4, d_ff=256, layers=1),
                 flux=dict(hidden=256, heads=2, depth=1, single=1, axes=[16, 56, 56]))
WIDE_SD3 = dict(TINY, mmdit=dict(depth=2, head=160, pos=8))

BASE = "a red circle left of a blue square on a white background"
SIGN = "A cute rusty robot holding a candle torch, neon text \"LETS GO RUSTY\""
SEED = 42

# Every case of a folder: prompt, steps, and what differs from the preset.
CASES = {
    "base": dict(prompt=BASE, steps=4),
    "wide": dict(prompt=SIGN, steps=2, wider=32),
    "empty": dict(prompt="", steps=1),
    "long": dict(prompt="an extremely detailed painting of a harbour at dawn, " * 40, steps=1),
    "unicode": dict(prompt="na\u00efve caf\u00e9 \u65e5\u672c\u8a9e \U0001f600 \ufb01 \u00bd \u0130stanbul", steps=1),
    "cfg": dict(prompt=BASE, negative=SIGN, guidance=4.0, steps=3),  # SD3 only
}
