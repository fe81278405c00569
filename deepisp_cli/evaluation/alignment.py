"""Align two pictures of one scene."""

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.registration import phase_cross_correlation

from deepisp_cli.colour import LUMINANCE
from deepisp_cli.training.pictures import middle
from deepisp_cli.training.raw_pairs import LARGEST_BORDER

DETAIL_SCALE = 8.0  # pixels; coarser detail says nothing about a shift


def align(picture: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The parts of two pictures (H, W, 3) uint8 that show the same, pixel for pixel.

    Programs leave out different borders, and cameras trim their own pictures. Both are cropped to their
    common middle, then shifted by whole pixels to where their fine detail correlates best.
    """
    ours, theirs = common_middle(picture, truth)
    down, right = _shift(ours, theirs)
    return _moved(ours, -down, -right), _moved(theirs, down, right)


def common_middle(picture: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two pictures cropped to their common middle."""
    return middle(picture, *truth.shape[:2]), middle(truth, *picture.shape[:2])


def _moved(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """The part of ``image``, moved by so many pixels, that overlaps another of its size."""
    height, width = image.shape[:2]
    return image[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]


def _shift(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, int]:
    """Pixels down and right by which ``theirs`` must be moved to match ``ours``; 0 if implausibly large."""
    shift, _, _ = phase_cross_correlation(_detail(ours), _detail(theirs), normalization=None)
    down, right = (int(pixels) for pixels in shift)
    return (down, right) if max(abs(down), abs(right)) <= LARGEST_BORDER else (0, 0)


def _detail(image: np.ndarray) -> np.ndarray:
    """Luma without its coarse part, faded out towards the borders."""
    luma = image.astype(np.float32) @ LUMINANCE
    fine = luma - gaussian_filter(luma, DETAIL_SCALE)
    return fine * np.hanning(fine.shape[0])[:, None] * np.hanning(fine.shape[1])
