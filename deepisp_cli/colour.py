"""Transfer curves, camera colour and the paper's quadratic transform. Pure functions of arrays.

An ``Array`` is a NumPy array or a torch tensor, so that training and GPUs run the same code as the CPU.
"""

import sys
from typing import Any, TypeVar

import numpy as np

Array = TypeVar("Array", np.ndarray, Any)  # a NumPy array or a torch tensor; the result is of the same kind

# Linear sRGB to CIE XYZ, D65 white (IEC 61966-2-1).
XYZ_FROM_SRGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)

# Offset of the square-root curve: makes its slope at black 13.0; sRGB's is 12.92.
CURVE_OFFSET = 0.04
CURVE_SCALE = (1 + CURVE_OFFSET**2) ** 0.5 - CURVE_OFFSET

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)  # Rec. 709


def encode(linear: Array) -> Array:
    """Linear light to the network's scale: an odd square-root curve, 0 to 0 and 1 to 1.

    The square root gives shot noise the same strength at every brightness (Anscombe 1948); the offset keeps
    the slope at black finite, so that negative noise survives. Only correctly rounded operations are used, so
    NumPy and torch agree to the bit.

    Parameters
    ----------
    linear : float32 array of any shape; 1.0 is the white level, negatives are kept.

    Returns
    -------
    float32 array of that shape.
    """
    square = abs(linear) + CURVE_OFFSET**2
    # torch's float32 square root is sometimes off by a bit; via float64 it is right
    root = square.double().sqrt().float() if hasattr(square, "double") else np.sqrt(square)
    return linear / ((root + CURVE_OFFSET) * CURVE_SCALE)


def decode(encoded: Array) -> Array:
    """Inverse of `encode`.

    Parameters
    ----------
    encoded : float32 array of any shape, on the network's scale: 1 is white.

    Returns
    -------
    float32 array of that shape, linear light.
    """
    root = encoded * CURVE_SCALE
    return root * (abs(root) + 2 * CURVE_OFFSET)


def srgb_encode(linear: Array) -> Array:
    """Linear light to the sRGB curve (IEC 61966-2-1), mirrored for negatives. A tensor's gradient at black is
    0, not infinite.

    Parameters
    ----------
    linear : float32 array of any shape; 1 is white. Not clipped.

    Returns
    -------
    float32 array of that shape; 1 is white.
    """
    xp = library(linear)
    magnitude = abs(linear)
    curve = 1.055 * magnitude.clip(0.0031308) ** (1 / 2.4) - 0.055
    return xp.copysign(xp.where(magnitude <= 0.0031308, 12.92 * magnitude, curve), linear)


def srgb_decode(encoded: Array) -> Array:
    """Inverse of `srgb_encode`.

    Parameters
    ----------
    encoded : float32 array of any shape, sRGB-encoded; 1 is white. Not clipped.

    Returns
    -------
    float32 array of that shape, linear light.
    """
    xp = library(encoded)
    magnitude = abs(encoded)
    curve = ((magnitude.clip(0.04045) + 0.055) / 1.055) ** 2.4
    return xp.copysign(xp.where(magnitude <= 0.04045, magnitude / 12.92, curve), encoded)


def library(array: Any) -> Any:
    """The module whose functions take this array: NumPy, or torch, which is then already imported."""
    if isinstance(array, np.ndarray | np.generic):
        return np
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(array, torch.Tensor):
        raise TypeError(f"give a NumPy array or a torch tensor, not {type(array).__name__}")
    return torch


def srgb_from_camera(xyz_to_camera: np.ndarray | None) -> np.ndarray:
    """Matrix from white-balanced camera RGB to linear sRGB.

    The rows of camera-from-sRGB are scaled so that white is (1, 1, 1) on both sides, as dcraw does; this
    leaves white balance entirely to the gains.

    Parameters
    ----------
    xyz_to_camera : (3, 3) matrix as in DNG ColorMatrix2, or None: camera RGB is taken as sRGB.

    Returns
    -------
    (3, 3) float32; each row sums to 1.

    Raises
    ------
    ValueError
        If the matrix cannot be inverted.
    """
    if xyz_to_camera is None:
        return np.eye(3, dtype=np.float32)
    camera = np.asarray(xyz_to_camera, np.float64) @ XYZ_FROM_SRGB
    white = camera.sum(axis=1, keepdims=True)
    if not np.all(white > 0) or abs(np.linalg.det(camera / white)) < 1e-9:
        raise ValueError("the colour matrix cannot be inverted")
    return np.linalg.inv(camera / white).astype(np.float32)


def quadratic_terms(r: Array, g: Array, b: Array) -> list[Array]:
    """The nine varying terms of the paper's T(I, W). The tenth is 1.

    Parameters
    ----------
    r, g, b : float arrays of one shape, sRGB-encoded.

    Returns
    -------
    Nine arrays of that shape: r, g, b, rr, rg, rb, gg, gb, bb.
    """
    return [r, g, b, r * r, r * g, r * b, g * g, g * b, b * b]


def apply_transform(r: Array, g: Array, b: Array, transform: Any) -> list[Array]:
    """Apply the paper's global transform: each output channel is a quadratic form of the pixel.

    Parameters
    ----------
    r, g, b : arrays of one shape, sRGB-encoded, float32.
    transform : W, indexable as ``transform[channel][term]`` (3, 10); the entries may be numbers or arrays
        that broadcast against the planes (one W per picture of a batch).

    Returns
    -------
    Three arrays of the planes' shape.
    """
    terms = quadratic_terms(r, g, b)
    planes = []
    for weights in transform:
        plane = weights[9] + weights[0] * terms[0]
        for weight, term in zip(weights[1:9], terms[1:], strict=True):
            plane = plane + weight * term
        planes.append(plane)
    return planes


def fit_transform(picture: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least-squares W that maps ``picture`` to ``target``.

    Parameters
    ----------
    picture, target : (..., 3) float arrays of one shape, sRGB-encoded; 1 is white.

    Returns
    -------
    (3, 10) float32, as `apply_transform` takes it: channels, terms.

    Raises
    ------
    ValueError
        If the two have different numbers of pixels.
    """
    flat = np.asarray(picture, np.float64).reshape(-1, 3).T
    terms = np.stack([*quadratic_terms(*flat), np.ones_like(flat[0])])
    gram = terms @ terms.T + 1e-6 * terms.shape[1] * np.eye(10)  # a flat picture has no unique solution
    moments = terms @ np.asarray(target, np.float64).reshape(-1, 3)
    return np.linalg.solve(gram, moments).T.astype(np.float32)
