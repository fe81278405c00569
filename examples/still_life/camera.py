"""The camera: rays through the pixels, where the colour chart lands, and the 8-bit preview."""

import numpy as np

from .contents import build_scene
from .light import shade
from .materials import CHART, CHART_PATCH, CHART_PITCH, CHART_SRGB
from .setting import CANDLE, EYE, LAMP, TAN_HALF_WIDTH, TARGET
from .textures import linear_to_srgb, srgb_to_linear
from .vectors import dot, unit, vector

SHADOW_RAYS = 4  # to the main lamp from each point; half as many to the other lights


def camera_axes():
    """Return the unit vectors right, up and forward."""
    forward = unit(TARGET - EYE)
    right = unit(np.cross(forward, vector(0, 1, 0), axis=0))
    return right, np.cross(right, forward, axis=0), forward


def project(points, width, height):
    """Return (y, x) in pixels for world points (3, N); pixel centres are at half integers."""
    right, up, forward = camera_axes()
    q = points - EYE
    scale = width / (2 * TAN_HALF_WIDTH * dot(q, forward))
    return height / 2 - dot(q, up) * scale, width / 2 + dot(q, right) * scale


def chart_patches(width, height):
    """Return where the 24 patches of the colour chart are, in reading order.

    Each is (y0, x0, y1, x1, reflectance): a rectangle of pixels well inside the patch, to be used as
    ``picture[y0:y1, x0:x1]``, and its linear sRGB reflectance (three floats).
    """
    patches = []
    reach = 0.36 * CHART_PATCH
    for index, reflectance in enumerate(srgb_to_linear(CHART_SRGB)):
        x, y = (index % 6 - 2.5) * CHART_PITCH, (1.5 - index // 6) * CHART_PITCH + 0.02
        corners = np.array(
            [(x + sx * reach, y + sy * reach, 0.03) for sy in (1, -1) for sx in (-1, 1)], np.float32
        )
        rows, columns = project(CHART.turn @ corners.T + CHART.centre, width, height)
        box = (max(rows[:2]), max(columns[::2]), min(rows[2:]), min(columns[1::2]))
        y0, x0, y1, x1 = np.round(box).astype(int).tolist()
        patches.append((y0, x0, max(y1, y0 + 1), max(x1, x0 + 1), tuple(reflectance.tolist())))
    return patches


def render(width=1536, height=1024, seed=0, samples=3):
    """Render the still life.

    Parameters
    ----------
    width, height : int
        Size in pixels; the field of view is fixed across the width.
    seed : int
        Seeds the jitter of the shadow rays; the same seed gives the same picture.
    samples : int
        samples x samples rays per pixel, each with its own shadow rays.

    Returns
    -------
    ndarray of shape (height, width, 3), float32
        Linear sRGB radiance, not negative; 1.0 is about diffuse white under the main lamp.
    """
    scene = build_scene()
    right, up, forward = camera_axes()
    picture = np.zeros((height, width, 3), np.float32)
    rows = max(1, 40_000 // (width * samples**2))  # about 40,000 rays at once stay in the processor's cache
    # The same rays in every pixel, on a lattice, give edges without noise; only the shadow rays are random.
    count = np.arange(samples**2)
    lattice = (np.stack([count, count * (samples + 1) % samples**2]) + np.float32(0.5)) / samples**2
    # A tent filter two pixels wide: smoother edges around the lamps than a box gives.
    tent = np.where(lattice < 0.5, np.sqrt(2 * lattice) - 1, 1 - np.sqrt(2 - 2 * lattice)).astype(np.float32)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        rng = np.random.default_rng([seed, top])
        y, x = (g.reshape(-1, 1) for g in np.mgrid[top:bottom, :width].astype(np.float32))
        u = (x + 0.5 + tent[1] - width / 2).ravel() * np.float32(2 * TAN_HALF_WIDTH / width)
        v = (height / 2 - y - 0.5 - tent[0]).ravel() * np.float32(2 * TAN_HALF_WIDTH / width)
        direction = unit(forward + u * right + v * up)
        # The R2 sequence, shifted at random for each pixel, runs on through all rays of the pixel.
        shift = np.repeat(rng.random((2, y.size)), samples**2, axis=1)
        step = np.tile(count, y.size)

        def sequence(k, of, shift=shift, step=step):
            index = step * of + k
            return (
                np.float32((shift[0] + index * 0.7548776662466927) % 1),
                np.float32((shift[1] + index * 0.5698402909980532) % 1),
            )

        light = shade(
            scene, np.broadcast_to(EYE, direction.shape), direction, sequence, samples=SHADOW_RAYS, depth=3
        )
        light = light + veil(direction)
        picture[top:bottom] = light.reshape(3, bottom - top, width, -1).mean(axis=-1).transpose(1, 2, 0)
    return np.maximum(picture, 0)


def veil(direction):
    """Return (3, N): the faint glare that a real lens lays around the lamps."""
    total = np.zeros_like(direction)
    for lamp, amount in ((LAMP, 0.020), (CANDLE, 0.006)):
        angle2 = np.maximum(2 - 2 * dot(direction, unit(lamp.centre - EYE)), 0)  # rounding can go below 0
        total += amount * lamp.colour / (0.06 + np.sqrt(angle2) * 3 + angle2 * 60)
    return total


def preview(picture):
    """Return (H, W, 3) uint8 sRGB: a filmic curve (Hable 2010) that keeps colour in the lamps."""

    def curve(x):
        return (x * (0.15 * x + 0.05) + 0.004) / (x * (0.15 * x + 0.5) + 0.06) - 0.004 / 0.06

    mapped = curve(picture * 4.5) / curve(12.0)
    return np.uint8(np.round(linear_to_srgb(mapped) * 255))
