"""What training minimises: the finished picture's error, and the restored image's before the transform."""

from collections.abc import Sequence
from functools import cache

import torch
from pytorch_msssim import ms_ssim, ssim
from torch import Tensor
from torch.nn import functional as F

from deepisp_cli.colour import XYZ_FROM_SRGB, apply_transform
from deepisp_cli.training.synthesis import Pairs, srgb_decode, to_srgb

LAB_EDGE = 6 / 29  # where CIE Lab's cube root becomes a line, on the scale of the root
MS_SSIM_SMALLEST = 161  # pixels a side: what five scales of 11x11 windows need
SSIM_SMALLEST = 11  # pixels a side: the window
SSIM_SIGMA = 1.5  # pixels
COLOUR_SCALES = (16, 64)  # pixels a side
BLOTCH, BLOTCHES = 8, 0.5  # pixels a side, and the weight of such means in `picture_loss`
GREYS = 9  # of `neutral_loss`, from black to white


def picture_loss(picture: Tensor, target: Tensor) -> Tensor:
    """L1 between finished pictures, on every pixel and on means of 8x8 pixels.

    The means make blotches count, which a pixel-wise loss hardly sees.

    Parameters
    ----------
    picture, target : (N, 3, H, W) sRGB, 0 to 1; ``picture`` may be beyond that.
    """
    error = _clip_where_clipped(picture, target) - target
    return error.abs().mean() + BLOTCHES * F.avg_pool2d(error, BLOTCH).abs().mean()


def paper_loss(picture: Tensor, target: Tensor, structure_weight: float) -> Tensor:
    """The paper's loss: L1 and multi-scale structural similarity (section 1, "Loss"), in CIE Lab and of L as
    the journal's version has them (IEEE Transactions on Image Processing 28, 2019). Other than there, values
    beyond white (black) are no error where the target is white (black).

    Parameters
    ----------
    picture, target : (N, 3, H, W) sRGB, at least 161 pixels a side.
    structure_weight : weight of 1 - MS-SSIM against the mean L1 of L, a and b, all divided by 100.
    """
    ours, theirs = to_lab(_clip_where_clipped(picture, target)), to_lab(target)
    structure = 1 - ms_ssim(ours[:, :1], theirs[:, :1], data_range=1)
    return (ours - theirs).abs().mean() + structure_weight * structure


def to_lab(srgb: Tensor) -> Tensor:
    """sRGB (N, 3, H, W) to CIE Lab of D65, divided by 100: white is (1, 0, 0). Finite gradients at black."""
    xyz_from_srgb = XYZ_FROM_SRGB / XYZ_FROM_SRGB.sum(1, keepdims=True)  # white is (1, 1, 1)
    matrix = torch.from_numpy(xyz_from_srgb).to(srgb)
    xyz = torch.einsum("ij,njhw->nihw", matrix, srgb_decode(srgb))
    line = xyz / (3 * LAB_EDGE**2) + 4 / 29
    x, y, z = torch.where(xyz > LAB_EDGE**3, xyz.clamp(min=LAB_EDGE**3) ** (1 / 3), line).unbind(1)
    return torch.stack([1.16 * y - 0.16, 5 * (x - y), 2 * (y - z)], 1)


def _clip_where_clipped(picture: Tensor, target: Tensor) -> Tensor:
    """Values beyond white (black) where the photograph is white (black) will be clipped: no error."""
    picture = torch.where(target >= 1, picture.clamp(max=1), picture)
    return torch.where(target <= 0, picture.clamp(min=0), picture)


def neutral_loss(coefficients: Tensor, white: Tensor | float = 1.0) -> Tensor:
    """The transform's errors on greys: tinting them, or leaving white below white.

    Grey is grey for every camera, light and exposure, because white balance and matrix have been applied.
    What the sensor clipped is ``white`` and has to come out at least white. The photographs hold too few
    pure greys and blown lamps to teach that by themselves.

    Parameters
    ----------
    coefficients : (N, 30, h, w) of the cells, as the network returns them.
    white : what the transform gets where the sensor clipped; one for all or (N,).
    """
    transform = coefficients.mean((2, 3)).reshape(-1, 3, 10)
    grey = torch.linspace(0, 1, GREYS, device=coefficients.device).reshape(-1, 1) * white
    planes = apply_transform(grey, grey, grey, transform.permute(1, 2, 0))
    channels = torch.stack(planes, -1)  # (GREYS, N, 3)
    tint = channels - channels.mean(-1, keepdim=True)
    return tint.abs().mean() + F.relu(1 - channels[-1]).mean()


def restoration_loss(image: Tensor, pairs: Pairs, scales: Sequence[int], norm: str = "l1") -> Tensor:
    """Error of the low-level stage's image against the noise-free frame.

    Each frame counts as if it had been exposed fully: on the square-root scale an exposure of -2 EV halves
    every value.

    Parameters
    ----------
    image : (N, 3, H, W), encoded camera RGB.
    pairs : with its noise-free frames; where these are not known (real raws) the loss is 0.
    scales : sides in pixels of the blocks whose means are compared, and summed over; 1: the pixels.
    norm : "l1", or "rms": the root mean square of each crop, which is what PSNR measures. (The mean square
        itself would leave crops without noise next to no weight.)
    """
    if pairs.clean is None:
        return image.new_zeros(())
    error = (image - pairs.clean) * torch.exp2(-pairs.exposure / 2).reshape(-1, 1, 1, 1)
    means = [F.avg_pool2d(error, scale) if scale > 1 else error for scale in scales]
    if norm == "rms":
        return sum(
            ((mean.square().mean((1, 2, 3)) + 1e-10).sqrt().mean() for mean in means), error.new_zeros(())
        )
    return sum((mean.abs().mean() for mean in means), error.new_zeros(()))


def as_seen(image: Tensor, pairs: Pairs) -> Tensor:
    """The low-level stage's image, or the noise-free frame, as it would look exposed fully.

    Parameters
    ----------
    image : (N, 3, H, W), encoded camera RGB.
    pairs : says how it was exposed, and by which cameras.

    Returns
    -------
    (N, 3, H, W) sRGB; not clipped.
    """
    return to_srgb(image, pairs.matrix, torch.exp2(-pairs.exposure))


def structure_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """1 - SSIM (Wang et al. 2004; 11x11 windows, mean of R, G and B), of what is clipped to 0 and 1.

    It sees noise and lost texture where a picture is flat or dark, which L1 hardly does.

    Parameters
    ----------
    ours, theirs : (N, 3, H, W), an image and the noise-free frame, both `as_seen`; at least 11 pixels a side.
    """
    window = _ssim_window(ours.device, ours.dtype)
    return 1 - ssim(ours.clamp(0, 1), theirs.clamp(0, 1), data_range=1, win=window)


@cache
def _ssim_window(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Gaussian weights (3, 1, 1, 11). pytorch-msssim's own come from the CPU each time, so a GPU waits."""
    with torch.inference_mode(False):  # they are cached, and training cannot use tensors made in that mode
        offset = torch.arange(SSIM_SMALLEST, device=device, dtype=dtype) - SSIM_SMALLEST // 2
        weights = torch.exp(-(offset**2) / (2 * SSIM_SIGMA**2))
        return (weights / weights.sum()).repeat(3, 1, 1, 1)


def colour_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """L1 between means of blocks of `COLOUR_SCALES` pixels a side, summed over the scales.

    Brightened deep shadows show a tint that `restoration_loss`, on the scale of the raw, hardly sees.

    Parameters
    ----------
    ours, theirs : (N, 3, H, W), an image and the noise-free frame, both `as_seen`.
    """
    error = ours - theirs
    return sum((F.avg_pool2d(error, scale).abs().mean() for scale in COLOUR_SCALES), error.new_zeros(()))
