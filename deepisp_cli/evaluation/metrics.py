"""Full-reference metrics of finished pictures, all of (H, W, 3) uint8 sRGB."""

import math

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from deepisp_cli.colour import apply_transform, fit_transform


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """10 log10(255² / MSE) in dB, the MSE over all pixels and channels; 120 for equal pictures."""
    error = np.square(picture.astype(np.float64) - truth).mean()
    return 10 * math.log10(255**2 / max(float(error), 255**2 * 1e-12))


def ssim(picture: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004) by scikit-image: 7x7 windows, mean of the three channels."""
    return float(structural_similarity(picture, truth, channel_axis=2, data_range=255))


def delta_e(picture: np.ndarray, truth: np.ndarray) -> float:
    """Mean colour difference CIEDE2000, D65."""
    return float(deltaE_ciede2000(rgb2lab(picture), rgb2lab(truth)).mean())


def matched_psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """PSNR in dB after the quadratic colour transform (3x10, least squares) that brings ``picture`` nearest
    to ``truth``: forgives brightness and colour, leaves noise and detail."""
    ours, theirs = picture.astype(np.float64) / 255, truth.astype(np.float64) / 255
    planes = apply_transform(ours[..., 0], ours[..., 1], ours[..., 2], fit_transform(ours, theirs))
    matched = np.round(255 * np.clip(np.stack(planes, -1), 0, 1)).astype(np.uint8)
    return psnr(matched, truth)
