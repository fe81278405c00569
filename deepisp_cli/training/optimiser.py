"""Muon (Jordan et al., 2024), the optimiser of the convolutions' filters.

PyTorch's own `torch.optim.Muon` takes matrices only and orthogonalises in bfloat16, which CPUs without
bfloat16 units do slowly; this one takes filters as they are and keeps float32.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Momentum whose step is orthogonalised: all directions of a filter bank move equally far.

    Adam moves every weight by about the same amount. In a network of dark frames, whose pixels and features
    are nearly constant, most weights then move together and change little but the mean; see docs/training.md.

    ``params``: tensors of two or more axes, the first one the outputs. ``lr``: as for Adam, whose steps have
    about the same size (a step's root mean square is 0.2 ``lr``; Liu et al., "Muon is Scalable for LLM
    Training", 2025).
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """One step, with Nesterov's look-ahead."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(momentum, group["momentum"])
                size = 0.2 * max(weight.shape[0], weight[0].numel()) ** 0.5
                weight.sub_(orthogonalise(update), alpha=group["lr"] * size)


def orthogonalise(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The nearest matrix with singular values of about one (0.7 to 1.2), by Newton-Schulz iteration.

    Axes after the first are taken together; the shape is kept. The quintic's coefficients are Jordan's: fast
    growth of small singular values at the price of that spread.
    """
    flat = matrix.flatten(1)
    flat = flat / (flat.norm() + 1e-7)
    for _ in range(iterations):
        square = flat @ flat.T
        flat = 3.4445 * flat + (-4.7750 * square + 2.0315 * square @ square) @ flat
    return flat.view_as(matrix)
