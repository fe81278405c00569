"""Muon (Jordan et al., 2024), the optimiser of the convolutions' filters.

PyTorch's own `torch.optim.Muon` takes matrices only and orthogonalises in bfloat16, which is slow on CPUs
without bfloat16 units; this one takes filters as they are and keeps float32 there.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Momentum whose step is orthogonalised: all directions of a filter bank move equally far.

    Adam moves every weight by about the same amount. In a network for dark frames, whose pixels and features
    are nearly constant, most weights then move together and change little but the mean; see
    docs/training-history.md.

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
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.shape].append(weight)
            for weights in alike.values():
                updates = torch.stack([self._update(weight, group["momentum"]) for weight in weights])
                size = 0.2 * max(weights[0].shape[0], weights[0][0].numel()) ** 0.5
                for weight, update in zip(weights, orthogonalise(updates), strict=True):
                    weight.sub_(update, alpha=group["lr"] * size)

    def _update(self, weight: Tensor, momentum: float) -> Tensor:
        if "momentum" not in self.state[weight]:
            self.state[weight]["momentum"] = torch.zeros_like(weight)
        mean = self.state[weight]["momentum"]
        mean.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(mean, momentum)


def orthogonalise(filters: Tensor) -> Tensor:
    """The nearest matrices with singular values of about one (0.7 to 1.2), by five steps of Newton-Schulz.

    ``filters`` (N, outputs, ...), a batch: axes after the second are flattened; the shape is kept. The
    quintic's coefficients are Jordan's: fast growth of small singular values at the price of that spread.
    """
    flat = filters.flatten(2)
    flat = flat / (flat.norm(dim=(1, 2), keepdim=True) + 1e-7)
    flat = flat.bfloat16() if flat.is_cuda else flat  # as Jordan does it
    for _ in range(5):
        square = flat @ flat.mT
        flat = 3.4445 * flat + (-4.7750 * square + 2.0315 * square @ square) @ flat
    return flat.to(filters.dtype).view_as(filters)
