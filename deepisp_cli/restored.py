"""A restored picture that is still raw: linear camera RGB as a DNG, for other programs to develop.

What the network decides about tone and colour shows only in the preview. White balance is taken out of the
samples again, and the highlights that were clipped for the network are put back.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO

import imagecodecs
import numpy as np

from deepisp_cli.camera_rgb import GREY, clipped_off
from deepisp_cli.colour import XYZ_FROM_SRGB, decode, encode
from deepisp_cli.dng import write_dng
from deepisp_cli.dng_tags import RawTag
from deepisp_cli.look import develop_colour
from deepisp_cli.machine import on_blocks
from deepisp_cli.raw import RawImage
from deepisp_cli.render import Pixels, orient, render, upright_aspect

WHITE = 65535  # counts; black is 0: darktable and RawTherapee ignore the black level of a linear DNG
PREVIEW_SIDE = 2048  # pixels, at most, of its longer side
HIGHLIGHT = 0.75  # linear light from which what was clipped off is added, at 1 all of it
BLOCK_ROWS = 32  # rows whose highlights are put back at a time, which bounds the memory
PREVIEW_QUALITY = 90
LARGEST_EXPOSURE = 100.0  # EV of a BaselineExposure that is believed
# the numbers of these tags
NOISE_REDUCTION_APPLIED, BASELINE_EXPOSURE, DEFAULT_SCALE, DNG_VERSION = 50935, 50730, 50718, 50706
VERSIONS = ((52525, b"\1\6\0\0"), (52550, b"\1\7\0\0"))  # of DNG, from the first of their tags on


@dataclass(frozen=True, eq=False)
class RestoredRaw:
    """What a linear DNG holds.

    Attributes
    ----------
    samples : (H, W, 3) uint16
        Linear camera RGB, upright and not white-balanced: 0 is black, ``WHITE`` is white.
    preview : (h, w, 3) uint8
        The picture as the program would develop it, sRGB, its pixels square.
    gains : (3,) float32
        The white balance for R, G and B, the smallest 1.
    xyz_to_camera : (3, 3) or None
        XYZ under D65 to the RGB of the samples; None: ``profile`` has the matrices.
    profile : sequence of RawTag
        The source's own tags about its colours.
    strength : float
        That of the restoration, 0 to 1.
    pixel_aspect : float
        Width of a pixel over its height.
    """

    samples: np.ndarray
    preview: Pixels
    gains: np.ndarray
    xyz_to_camera: np.ndarray | None
    profile: Sequence[RawTag]
    strength: float
    pixel_aspect: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the samples."""
        return self.samples.shape


def restore_highlights(image: np.ndarray, raw: RawImage, gains: np.ndarray) -> None:
    """Add what was clipped off for the network, in place.

    Only as far as the network, too, sees a highlight: around sharp ones, a demosaic spreads it further.

    Parameters
    ----------
    image : (H, W, 3) float32, restored, encoded camera RGB, white-balanced.
    raw : what it was made of.
    gains : (3,) float32, its white balance.
    """
    for top in range(0, len(image), BLOCK_ROWS):
        rows = slice(top, min(top + BLOCK_ROWS, len(image)))
        excess = clipped_off(raw, gains, rows)
        if excess is not None:
            linear = decode(image[rows])
            excess *= ((linear - HIGHLIGHT) / (1 - HIGHLIGHT)).clip(0, 1)
            image[rows] = encode(linear + excess)


def restored_raw(
    image: np.ndarray, raw: RawImage, gains: np.ndarray, preview: Pixels, strength: float
) -> RestoredRaw:
    """Turn a restored image into samples.

    Parameters
    ----------
    image : (H, W, 3) float32, restored, encoded camera RGB, white-balanced, as the raw lies.
    raw : what it was made of.
    gains : (3,) float32, its white balance.
    preview : (h, w, 3) uint8, upright sRGB, its pixels square.
    strength : of the restoration.
    """
    samples = np.empty(image.shape, np.uint16)
    scale = np.float32(WHITE * 2**-raw.brightened) / gains

    def fill(rows: slice) -> None:
        counts = decode(image[rows]) * scale
        if raw.monochrome:
            counts[:] = (counts @ GREY)[..., None]
        samples[rows] = np.rint(counts.clip(0, WHITE, out=counts), out=counts)

    on_blocks(fill, len(image))
    matrix = raw.xyz_to_camera
    if any(tag.is_matrix for tag in raw.profile):
        matrix = None
    elif matrix is None:  # as elsewhere: balanced camera RGB is taken as sRGB
        matrix = np.linalg.inv(XYZ_FROM_SRGB) / gains[:, None]
    samples = np.ascontiguousarray(orient(samples, raw.orientation))
    aspect = upright_aspect(raw.pixel_aspect, raw.orientation)
    return RestoredRaw(
        samples, preview, gains, matrix, _darkened(raw.profile, raw.clipped_at), strength, aspect
    )


def _darkened(profile: Sequence[RawTag], share: float) -> Sequence[RawTag]:
    """The profile with BaselineExposure for samples whose white is this share of what it was."""
    if share == 1:
        return profile
    exposure = 0.0
    with suppress(ValueError, ZeroDivisionError):
        exposure = next((tag.number for tag in profile if tag.code == BASELINE_EXPOSURE), 0.0)
    if not abs(exposure) < LARGEST_EXPOSURE:
        exposure = 0.0
    darker = Fraction(exposure + math.log2(share)).limit_denominator(1000)
    tag = RawTag(BASELINE_EXPOSURE, 10, 1, (darker.numerator, darker.denominator))
    return (*(tag for tag in profile if tag.code != BASELINE_EXPOSURE), tag)


def preview_of(
    image: np.ndarray, orientation: int, matrix: np.ndarray, transform: np.ndarray | None, gain: float | None,
    contrast: float = 0.0,
) -> Pixels:  # fmt: skip
    """The finished picture in small.

    Parameters
    ----------
    image : (H, W, 3) float32, restored, encoded camera RGB, white-balanced.
    orientation : that turns it upright, 1 to 8.
    matrix, transform, gain, contrast : as for `look.develop_colour`.

    Returns
    -------
    (h, w, 3) uint8, sRGB, a whole number of times smaller: neither side longer than ``PREVIEW_SIDE``, unless
    the picture is much wider than high.
    """
    step = min(-(-max(image.shape) // PREVIEW_SIDE), *image.shape[:2])
    height, width = (length // step for length in image.shape[:2])
    cells = image[: height * step, : width * step].reshape(height, step, width, step, 3)
    small = np.empty((height, width, 3), np.float32)

    def fill(rows: slice) -> None:
        light = np.zeros(small[rows].shape, np.float32)
        for down, right in np.ndindex(step, step):
            light += decode(np.minimum(cells[rows, down, :, right], 1))  # colours unknown: white
        small[rows] = develop_colour(
            encode(light / np.float32(step**2)), matrix, transform, 0, gain, contrast
        )

    on_blocks(fill, height)
    return render(small, orientation, 8)


def encode_dng(restored: RestoredRaw, camera: str) -> bytes:
    """The DNG, without EXIF.

    Parameters
    ----------
    restored : from `restored_raw`.
    camera : make and model, by which other programs know its colours; "" if they are not known.
    """
    file = BytesIO()
    preview = imagecodecs.jpeg8_encode(restored.preview, PREVIEW_QUALITY, subsampling="420", optimize=True)
    strength = (round(100 * restored.strength), 100)
    aspect = Fraction(restored.pixel_aspect).limit_denominator(1000)
    tags = [
        RawTag(NOISE_REDUCTION_APPLIED, 5, 1, strength),
        RawTag(DEFAULT_SCALE, 5, 2, (aspect.numerator, aspect.denominator, 1, 1)),
    ]
    newest = max((tag.code for tag in restored.profile), default=0)
    tags += [RawTag(DNG_VERSION, 1, 4, version) for code, version in VERSIONS if newest >= code][-1:]
    write_dng(
        file,
        restored.samples,
        pattern=None,
        white=WHITE,
        white_balance=restored.gains,
        xyz_to_camera=restored.xyz_to_camera,
        unique_camera_model=camera,
        compression="ljpeg",
        preview=bytes(preview),
        extra=(*restored.profile, *tags),
    )
    return file.getvalue()
