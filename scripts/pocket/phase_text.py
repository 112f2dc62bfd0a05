"""The text phase: the encoders learn by plain classification what a caption says, before any picture.

Each noun's T5 state must tell its kind, colour, size, place and style, the background's its colour and pattern; the pooled
state must tell all of it at once. Without this the flow has to find out through pictures which colour belongs to which noun.
"""

import torch
import torch.nn.functional as F
from torch import nn

import bank
import keeping
import models
import scenes
import words
from studio import say

PACES = {"relative_attention_bias": 20.0, "shared": 5.0, "embed_tokens": 5.0}  # T5's large tables hardly move otherwise


def pace(name):
    """By how much a parameter of T5 steps more than others."""
    return next((v for k, v in PACES.items() if k in name), 1.0)


def groups(modules, base=1.0):
    """Parameters of encoders by their pace, as an optimiser's groups."""
    by_pace = {}
    for module in modules:
        for name, p in module.named_parameters():
            by_pace.setdefault(base * pace(name), []).append(p)
    return [dict(params=params, pace=p) for p, params in by_pace.items()]


def encoders(model):
    """A family's text encoders."""
    return [m for name, m in model.named_children() if name != "net"]


class Heads(nn.Module):
    """What is asked of a token's state and of the pooled state. They are thrown away afterwards."""

    def __init__(self, book, context, pooled):
        super().__init__()
        self.noun, self.ground = bank.label_sizes(book)
        kind, colour, size = self.noun[0] + 1, self.noun[1] + 1, self.noun[2] + 1
        self.whole = [len(scenes.NAMES), len(words.COLOURS), len(words.PATTERNS), book.styles] + [kind, colour, size] * 3
        self.of_noun, self.of_ground = nn.Linear(context, sum(self.noun)), nn.Linear(context, sum(self.ground))
        self.of_whole = nn.Linear(pooled, sum(self.whole))


def _ask(logits, sizes, answers):
    """Sum of the cross entropies of answers (n, len(sizes)); -1 is not asked."""
    total = logits.new_zeros(())
    for part, answer in zip(logits.float().split(sizes, -1), answers.unbind(-1)):
        if (answer >= 0).any():
            total = total + F.cross_entropy(part, answer, ignore_index=-1)
    return total


def loss(model, heads, rows):
    """Token and caption losses of rows of a bank."""
    context, pooled = model.encode(rows["t5"].long())
    states = context[:, -rows["t5"].shape[1]:]
    r = {k: v.long() for k, v in rows.items() if k.startswith(("noun", "ground", "layout"))}
    index = r["noun_end"].clamp(min=0)[:, :, None].expand(-1, -1, states.shape[-1])
    style = r["ground"][:, 2:].expand(-1, 3)
    colour = torch.where(r["noun_colour"] < 0, -1, r["noun_colour"])
    answers = torch.stack([r["noun_kind"], colour, r["noun_size"], r["noun_place"], style], -1)
    answers = torch.where((r["noun_end"] >= 0)[:, :, None], answers, -1)
    tokens = _ask(heads.of_noun(states.gather(1, index)).flatten(0, 1), heads.noun, answers.flatten(0, 1))
    end = r["ground_end"].clamp(min=0)[:, :, None].expand(-1, -1, states.shape[-1])
    ground = torch.where(r["ground_end"] >= 0, r["ground"][:, :2], -1)
    tokens = tokens + _ask(heads.of_ground(states.gather(1, end))[:, 0], heads.ground, ground)
    parts = [r["layout"], r["ground"]]
    for i in range(3):
        there = r["noun_kind"][:, i:i + 1] >= 0
        none = [heads.whole[4] - 1, heads.whole[5] - 1, heads.whole[6] - 1]
        values = [r["noun_kind"][:, i:i + 1], r["noun_colour"][:, i:i + 1], r["noun_size"][:, i:i + 1]]
        parts += [torch.where(there & (v >= 0), v, n) for v, n in zip(values, none)]
    return tokens, _ask(heads.of_whole(pooled), heads.whole, torch.cat(parts, 1))


def run(studio, family, minutes):
    """Trains the encoders until the budget is spent."""
    path, rows = studio.path(family, "text.pt"), studio.bank(min(studio.recipe["bank"], 200_000), salt=3)
    model = models.build(family, studio.recipe, studio.book).to(studio.device)
    sizes = studio.recipe[family]["transformer"]
    heads = Heads(studio.book, sizes["context_in_dim"], sizes["vec_in_dim"]).to(studio.device)
    learners = groups([*encoders(model), heads])
    optimiser = torch.optim.AdamW(learners, 2e-3, betas=(0.9, 0.98), weight_decay=1e-2)
    state = keeping.read(path, studio.device) or dict(step=0, spent=0.0)
    if "model" in state:
        model.load_state_dict(state["model"])
        if state["heads"]:
            heads.load_state_dict(state["heads"])
            optimiser.load_state_dict(state["optimiser"])
    budget, step, first = keeping.Budget(minutes, state["spent"]), state["step"], state["step"]

    def save():
        keeping.write(path, dict(model=model.state_dict(), heads=heads.state_dict(), optimiser=optimiser.state_dict(),
                                 step=step, spent=budget.spent))

    while budget.left():
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * group["pace"] * budget.rate(step - first)
        tokens, whole = loss(model, heads, studio.pick(rows, studio.recipe["batch"]["text"]))
        optimiser.zero_grad()
        (tokens + 0.5 * whole).backward()
        torch.nn.utils.clip_grad_norm_([p for g in learners for p in g["params"]], 1.0)
        optimiser.step()
        step += 1
        if step % 50 == 0:
            say(f"text {step}: tokens {tokens.item():.3f} of 7, captions {whole.item():.3f} of 13")
        if budget.due():
            save()
    save()
    say(f"text done at step {step}")
