"""The decoder alone: it goes on learning while the encoder, and with it every latent, stays as it is.

A flow can be trained meanwhile, because it sees latents only. What stands on the ground counts more than the ground, which
the decoder knows by now.
"""

import torch
import torch.nn.functional as F

import keeping
import marks
import painter
import phase_autoencoder
from studio import say

GROUND, APART, REACH = 0.25, 0.05, 9  # weight of plain ground; what differs from it; pixels about what stands on it
RATE = 1e-3


def weights(pictures):
    """1 where something stands and close to it, `GROUND` elsewhere: (batch, 1, side, side)."""
    base = marks.border(pictures) * 2 - 1
    away = ((pictures - base[:, :, None, None]).abs().amax(1, keepdim=True) > 2 * APART).float()
    near = F.max_pool2d(away, REACH, 1, REACH // 2)
    return GROUND + (1 - GROUND) * near


def loss(model, latents, pictures):
    """Absolute, squared and edge errors by weight."""
    noisy = latents + phase_autoencoder.NOISE * torch.randn_like(latents)
    back, weight = model.decode(noisy).sample.float(), weights(pictures)
    error = back - pictures
    plain = (error.abs() + 0.5 * error**2).mul(weight).mean() / weight.mean()
    sharp = sum((e.abs() * w).mean() / w.mean() for e, w in zip(phase_autoencoder.edges(error), (weight[..., 1:], weight[..., 1:, :])))
    return plain + 0.5 * sharp, error.abs().mean().item()


class Pool:
    """Pictures with their latents, each looked at several times, the oldest replaced all the time."""

    def __init__(self, studio, rows, model):
        self.studio, self.rows, self.model, self.slot = studio, rows, model, 0
        self.easel, self.count = studio.painter(studio.largest), studio.recipe["judged"] // 2
        self.part = max(2, studio.recipe["batch"]["autoencoder"] // 8)
        shape = (self.count, 3, studio.largest, studio.largest)
        self.pictures = torch.empty(shape, dtype=torch.bfloat16, device=studio.device)
        self.latents = None
        while self.slot + self.part <= self.count:
            self.refill()

    @torch.no_grad()
    def refill(self):
        """Replaces the oldest pictures."""
        if self.slot + self.part > self.count:
            self.slot = 0
        here, fresh = slice(self.slot, self.slot + self.part), self.easel.paint(self.studio.pick(self.rows, self.part))
        with self.studio.half():
            latents = phase_autoencoder.latents(self.model, fresh)
        if self.latents is None:
            self.latents = torch.empty(self.count, *latents.shape[1:], device=latents.device)
        self.pictures[here], self.latents[here] = fresh, latents
        self.slot += self.part

    def batch(self, count):
        """Latents and pictures."""
        index = torch.randint(0, self.count, (count,), device=self.pictures.device)
        return self.latents[index], self.pictures[index].float()


def run(studio, _family, minutes):
    """Trains until the budget is spent; then measures and writes the whole autoencoder."""
    path, shared = studio.path("decoder.pt"), studio.path("autoencoder.pt")
    whole = keeping.read(shared, studio.device)
    state = keeping.read(path, studio.device) or dict(decoder=None, step=0, spent=0.0, optimisers=[])
    model, facts = phase_autoencoder.load(studio)
    if state["decoder"]:
        model.decoder.load_state_dict(state["decoder"])
    model.decoder.requires_grad_(True).train()
    rows = studio.bank(min(studio.recipe["bank"], 100_000), salt=6 + state["step"] % 1000)
    steppers = phase_autoencoder.optimisers(model.decoder)
    for stepper, kept in zip(steppers, state["optimisers"]):
        stepper.load_state_dict(kept)
    pool, budget, step, mean = Pool(studio, rows, model), keeping.Budget(minutes, state["spent"]), state["step"], None
    first, count = step, max(2, studio.recipe["batch"]["autoencoder"] // 4)

    def save():
        keeping.write(path, dict(decoder=model.decoder.state_dict(), step=step, spent=budget.spent,
                                 optimisers=[o.state_dict() for o in steppers]))

    while budget.left():
        if step % 2 == 0:
            pool.refill()
        with studio.half():
            cost, plain = loss(model, *pool.batch(count))
        phase_autoencoder.learn(steppers, model.decoder, cost, RATE * budget.rate(step - first, fall=0.7))
        step, mean = step + 1, plain if mean is None else 0.97 * mean + 0.03 * plain
        if step % 50 == 0:
            say(f"decoder {step}: mean error {mean:.4f}, {budget.share:.0%} of the budget")
        if budget.due():
            save()
    save()
    measured = phase_autoencoder.measure(studio, model.eval(), rows)
    facts = facts | dict(psnr=measured["psnr"])
    keeping.write(shared, whole | dict(model=model.state_dict(), facts=facts))
    x = studio.painter(studio.largest).paint(studio.pick(rows, 8))
    again = phase_autoencoder.decode(model, facts, phase_autoencoder.encode(model, facts, x))
    painter.save_sheet(torch.cat([x, again]), studio.path("autoencoder.png"))
    say(f"decoder done at step {step}: {facts}")
