"""How close a picture is to the truth, or how natural it looks: metrics of (H, W, 3) uint8 sRGB.

Definitions, protocols and sources are in docs/benchmarks.md.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytorch_msssim
import torch
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from deepisp_cli.colour import apply_transform, fit_transform
from deepisp_cli.evaluation.benchmarks import eight_bit
from deepisp_cli.training.losses import MS_SSIM_SMALLEST

LARGEST_PSNR = 120.0  # dB, for equal pictures: JSON has no infinity
ROWS = 256  # compared at once: in CIE Lab and its differences a pixel takes 300 bytes


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """10 log10(peak² / MSE) in dB, the MSE over all pixels and channels; 120 for equal pictures.

    The peak is 255, or 1 for floating-point pictures.
    """
    peak = 1.0 if np.issubdtype(truth.dtype, np.floating) else 255.0
    with np.errstate(divide="ignore"):
        return min(float(peak_signal_noise_ratio(truth, picture, data_range=peak)), LARGEST_PSNR)


def channel_psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """Mean of the PSNR of R, G and B in dB: what some papers report as the PSNR of a picture."""
    return float(np.mean([psnr(picture[..., channel], truth[..., channel]) for channel in range(3)]))


def ssim(picture: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004) by scikit-image: 7x7 windows, mean of the three channels."""
    return float(structural_similarity(picture, truth, channel_axis=2, data_range=255))


def ms_ssim(picture: np.ndarray, truth: np.ndarray) -> float:
    """Multi-scale structural similarity (Wang et al. 2003) by pytorch-msssim: five scales, mean of the three
    channels. NaN for pictures below 161 pixels a side, which are too small for five scales."""
    if min(truth.shape[:2]) < MS_SSIM_SMALLEST:
        return math.nan
    planes = (torch.from_numpy(p.astype(np.float32)).permute(2, 0, 1)[None] for p in (picture, truth))
    return float(pytorch_msssim.ms_ssim(*planes, data_range=255))


def delta_e(picture: np.ndarray, truth: np.ndarray) -> float:
    """Mean colour difference CIEDE2000, D65."""
    total = 0.0
    for top in range(0, len(truth), ROWS):
        ours, theirs = (rgb2lab(each[top : top + ROWS]) for each in (picture, truth))
        total += float(deltaE_ciede2000(ours, theirs).sum())
    return total / (truth.shape[0] * truth.shape[1])


def matched_psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """PSNR in dB after the quadratic colour transform (3x10, least squares) that brings ``picture`` closest
    to ``truth``: forgives brightness and colour, leaves noise and detail."""
    ours, theirs = picture.astype(np.float64) / 255, truth.astype(np.float64) / 255
    planes = apply_transform(ours[..., 0], ours[..., 1], ours[..., 2], fit_transform(ours, theirs))
    return psnr(eight_bit(np.stack(planes, -1)), truth)


FULL_REFERENCE: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "psnr": psnr,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "delta_e": delta_e,
    "matched_psnr": matched_psnr,
}


def brisque(picture: np.ndarray) -> float:
    """BRISQUE (Mittal et al. 2012), which needs no truth: about 0 is natural, 100 distorted. By the package
    brisque, with its own model."""
    return float(_brisque_model().score(picture))


@cache
def _brisque_model() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from the package's own imports
        from brisque import BRISQUE

    class Brisque(BRISQUE):
        def scale_features(self, features: Any) -> Any:
            """brisque 0.2 yields arrays of one number, which NumPy 2.4 no longer takes as numbers."""
            return super().scale_features([np.ravel(feature)[0] for feature in features])

    return Brisque(url=False)
