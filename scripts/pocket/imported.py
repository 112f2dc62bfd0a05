"""Exported folders, read back with diffusers' and transformers' own classes and converters: version 1's too."""

import inspect
import json
from pathlib import Path

import torch
from diffusers.loaders import single_file_utils as converters
from safetensors.torch import load_file

import models
import tokenizer
from studio import say


def _flux_converter(hidden):
    """diffusers' converter, whose only hard-wired size is replaced by ours."""
    source = inspect.getsource(converters.convert_flux_transformer_checkpoint_to_diffusers)
    assert "inner_dim = 3072" in source, "diffusers changed its converter"
    space = dict(vars(converters))
    exec(source.replace("inner_dim = 3072", f"inner_dim = {hidden}"), space)
    return space["convert_flux_transformer_checkpoint_to_diffusers"]


def _gguf(path):
    """A GGUF file's tensors, widened to f32."""
    import gguf

    found = {}
    for tensor in gguf.GGUFReader(path).tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        found[tensor.name] = torch.from_numpy(values.copy()).reshape(*reversed(tensor.shape.tolist()))
    return found


def _file(folder, *names):
    """The first of some files, in f32."""
    for name in names:
        path = folder / name
        if path.exists():
            found = _gguf(path) if path.suffix == ".gguf" else load_file(path)
            return {k: v.float() for k, v in found.items()}
    raise SystemExit(f"{folder}: none of {names}")


def _clip(module, tensors):
    """CLIP's tensors under the names that this version of the library has."""
    if not any(k.startswith("text_model.") for k in module.state_dict()):
        tensors = {k.removeprefix("text_model."): v for k, v in tensors.items()}
    module.load_state_dict(tensors)


class Folder:
    """A model of a folder: tokens in, pictures out, everything by the reference's classes."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.config = c = json.loads((self.folder / "config.json").read_text())
        clips = [c[k] for k in ("clip", "clip_l") if k in c]
        rows = c["t5"]["vocab_size"]
        self.words = dict(rows=rows, length=c["t5"]["length"], bos=clips[0]["bos"], eos=clips[0]["eos"])
        sizes = {k: c[k] for k in ("transformer", "t5", "clip", "clip_l", "clip_g") if k in c} | dict(size=c["image_size"])
        self.model = {"flux": self._flux, "sd3": self._sd3}[c["family"]](sizes).eval().requires_grad_(False)
        self.ids = tokenizer.reader(self.folder, "t5", c["t5"]["length"], 0)

    def _flux(self, sizes):
        clip = _file(self.folder, "clip_l.safetensors")
        table = "text_model.embeddings.token_embedding.weight"
        model = models.Flux(sizes, dict(self.words, rows=len(clip[table])))
        t5 = _file(self.folder, "t5.safetensors")
        model.t5 = models.t5_encoder(sizes["t5"], len(t5["shared.weight"]))
        net = _file(self.folder, "flux1-schnell.safetensors", "flux1-schnell.gguf")
        model.net.load_state_dict(_flux_converter(sizes["transformer"]["hidden_size"])(net))
        model.t5.load_state_dict(t5 | {"encoder.embed_tokens.weight": t5["shared.weight"]})
        _clip(model.clip, clip)
        self.decoder = self._decoder(_file(self.folder, "ae.safetensors"))
        return model

    def _sd3(self, sizes):
        model = models.Sd3(sizes, self.words)
        one = _file(self.folder, "sd3.5_large_turbo.safetensors")
        net = {k: v for k, v in one.items() if k.startswith("model.diffusion_model.")}
        model.net.load_state_dict(converters.convert_sd3_transformer_checkpoint_to_diffusers(net))
        t5 = _file(self.folder, "t5xxl.safetensors")
        model.t5.load_state_dict(t5 | {"encoder.embed_tokens.weight": t5["shared.weight"]})
        for name in ("clip_l", "clip_g"):
            _clip(getattr(model, name), _file(self.folder, f"text_encoders/{name}.safetensors"))
        self.decoder = self._decoder({k: v for k, v in one.items() if k.startswith("first_stage_model.")})
        return model

    def _decoder(self, tensors):
        """The autoencoder with whatever sides the file has."""
        sizes = self.config["autoencoder"]
        made = models.autoencoder(sizes)
        levels = [sizes["ch"] * m for m in sizes["ch_mult"]]
        facts = dict(down_block_types=levels, up_block_types=levels, layers_per_block=sizes["num_res_blocks"],
                     block_out_channels=tuple(levels))
        if not any("encoder." in k for k in tensors):
            prefix = "first_stage_model." if any(k.startswith("first_stage") for k in tensors) else ""
            tensors = tensors | {f"{prefix}{k}": v for k, v in _no_encoder(made, len(levels)).items()}
        made.load_state_dict(converters.convert_ldm_vae_checkpoint(tensors, facts))
        return made.eval().requires_grad_(False)

    def to(self, device):
        """Moves everything."""
        self.model.to(device)
        self.decoder.to(device)
        return self

    def tokens(self, texts):
        """T5's ids by the folder's tokenizer; CLIP's follow from them."""
        return torch.tensor([self.ids.encode(t).ids for t in texts])

    @torch.no_grad()
    def decode(self, latents):
        """Latents to pictures."""
        facts = self.config["latent"]
        return self.decoder.decode(latents / facts["scale_factor"] + facts["shift_factor"]).sample.clamp(-1, 1)

    @torch.no_grad()
    def draw(self, texts, steps, seed, batch=32):
        """Pictures of captions; noise from the processor's generator."""
        side, device = self.config["image_size"] // models.FACTOR, next(self.model.parameters()).device
        noise = torch.randn(len(texts), models.LATENT_CHANNELS, side, side, generator=torch.Generator().manual_seed(seed))
        ids, done = self.tokens(texts), []
        for i in range(0, len(texts), batch):
            part = slice(i, i + batch)
            done.append(self.decode(models.sample(self.model, ids[part].to(device), noise[part].to(device), steps)))
        return torch.cat(done)


def _no_encoder(module, levels):
    """Random tensors in place of an encoder that is not shipped, so that the converter finds what it expects."""
    import layouts

    made = layouts.autoencoder(module.state_dict(), levels, encoder=True)
    return {k: v for k, v in made.items() if k.startswith("encoder.")}


@torch.no_grad()
def compare(folder, model, autoencoder, book, exact):
    """The folder's model against the trained one: tensors to f16's rounding, ids alike."""
    back = Folder(folder)
    worst = 0.0
    pairs = [(back.model.state_dict(), model.state_dict()), (back.decoder.decoder.state_dict(), autoencoder.decoder.state_dict())]
    for ours, theirs in pairs:
        assert set(ours) == set(theirs)
        for name, tensor in theirs.items():
            distance = (ours[name].float() - tensor.float()).norm() / (tensor.float().norm() + 1e-12)
            worst = max(worst, distance.item())
    assert worst < (2e-3 if exact else 2e-2), f"the way back is off by {worst}"
    text = "A big fox, left-of a kitten on a yellow background!"
    assert back.tokens([text])[0].tolist() == book.t5(book.encode(text))
    clip = tokenizer.reader(Path(folder), "clip", book.length, book.eos)
    ids = torch.tensor([book.t5(book.encode(text))])
    assert clip.encode(text).ids == models.clip_ids(ids, models.vocabulary(book), book.eos)[0].tolist()
    assert clip.encode(text).ids == book.clip(book.encode(text))
    say(f"read back by diffusers: every tensor within {worst:.1e} of the trained one, ids alike")
