"""What training minimises: the finished picture's error, and the restored image's before the transform."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from deepisp_cli.training.synthesis import Pairs


def picture_loss(picture: Tensor, target: Tensor) -> Tensor:
    """L1 between finished pictures, on every pixel and on means of 8x8 pixels.

    The means give blotches, which a pixel-wise loss hardly sees, a voice of their own. What lies beyond
    white (black) where the photograph is white (black) is no error: it will be clipped.
    """
    picture = torch.where(target >= 1, picture.clamp(max=1), picture)
    picture = torch.where(target <= 0, picture.clamp(min=0), picture)
    error = picture - target
    return error.abs().mean() + 0.5 * F.avg_pool2d(error, 8).abs().mean()


def restoration_loss(image: Tensor, pairs: Pairs, scales: Sequence[int]) -> Tensor:
    """L1 of the low-level stage's image against the noise-free frame: the sum over means of squares of
    ``scales`` pixels a side, 1 being the pixels themselves.

    Each frame counts as if it had been exposed fully: on the square-root scale an exposure of -2 EV halves
    every value. Where the noise-free frame is not known (real raws) there is no such loss: 0.
    """
    if pairs.clean is None:
        return image.new_zeros(())
    error = (image - pairs.clean) * torch.exp2(-pairs.exposure / 2).reshape(-1, 1, 1, 1)
    means = [F.avg_pool2d(error, scale) if scale > 1 else error for scale in scales]
    return sum((mean.abs().mean() for mean in means), error.new_zeros(()))
