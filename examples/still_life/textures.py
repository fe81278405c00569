"""Colour, noise and print: what the materials are painted with."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .vectors import mix, unit, vector


def srgb_to_linear(code):
    """Decode sRGB codes 0..255 to linear 0..1 (IEC 61966-2-1)."""
    v = np.asarray(code, np.float32) / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4).astype(np.float32)


def linear_to_srgb(linear):
    """Encode linear 0..1 to sRGB 0..1 (IEC 61966-2-1); the input is clipped to that range."""
    v = np.clip(linear, 0, 1)
    return np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)


ADOPTED_WHITE = 3400.0  # K; the camera is balanced for it


def black_body(kelvin):
    """Return the (3, 1) colour of a glowing body as a camera balanced for `ADOPTED_WHITE` records it.

    Planck's law in Wien's approximation at 610, 550 and 465 nm, scaled to a maximum of 1. Balancing between
    the lamp and daylight is what a photographer does at night: the lamp stays warm, the window stays blue.
    """
    wavelength = np.array([610e-9, 550e-9, 465e-9])
    ratio = np.exp(-0.014388 / wavelength * (1 / kelvin - 1 / ADOPTED_WHITE))
    return vector(*(ratio / ratio.max()))


_LATTICE = np.random.default_rng(7).random((32, 32, 32), np.float32)  # the scene itself never changes


def noise(x, y, z):
    """Return smooth value noise in 0..1, period 32, for (N,) coordinates (or numbers)."""
    x, y, z = np.broadcast_arrays(*(np.asarray(c, np.float32) for c in (x, y, z)))
    cell = [np.floor(c) for c in (x, y, z)]
    fx, fy, fz = ((c - f) * (c - f) * (3 - 2 * (c - f)) for c, f in zip((x, y, z), cell, strict=True))
    i, j, k = (c.astype(np.int32) & 31 for c in cell)
    i1, j1, k1 = (i + 1) & 31, (j + 1) & 31, (k + 1) & 31
    g = _LATTICE
    low = mix(mix(g[i, j, k], g[i1, j, k], fx), mix(g[i, j1, k], g[i1, j1, k], fx), fy)
    high = mix(mix(g[i, j, k1], g[i1, j, k1], fx), mix(g[i, j1, k1], g[i1, j1, k1], fx), fy)
    return mix(low, high, fz)


def bump(normal, p, frequency, strength):
    """Tilt ``normal`` (3, N) by the gradient of the noise at ``p * frequency``."""
    q, step = p * np.float32(frequency), np.float32(0.25)
    here = noise(*q)
    gradient = np.stack(
        [noise(*(q + step * axis)) - here for axis in np.eye(3, dtype=np.float32)[:, :, None]]
    )
    return unit(normal - np.float32(strength) * gradient)


def sample_image(image, u, v):
    """Look up a 2-D float image bilinearly at ``u`` (right) and ``v`` (down), both 0..1."""
    rows, columns = image.shape
    x = np.clip(u * columns - 0.5, 0, columns - 1.001)
    y = np.clip(v * rows - 0.5, 0, rows - 1.001)
    i, j = y.astype(np.int32), x.astype(np.int32)
    return mix(
        mix(image[i, j], image[i, j + 1], x - j), mix(image[i + 1, j], image[i + 1, j + 1], x - j), y - i
    )


def print_page(width, height, lines):
    """Draw text into an ink mask.

    ``lines`` holds (x, y, size, text) in pixels, centred at x where the text starts with "^" and otherwise
    set from x; a line of text None is a rule of that thickness. Returns (height, width) float32, 1 is ink.
    """
    page = Image.new("L", (width, height))
    draw = ImageDraw.Draw(page)
    for x, y, size, text in lines:
        if text is None:
            draw.rectangle((x, y, width - x, y + size), fill=255)
        else:
            anchor = "ma" if text.startswith("^") else "la"
            draw.text((x, y), text.lstrip("^"), fill=255, font=ImageFont.load_default(size), anchor=anchor)
    return np.asarray(page, np.float32) / 255
