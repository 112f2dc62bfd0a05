"""Muon: momentum whose matrices are made orthogonal, for a transformer's matrices and an autoencoder's kernels.

After Jordan's Muon (2024) with the step size of AdamW's (Liu et al., Moonlight, 2025). T5 is left out: its attention has no
scale, and steps of one size in every direction drive it into saturation.
"""

import torch

ROUNDS, A, B, C = 5, 3.4445, -4.7750, 2.0315


def orthogonal(stack):
    """The nearest orthogonal matrices, about, of a stack of them, by Newton-Schulz rounds of degree five."""
    x = stack.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = A * x + (B * square + C * square @ square) @ x
    return (x.mT if tall else x).to(stack.dtype)


class Muon(torch.optim.Optimizer):
    """Matrices of one shape go through the rounds together; a kernel (out, in, h, w) is a matrix (out, in h w)."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=1e-2):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(tuple(p.flatten(1).shape), []).append(p)
            for shape, members in shapes.items():
                self._step(group, shape, members)

    def _step(self, group, shape, members):
        ahead = []
        for p in members:
            kept = self.state[p].setdefault("momentum", torch.zeros_like(p))
            kept.lerp_(p.grad, 1 - group["momentum"])
            ahead.append(torch.lerp(p.grad, kept, group["momentum"]).flatten(1))
        size = 0.2 * max(shape) ** 0.5 * group["lr"]
        for p, update in zip(members, orthogonal(torch.stack(ahead))):
            p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update.view_as(p), alpha=-size)
