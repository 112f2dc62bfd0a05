"""The judge's training, on real pictures after the autoencoder's round trip."""

import torch

import judge
import keeping
import painter
import phase_autoencoder
from studio import say


USES = 12  # how often a picture is looked at before it is replaced, about


def round_trip(studio, autoencoder, facts):
    """Pictures as the decoder would draw them; one batch in six stays as it is."""
    def through(pictures):
        if torch.rand(()) < 1 / 6:
            return pictures
        with studio.half():
            return phase_autoencoder.decode(autoencoder, facts, phase_autoencoder.encode(autoencoder, facts, pictures))
    return through


class Pool:
    """Pictures after the round trip, each looked at several times, the oldest replaced all the time."""

    def __init__(self, studio, rows):
        self.studio, self.rows, self.slot = studio, rows, 0
        self.easel, self.through = studio.painter(studio.largest), round_trip(studio, *phase_autoencoder.load(studio))
        self.count, self.part = studio.recipe["judged"], max(2, studio.recipe["batch"]["judge"] // USES)
        self.picked = studio.pick(rows, self.count)
        shape = (self.count, 3, judge.SIDE, judge.SIDE)
        self.pictures = torch.empty(shape, dtype=torch.bfloat16, device=studio.device)
        self.gone = torch.zeros(self.picked["kind"].shape, dtype=torch.bool, device=studio.device)
        while self.slot + self.part <= self.count:
            self.refill()

    def refill(self):
        """Replaces the oldest pictures."""
        if self.slot + self.part > self.count:
            self.slot = 0
        here, fresh = slice(self.slot, self.slot + self.part), self.studio.pick(self.rows, self.part)
        self.pictures[here], self.gone[here] = judge.stage(self.easel, fresh, self.through)
        for name, values in fresh.items():
            self.picked[name][here] = values
        self.slot += self.part

    def lesson(self, count):
        """Crops of `count` pictures."""
        index = torch.randint(0, self.count, (count,), device=self.pictures.device)
        return judge.lesson(self.pictures[index].float(), painter.take(self.picked, index), self.gone[index])


def build(studio):
    """A judge of this run's kinds."""
    width = 48 if studio.device.type == "cuda" or studio.name == "gpu" else 32
    return judge.Judge(studio.book.kinds, width).to(studio.device)


def load(studio):
    """The trained judge."""
    state = keeping.read(studio.path("judge.pt"), studio.device)
    assert state, "train the judge first"
    model = judge.Judge(studio.book.kinds, state["width"]).to(studio.device)
    model.load_state_dict(state["model"])
    return model.eval()


def run(studio, _family, minutes):
    """Trains until the budget is spent."""
    path, rows = studio.path("judge.pt"), studio.bank(min(studio.recipe["bank"], 100_000), salt=2)
    model, state = build(studio), keeping.read(path, studio.device) or dict(step=0, spent=0.0)
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=2e-2)
    if "model" in state:
        model.load_state_dict(state["model"])
        if state["optimiser"]:
            optimiser.load_state_dict(state["optimiser"])
    budget, step, first = keeping.Budget(minutes, state["spent"]), state["step"], state["step"]
    pool = Pool(studio, rows)

    def save():
        keeping.write(path, dict(model=model.state_dict(), optimiser=optimiser.state_dict(), step=step,
                                 spent=budget.spent, width=model.kind.in_features // 8))

    while budget.left():
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * budget.rate(step - first)
        pool.refill()
        crops, kind, tint = pool.lesson(studio.recipe["batch"]["judge"])
        with studio.half():
            cost = judge.loss(model, crops, kind, tint)
        optimiser.zero_grad()
        cost.backward()
        optimiser.step()
        step += 1
        if step % 50 == 0:
            say(f"judge {step}: loss {cost.item():.3f}, {budget.share:.0%} of the budget")
        if budget.due():
            save()
    save()
    say(f"judge done at step {step}")
