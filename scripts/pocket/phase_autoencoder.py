"""The autoencoder: first also on crops about objects, then on whole pictures, whose norms see other statistics."""

import math

import torch
import torch.nn.functional as F

import keeping
import models
import muon
import painter
import recipe as recipes
import scenes
from studio import say

NOISE = 0.1  # added to latents: the decoder must bear what a transformer gets slightly wrong
WHOLE = 0.5  # share of the budget after which only whole pictures are shown
RATE = 2e-3


def edges(x):
    """Differences to the right and down: flat areas stay flat, edges stay sharp."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def latents(model, pictures):
    """Latents as the encoder means them: (batch, 16, side / 8, side / 8), the first three of them the mean colour of their square
    whatever the encoder says, because one that is free to choose made pink and white, purple and gray nearly the same."""
    learned = model.encode(pictures).latent_dist.mean.float()
    return torch.cat([F.avg_pool2d(pictures.float(), models.FACTOR), learned[:, 3:]], 1)


def loss(model, x):
    """Absolute, squared and edge errors, and a pull of the latents towards zero."""
    mean = latents(model, x)
    back = model.decode(mean + NOISE * torch.randn_like(mean)).sample.float()
    sharp = sum((a - b).abs().mean() for a, b in zip(edges(back), edges(x)))
    plain = (back - x).abs().mean()
    return plain + 0.5 * F.mse_loss(back, x) + 0.5 * sharp + 2e-3 * (mean.float() ** 2).mean(), plain.item()


def _crop(pictures, rows, side):
    """A square of each picture about one of its objects: plain ground has little to teach."""
    size, place = pictures.shape[-1], rows["place"].view(len(pictures), scenes.MOST, 3)
    slot = (torch.rand(rows["kind"].shape, device=pictures.device) * (rows["kind"] >= 0)).argmax(1)
    centre = (place[torch.arange(len(place), device=place.device), slot, :2] + 1) / 2 * size
    away = (torch.rand_like(centre) - 0.5) * side / 2
    corner = ((centre - side / 2 + away) / 8).round().clamp(0, (size - side) // 8) * 8
    return torch.stack([x[:, b:b + side, a:a + side] for x, (a, b) in zip(pictures, corner.int().tolist())])


def _pictures(studio, rows, whole):
    """A batch of crops of any family's size, or of whole pictures."""
    sizes = sorted({studio.recipe[f]["size"] for f in recipes.FAMILIES})
    size = sizes[torch.randint(len(sizes), (1,)).item()]
    count, side = studio.recipe["batch"]["autoencoder"], min(size, studio.recipe["crop"])
    picked = studio.pick(rows, max(2, count * side**2 // size**2) if whole else count)
    pictures = studio.painter(size).paint(picked)
    return pictures if whole else _crop(pictures, picked, side)


def learn(steppers, model, cost, rate):
    """One step of all optimisers at one rate."""
    for stepper in steppers:
        stepper.zero_grad()
        for group in stepper.param_groups:
            group["lr"] = rate
    cost.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for stepper in steppers:
        stepper.step()


def optimisers(model):
    """Muon for the kernels, AdamW for the rest."""
    kernels = [p for p in model.parameters() if p.ndim > 1 and min(p.flatten(1).shape) >= 16]
    rest = [p for p in model.parameters() if not any(p is k for k in kernels)]
    return [torch.optim.AdamW(rest, RATE, betas=(0.9, 0.95), weight_decay=1e-4), muon.Muon(kernels, RATE, weight_decay=1e-4)]


@torch.no_grad()
def measure(studio, model, rows):
    """Shift and scale that make latents of mean 0 and deviation 1, and the error of the round trip."""
    seen, error, count = [], 0.0, 0
    for _ in range(8):
        x = studio.painter(studio.largest).paint(studio.pick(rows, 32 if studio.device.type == "cuda" else 8))
        mean = latents(model, x)
        back = model.decode(mean).sample.clamp(-1, 1)
        seen.append(mean)
        error, count = error + F.mse_loss(back, x).item(), count + 1
    z = torch.cat(seen)
    return dict(shift=z.mean().item(), scale=1 / z.std().item(), psnr=10 * math.log10(4 / (error / count)))


def load(studio):
    """The trained autoencoder and its latents' shift and scale."""
    state = keeping.read(studio.path("autoencoder.pt"), studio.device)
    assert state and state["facts"], "train the autoencoder first"
    model = models.autoencoder(studio.recipe["autoencoder"]).to(studio.device)
    model.load_state_dict(state["model"])
    return model.eval().requires_grad_(False), state["facts"]


@torch.no_grad()
def encode(model, facts, pictures):
    """Pictures to latents of mean 0 and deviation 1."""
    return (latents(model, pictures) - facts["shift"]) * facts["scale"]


@torch.no_grad()
def decode(model, facts, latents):
    """Latents to pictures."""
    return model.decode(latents / facts["scale"] + facts["shift"]).sample.float().clamp(-1, 1)


def run(studio, _family, minutes):
    """Trains until the budget is spent; then measures."""
    path, rows = studio.path("autoencoder.pt"), studio.bank(min(studio.recipe["bank"], 100_000), salt=1)
    model = models.autoencoder(studio.recipe["autoencoder"]).to(studio.device)
    if studio.device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)
    steppers = optimisers(model)
    state = keeping.read(path, studio.device) or dict(step=0, spent=0.0, facts=None)
    if "model" in state:
        model.load_state_dict(state["model"])
        for stepper, kept in zip(steppers, state.get("optimisers") or []):
            stepper.load_state_dict(kept)
        say(f"goes on at step {state['step']}, {state['spent'] / 60:.1f} minutes in")
    budget, step, first, mean = keeping.Budget(minutes, state["spent"]), state["step"], state["step"], None

    def save(facts=None):
        keeping.write(path, dict(model=model.state_dict(), optimisers=[o.state_dict() for o in steppers], step=step,
                                 spent=budget.spent, facts=facts))

    while budget.left():
        x = _pictures(studio, rows, step % 2 == 0 or budget.share > WHOLE)
        with studio.half():
            cost, plain = loss(model, x)
        learn(steppers, model, cost, RATE * budget.rate(step - first, fall=0.7))
        step, mean = step + 1, plain if mean is None else 0.97 * mean + 0.03 * plain
        if step % 50 == 0:
            say(f"autoencoder {step}: mean error {mean:.4f}, {budget.share:.0%} of the budget")
        if budget.due():
            save()
    facts = measure(studio, model.eval(), rows)
    save(facts)
    x = studio.painter(studio.largest).paint(studio.pick(rows, 8))
    painter.save_sheet(torch.cat([x, decode(model, facts, encode(model, facts, x))]), studio.path("autoencoder.png"))
    say(f"autoencoder {'done' if budget.share >= 1 else 'paused'} at step {step}: {facts}")
