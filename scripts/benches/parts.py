"""Compares parts of models with torch on this processor: a JSON line for each, and one for the processor's peak.

    scripts/bench parts [--rounds N] [--only PART...]

Rounds alternate: each engine computes each part once in every round, on one thread. What counts is CPU time, so that
other programs disturb little. A ratio is the median over rounds of ours divided by the other's of the same round, with
the quartiles beside it. REFERENCE_PYTHON names a Python that has torch, diffusers and transformers; without it, only our
own parts are measured.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

# GFLOP of each part at 256 x 256 pixels, counted from the shapes: products, convolutions and attention.
PARTS = {"decode": 622, "t5": 25.8, "clip_l": 13.3, "flux_step": 48.8, "mmdit_step": 34.1}
MATRIX = 1024  # rows and columns of the matrices of `product`
GFLOP = PARTS | {"product": 2 * MATRIX**3 * 1e-9}
THREADS = {name: "1" for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}


class Ours:
    """The program `parts`, which computes what it reads a name of."""

    def __init__(self, program):
        self.child = subprocess.Popen(
            [program, "--bench"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | THREADS
        )

    def seconds(self, part):
        self.child.stdin.write(part + "\n")
        self.child.stdin.flush()
        return float(self.child.stdout.readline())


class Torch:
    """The same parts in torch, with random weights of the same shapes."""

    def __init__(self):
        import torch

        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        torch.manual_seed(0)
        self.torch, self.parts = torch, {}

    def seconds(self, part):
        if part not in self.parts:
            self.parts[part] = getattr(self, part)()
        before = time.process_time()
        self.parts[part]()
        return time.process_time() - before

    def decode(self):
        from diffusers import AutoencoderKL

        levels = 4
        model = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=16,
            down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
            use_quant_conv=False, use_post_quant_conv=False).eval()
        latents = self.torch.randn(1, 16, 32, 32)
        return lambda: model.decode(latents)

    def t5(self):
        from transformers import T5Config, T5EncoderModel

        config = T5Config(
            vocab_size=32128, d_model=1024, d_kv=64, d_ff=2560, num_layers=4, num_heads=16,
            feed_forward_proj="gated-gelu")
        model, ids = T5EncoderModel(config).eval(), self.torch.arange(1, 257)[None]
        return lambda: model(ids)

    def clip_l(self):
        from transformers import CLIPTextConfig, CLIPTextModel

        config = CLIPTextConfig(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        model, ids = CLIPTextModel(config).eval(), self.torch.arange(1, 78)[None]
        return lambda: model(ids)

    def flux_step(self):
        from diffusers import FluxTransformer2DModel

        model = FluxTransformer2DModel(
            in_channels=64, num_layers=2, num_single_layers=4, attention_head_dim=128, num_attention_heads=6,
            joint_attention_dim=1024, pooled_projection_dim=768, guidance_embeds=False,
            axes_dims_rope=(16, 56, 56)).eval()
        random, zeros = self.torch.randn, self.torch.zeros
        inputs = dict(
            hidden_states=random(1, 256, 64), encoder_hidden_states=random(1, 256, 1024),
            pooled_projections=random(1, 768), timestep=self.torch.tensor([0.5]),
            img_ids=zeros(256, 3), txt_ids=zeros(256, 3))
        return lambda: model(**inputs)

    def mmdit_step(self):
        from diffusers import SD3Transformer2DModel

        model = SD3Transformer2DModel(
            sample_size=32, in_channels=16, num_layers=8, attention_head_dim=64, num_attention_heads=8,
            joint_attention_dim=1024, caption_projection_dim=512, pooled_projection_dim=1024,
            pos_embed_max_size=64, qk_norm="rms_norm").eval()
        random = self.torch.randn
        inputs = dict(
            hidden_states=random(1, 16, 32, 32), encoder_hidden_states=random(1, 333, 1024),
            pooled_projections=random(1, 1024), timestep=self.torch.tensor([500.0]))
        return lambda: model(**inputs)

    def product(self):
        a, b = self.torch.randn(MATRIX, MATRIX), self.torch.randn(MATRIX, MATRIX)
        return lambda: a @ b


def rounded(value):
    return float(f"{value:.3g}")


def quartiles(values):
    if len(values) < 2:
        return [rounded(value) for value in values * 2]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return [rounded(first), rounded(third)]


def measured(arguments):
    """For each engine and part, the CPU seconds of every round; the first round warms up and is left out."""
    ours = Ours(arguments.program)
    engines = {"ours": ours.seconds}
    try:
        engines["torch"] = Torch().seconds
    except ImportError:
        print("bench: no torch in this Python, see REFERENCE_PYTHON", file=sys.stderr)
    times = {}
    for turn in range(arguments.rounds + 1):
        for part in ["product", *arguments.only]:
            names = ["ours", "stock"] if part == "decode" else ["ours"]
            for name in names + [name for name in engines if name != "ours"]:
                seconds = engines["torch"](part) if name == "torch" else ours.seconds(
                    "decode_stock" if name == "stock" else part)
                if turn:
                    times.setdefault((name, part), []).append(seconds)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the benchmark program of the worker")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    times = measured(arguments)
    speed = {key: GFLOP[key[1]] / min(seconds) for key, seconds in times.items()}
    peak = max(speed[key] for key in speed if key[1] == "product")
    products = {name: rounded(speed[name, "product"]) for name, part in speed if part == "product"}
    print(json.dumps({"bench": "peak", "product": MATRIX, "gflops": products, "peak_gflops": rounded(peak)}))
    for part in arguments.only:
        mine = times["ours", part]
        line = {"bench": "part", "part": part, "gflop": GFLOP[part], "rounds": arguments.rounds}
        line["ours_cpu_s"] = rounded(statistics.median(mine))
        line["share_of_peak"] = rounded(GFLOP[part] / statistics.median(mine) / peak)
        for name, other in ((name, seconds) for (name, of), seconds in times.items() if of == part and name != "ours"):
            ratios = [a / b for a, b in zip(mine, other)]
            line[f"{name}_cpu_s"] = rounded(statistics.median(other))
            line[f"ours_by_{name}"] = rounded(statistics.median(ratios))
            line[f"ours_by_{name}_quartiles"] = quartiles(ratios)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
