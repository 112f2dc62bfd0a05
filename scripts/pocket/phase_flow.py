"""The flow: velocities from noise to latents, most of them at the very noise levels at which pictures will be drawn."""

import torch
import torch.nn.functional as F

import keeping
import models
import muon
import painter
import phase_autoencoder
import phase_text
import recipe as recipes
from studio import say

AT_SIGMAS, DROPPED, TEXT_PACE, MATRIX_PACE, RATE = 0.7, 0.1, 0.3, 3.0, 1e-3
FIRST_MORE = (3, 3, 2, 2)  # weights of the schedule's levels: the noisiest decide what is drawn and where


def is_matrix(name, p):
    """What Muon steps: matrices inside the blocks."""
    return p.ndim == 2 and min(p.shape) >= 32 and "blocks" in name


def optimisers(model, rate):
    """Muon for the transformer's matrices, AdamW for the rest, the encoders at a third of the pace."""
    matrices = [p for n, p in model.net.named_parameters() if is_matrix(n, p)]
    rest = [p for n, p in model.net.named_parameters() if not is_matrix(n, p)]
    groups = [dict(params=rest, pace=1.0), *phase_text.groups(phase_text.encoders(model), TEXT_PACE)]
    first = torch.optim.AdamW(groups, rate, betas=(0.9, 0.98), weight_decay=1e-2)
    second = muon.Muon([dict(params=matrices, pace=MATRIX_PACE)], rate)
    return [first, second]


class Pool:
    """Latents with their captions, a few of them replaced all the time."""

    def __init__(self, studio, family, rows):
        self.studio, self.rows, self.slot = studio, rows, 0
        self.autoencoder, self.facts = phase_autoencoder.load(studio)
        if studio.device.type == "cuda":
            self.autoencoder.to(memory_format=torch.channels_last)
        self.easel, recipe = studio.painter(studio.recipe[family]["size"]), studio.recipe
        side = recipe[family]["size"] // models.FACTOR
        kind = torch.bfloat16 if studio.device.type == "cuda" else torch.float32
        self.latents = torch.empty(recipe["pool"], models.LATENT_CHANNELS, side, side, device=studio.device, dtype=kind)
        self.ids = torch.empty(recipe["pool"], recipe["length"], device=studio.device, dtype=torch.long)
        part = recipe["fresh"] if studio.device.type == "cpu" else 512
        for _ in range(-(-recipe["pool"] // part)):
            self.refill(part)
        say(f"pool: {recipe['pool']} latents, deviation {self.latents.float().std().item():.3f}")

    def refill(self, count):
        """Replaces the oldest `count` latents by new pictures'."""
        rows = self.studio.pick(self.rows, count)
        with self.studio.half():
            fresh = phase_autoencoder.encode(self.autoencoder, self.facts, self.easel.paint(rows))
        index = (self.slot + torch.arange(count, device=fresh.device)) % len(self.latents)
        self.latents[index], self.ids[index] = fresh.to(self.latents.dtype), rows["t5"].long()
        self.slot = (self.slot + count) % len(self.latents)

    def batch(self, count):
        """Latents and ids, some captions dropped."""
        index = torch.randint(0, len(self.latents), (count,), device=self.latents.device)
        return self.latents[index].float(), drop(self.ids[index])


def drop(ids):
    """One caption in ten becomes the empty one: the end token, then padding."""
    empty = torch.zeros_like(ids)
    empty[:, 0] = 1
    gone = torch.rand(len(ids), 1, device=ids.device) < DROPPED
    return torch.where(gone, empty, ids)


def times(model, count, device, at_sigmas=AT_SIGMAS):
    """Noise levels: mostly those of the schedule, else anywhere, the middle more often."""
    levels = torch.tensor(model.sigmas(recipes.STEPS)[:-1], device=device)
    t = torch.sigmoid(torch.randn(count, device=device) * 1.1)
    weights = torch.tensor(FIRST_MORE, device=device, dtype=torch.float32)
    chosen = levels[torch.multinomial(weights, count, replacement=True)]
    return torch.where(torch.rand(count, device=device) < at_sigmas, chosen, t)


def loss(studio, model, data, noise, ids, t):
    """Squared error of the velocity at x = (1 - t) data + t noise."""
    at = t[:, None, None, None]
    with studio.half():
        v = model.velocity((1 - at) * data + at * noise, t, *model.encode(ids))
    return F.mse_loss(v.float(), noise - data)


def compiled(studio, model):
    """Compiles the blocks; those of one kind share what was compiled. Not every class of diffusers does so itself."""
    if studio.recipe["compile"]:
        for name, block in model.net.named_modules():
            if name.rpartition(".")[0] in ("transformer_blocks", "single_transformer_blocks"):
                block.compile(dynamic=False)
    return model


def load_average(studio, family, *names):
    """The family's averaged weights from the first checkpoint that is there."""
    for name in names:
        state = keeping.read(studio.path(family, name), studio.device)
        if state:
            model = models.build(family, studio.recipe, studio.book).to(studio.device)
            model.load_state_dict(state["model"])
            with torch.no_grad():
                for p, kept in zip(model.parameters(), state["average"]):
                    p.copy_(kept)
            return model.eval(), state
    raise SystemExit(f"{family}: none of {names} in {studio.path(family)}")


SHEET = ["a fox left of a pizza on a yellow background", "a pizza left of a fox on a yellow background",
         "a cat above a rocket on a blue background", "a big frog on a pink background", "three apples on a white background",
         "a red circle left of a blue square on a white background", "an owl between a cactus and a car on an orange background",
         "a small panda below a banana on a striped green background"]


@torch.no_grad()
def draw(studio, model, autoencoder, facts, texts, steps, seed):
    """Pictures of captions; the noise is the processor's, so that it does not depend on the device."""
    side = studio.recipe[model.family]["size"] // models.FACTOR
    noise = torch.randn(len(texts), models.LATENT_CHANNELS, side, side, generator=torch.Generator().manual_seed(seed))
    ids = torch.tensor([studio.book.t5(studio.book.encode(t)) for t in texts], device=studio.device)
    batch, done = studio.recipe["batch"]["sample"], []
    for i in range(0, len(texts), batch):
        z = models.sample(model, ids[i:i + batch], noise[i:i + batch].to(studio.device), steps)
        done.append(phase_autoencoder.decode(autoencoder, facts, z))
    return torch.cat(done)


def show(studio, family, checkpoint):
    """A sheet of a few prompts at 4 and 16 steps with a checkpoint's averaged weights."""
    model, _ = load_average(studio, family, checkpoint)
    decoder = phase_autoencoder.load(studio)
    drawn = [draw(studio, model, *decoder, SHEET, n, 1) for n in (recipes.STEPS, 16)]
    painter.save_sheet(torch.cat(drawn), studio.path(family, checkpoint).with_suffix(".png"))


class Run:
    """A model in training with everything that is kept of it."""

    def __init__(self, studio, model, state, minutes, path, rate, **extra):
        self.extra, self.studio, self.model, self.path, self.rate = extra, studio, model, path, rate
        self.optimisers = optimisers(model, rate)
        if studio.device.type == "cpu":
            models.attend_plainly()
        self.average = keeping.Average(model.parameters())
        if "average" in state:
            self.average.kept = [k.to(studio.device) for k in state["average"]]
            self.average.steps = state["step"]
        if state.get("optimisers"):
            for o, kept in zip(self.optimisers, state["optimisers"]):
                o.load_state_dict(kept)
        self.step, self.first, self.seen = state["step"], state["step"], state["seen"]
        self.budget = keeping.Budget(minutes, state["spent"])
        if self.step:
            say(f"goes on at step {self.step}, {state['spent'] / 60:.1f} minutes in")

    def save(self):
        """Writes the checkpoint."""
        keeping.write(self.path, dict(
            model=self.model.state_dict(), average=self.average.kept, step=self.step, seen=self.seen,
            optimisers=[o.state_dict() for o in self.optimisers], spent=self.budget.spent, **self.extra))

    def learn(self, cost, count):
        """One step."""
        for o in self.optimisers:
            for group in o.param_groups:
                group["lr"] = self.rate * group["pace"] * self.budget.rate(self.step - self.first)
            o.zero_grad()
        cost.backward()
        torch.nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], 1.0)
        for o in self.optimisers:
            o.step()
        self.average.update()
        self.step, self.seen = self.step + 1, self.seen + count


def run(studio, family, minutes):
    """Trains until the budget is spent."""
    path = studio.path(family, "flow.pt")
    model = models.build(family, studio.recipe, studio.book).to(studio.device)
    state = keeping.read(path, studio.device)
    if state is None:
        text = keeping.read(studio.path(family, "text.pt"), studio.device)
        assert text, "teach the encoders first: train.py text"
        state = dict(model=text["model"], step=0, seen=0, spent=0.0)
    model.load_state_dict(state["model"])
    going = Run(studio, model, state, minutes, path, RATE)
    if not going.budget.left():
        say(f"flow of {family} is done: {going.seen} samples")
        return
    pool = Pool(studio, family, studio.bank(salt=4 + going.step % 1000))
    compiled(studio, model.train())
    count, mean, mark = studio.recipe["batch"]["flow"], None, (going.budget.spent, going.seen)
    while going.budget.left():
        if going.step % studio.recipe["fresh_every"] == 0:
            pool.refill(studio.recipe["fresh"])
        data, ids = pool.batch(count)
        cost = loss(studio, model, data, torch.randn_like(data), ids, times(model, count, studio.device))
        going.learn(cost, count)
        if going.step % 50 == 0:
            mean = cost.item() if mean is None else 0.8 * mean + 0.2 * cost.item()
            pace = (going.seen - mark[1]) / (going.budget.spent - mark[0])
            mark = going.budget.spent, going.seen
            say(f"flow {going.step}: loss {mean:.4f}, {going.seen} samples, {pace:.0f} a second, {going.budget.share:.0%}")
        if going.budget.due():
            going.save()
    going.save()
    show(studio, family, "flow.pt")
    say(f"flow {'done' if going.budget.share >= 1 else 'paused'}: {going.step} steps, {going.seen} samples")
