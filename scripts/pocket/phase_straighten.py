"""Straightening: the model's own guided samples, in many steps, become the targets of a straight way in a few.

After rectified flow's second round (Liu et al., 2022). Guidance goes into the pairs, so that drawing needs none.
"""

import torch

import keeping
import models
import phase_flow
from studio import say

MANY, GUIDANCE, PAIRS_SHARE, AT_SIGMAS, RATE = 24, 2.5, 0.55, 0.8, 3e-4


def _noise(studio, family, number):
    """The noise of one batch of pairs, from a seed of its own: it is drawn again instead of kept."""
    count, side = studio.recipe["batch"]["sample"], studio.recipe[family]["size"] // models.FACTOR
    generator = torch.Generator().manual_seed(10_000 + number)
    return torch.randn(count, models.LATENT_CHANNELS, side, side, generator=generator).to(studio.device)


def _chunk(studio, family, teacher, rows, number):
    """One batch of samples with their captions."""
    noise = _noise(studio, family, number)
    first = number * len(noise) % (len(rows["t5"]) - len(noise))
    ids = rows["t5"][first:first + len(noise)].long()
    empty = torch.zeros(ids.shape[1], dtype=torch.long, device=studio.device)
    empty[0] = 1
    with studio.half():
        made = models.sample(teacher, ids, noise, MANY, GUIDANCE, empty)
    return dict(made=made.bfloat16(), ids=ids.short())


def pairs(studio, family, teacher, folder, minutes):
    """All pairs there are time for; those of an earlier run are read again."""
    wanted = studio.recipe["pairs"]
    rows = studio.bank(min(studio.recipe["bank"], 300_000), salt=5)
    budget, found, number = keeping.Budget(minutes), [], 0
    while number * studio.recipe["batch"]["sample"] < wanted:
        path = folder / f"{number:05}.pt"
        chunk = keeping.read(path, studio.device)
        if chunk is None:
            if found and not budget.left():
                break
            chunk = _chunk(studio, family, teacher, rows, number)
            keeping.write(path, chunk)
        found.append(dict(chunk, noise=_noise(studio, family, number).bfloat16()))
        number += 1
        if number % 10 == 0:
            say(f"pairs: {sum(len(f['ids']) for f in found)} of {wanted}")
    joined = {k: torch.cat([f[k] for f in found]) for k in found[0]}
    say(f"pairs: {len(joined['ids'])}, deviation of the samples {joined['made'].float().std().item():.3f}")
    return joined


def _begin(studio, family, path):
    """The teacher, and where straightening stands: at its beginning whenever the flow went on meanwhile."""
    teacher, taught = phase_flow.load_average(studio, family, "flow.pt")
    state = keeping.read(path, studio.device)
    if state and state.get("taught") == taught["step"]:
        return teacher, state
    if state:
        say("the flow has gone on: straightening begins anew")
    fresh = dict(model=teacher.state_dict(), step=0, seen=0, spent=0.0, average=taught["average"], taught=taught["step"])
    return teacher, fresh


def run(studio, family, minutes):
    """Draws pairs for about half of the budget and trains for the rest; the encoders stay as they are."""
    path = studio.path(family, "straight.pt")
    teacher, state = _begin(studio, family, path)
    start, folder = keeping.Budget(minutes), studio.path(family, f"pairs-{state['taught']}")
    drawing = 0 if state["step"] and folder.exists() else (minutes - state["spent"] / 60) * PAIRS_SHARE
    found = pairs(studio, family, phase_flow.compiled(studio, teacher), folder, drawing)
    state["spent"] += start.spent if drawing else 0.0
    del teacher
    model = models.build(family, studio.recipe, studio.book).to(studio.device)
    model.load_state_dict(state["model"])
    going = phase_flow.Run(studio, model, state, minutes, path, RATE, taught=state["taught"])
    for encoder in phase_flow.phase_text.encoders(model):
        encoder.requires_grad_(False)
    phase_flow.compiled(studio, model.train())
    count = studio.recipe["batch"]["straighten"]
    while going.budget.left():
        index = torch.randint(0, len(found["ids"]), (count,), device=studio.device)
        data, noise, ids = found["made"][index].float(), found["noise"][index].float(), found["ids"][index].long()
        t = phase_flow.times(model, count, studio.device, AT_SIGMAS)
        going.learn(phase_flow.loss(studio, model, data, noise, ids, t), count)
        if going.step % 50 == 0:
            say(f"straighten {going.step}: {going.seen} samples, {going.budget.share:.0%}")
        if going.budget.due():
            going.save()
    going.save()
    phase_flow.show(studio, family, "straight.pt")
    say(f"straighten done: {going.step} steps, {going.seen} samples")
