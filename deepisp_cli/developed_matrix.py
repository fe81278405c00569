"""The colour matrix that LibRaw develops with where it does not state one.

For a few early cameras (Kodak's DC50 among them) LibRaw knows only how to get from camera RGB to sRGB, which
rawpy does not show. Its pictures do: the same frame in camera RGB and in sRGB.
"""

from typing import Any, BinaryIO

import numpy as np
import rawpy

from deepisp_cli.colour import XYZ_FROM_SRGB
from deepisp_cli.libraw import memory_errors

LINEAR: dict[str, Any] = {
    "gamma": (1, 1),
    "no_auto_bright": True,
    "output_bps": 16,
    "half_size": True,
    "use_camera_wb": True,
}
DARKEST, BRIGHTEST = 64, 65000  # of 65535; values beyond them may be clipped
MOST_PIXELS, FEWEST_PIXELS = 100_000, 100
LEAST_COLOUR = 1e-3  # smallest singular value, as a share of the largest: a grey picture tells no matrix
LARGEST_ERROR = 4  # of 65535: both pictures are rounded


def developed_matrix(source: BinaryIO) -> np.ndarray | None:
    """The matrix between LibRaw's own pictures of a raw.

    Parameters
    ----------
    source : the raw file.

    Returns
    -------
    (3, 3) float32, from XYZ to white-balanced camera RGB: D65 white becomes (1, 1, 1). None if LibRaw uses no
    matrix, if it cannot decode the file, or if the picture is too dark, bright or grey to tell.

    Raises
    ------
    MemoryError
        If there is too little memory to develop it.
    """
    try:
        with memory_errors():
            camera, srgb = _pixels(source)
    except rawpy.LibRawError:
        return None
    both = np.concatenate([camera, srgb], axis=1)
    unclipped = (both.min(axis=1) >= DARKEST) & (both.max(axis=1) <= BRIGHTEST)
    if np.array_equal(camera, srgb) or unclipped.sum() < FEWEST_PIXELS:
        return None
    camera, srgb = camera[unclipped], srgb[unclipped]
    srgb_from_camera, _, rank, _ = np.linalg.lstsq(camera, srgb, rcond=LEAST_COLOUR)
    if rank < 3 or np.abs(camera @ srgb_from_camera - srgb).max() > LARGEST_ERROR:
        return None
    return np.linalg.inv(XYZ_FROM_SRGB @ srgb_from_camera.T).astype(np.float32)


def _pixels(source: BinaryIO) -> list[np.ndarray]:
    """(N, 3) float64, pixels of LibRaw's pictures of half the size, in camera RGB and in sRGB."""
    source.seek(0)
    with rawpy.imread(source) as raw:
        spaces = (rawpy.ColorSpace.raw, rawpy.ColorSpace.sRGB)
        pictures = [raw.postprocess(output_color=space, **LINEAR) for space in spaces]
    pixels = [picture.reshape(-1, picture.shape[-1]) for picture in pictures]
    return [each[:: -(-len(each) // MOST_PIXELS)].astype(np.float64) for each in pixels]
