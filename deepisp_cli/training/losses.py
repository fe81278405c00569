"""What training minimises: the finished picture's error, and the restored image's before the transform."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from deepisp_cli.colour import apply_transform
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


def neutral_loss(coefficients: Tensor, levels: int = 9) -> Tensor:
    """What the transform does wrong to greys: tint them, or leave white below white.

    Grey is grey for every camera, light and exposure, for white balance and matrix have been applied. What
    the sensor clipped is (1, 1, 1) and has to come out as white at least. The photographs hold too few pure
    greys and blown lamps to teach that by themselves.

    Parameters
    ----------
    coefficients : (N, 30, h, w) of the cells, as the network yields them.
    levels : greys from black to white that are looked at.
    """
    transform = coefficients.mean((2, 3)).reshape(-1, 3, 10)
    grey = torch.linspace(0, 1, levels, device=coefficients.device).reshape(-1, 1)
    channels = torch.stack(
        apply_transform(grey, grey, grey, transform.permute(1, 2, 0)), -1
    )  # (levels, N, 3)
    tint = channels - channels.mean(-1, keepdim=True)
    return tint.abs().mean() + F.relu(1 - channels[-1]).mean()


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
