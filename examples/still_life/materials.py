"""Materials: each takes (shape, points (3, N), normals (3, N)) and returns a Surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .setting import EYE, LAMP
from .shapes import Box
from .textures import black_body, bump, noise, print_page, sample_image, srgb_to_linear
from .vectors import dot, mix, rotation, smoothstep, unit, vector

# The published sRGB values of the 24-patch ColorChecker, in reading order.
CHART_SRGB = np.frombuffer(
    bytes.fromhex(
        "735244 c29682 627a9d 576c43 8580b1 67bdaa d67e2c 505ba6 c15a63 5e3c6c 9dbc40 e0a32e "
        "383d96 469449 af363c e7c71f bb5695 0885a1 f3f3f2 c8c8c8 a0a0a0 7a7a79 555555 343434"
    ),
    np.uint8,
).reshape(24, 3)


@dataclass
class Surface:
    """What a material says about N points: arrays broadcast to (3, N) or (N,)."""

    albedo: np.ndarray
    normal: np.ndarray
    emission: np.ndarray | float = 0.0  # radiance
    f0: np.ndarray | float = 0.04  # mirror reflectance at normal incidence
    roughness: float = 0.5  # width of the highlight (GGX alpha)
    mirror: bool = False  # also shows the sharp reflection of its surroundings
    through: float = 0.0  # share of the light from behind that shines through


def wood(shape, p, n):
    """Varnished oak planks along x."""
    x, z = p[0] + 0.06 * p[2], p[2] - 0.06 * p[0] + 40
    plank = np.floor(z / 1.35)
    x = x + 7.3 * plank
    warp = noise(x * 0.35, z * 1.7, plank * 3.1)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (z * 2.3 + 2.6 * warp + 0.25 * noise(x * 1.1, z * 9, plank)))
    fibre = noise(x * 2.2, z * 38, plank) * 0.6 + noise(x * 5, z * 95, plank + 5) * 0.4
    tone = 0.55 * rings**1.5 + 0.55 * fibre + 0.25 * noise(plank * 1.7, 0.5, 0.5)
    albedo = mix(vector(0.33, 0.175, 0.082), vector(0.12, 0.052, 0.022), np.clip(tone, 0, 1.2))
    seam = np.abs(z / 1.35 - np.round(z / 1.35)) * 1.35
    albedo = albedo * (0.25 + 0.75 * smoothstep(0.004, 0.02, seam))
    tilt = unit(n + vector(0, 0, 1) * 0.05 * (fibre - 0.5))
    return Surface(albedo, tilt, f0=0.045 * (1.2 - 0.7 * fibre), roughness=0.23)


def wall(shape, p, n):
    """Matt sage paint, clean enough to show blotches and banding."""
    mottle = 0.97 + 0.06 * noise(p[0] * 0.7, p[1] * 0.7, 3.5)
    return Surface(vector(0.25, 0.285, 0.255) * mottle, n, f0=0.0)


def night(shape, p, n):
    """The view out of the window: dusk gradient, stars, and the lights of a town out of focus."""
    x, y = p[0], p[1]
    horizon = np.exp(-np.maximum(y - 2.0, 0) * 0.75)
    sky = mix(vector(0.004, 0.011, 0.036), vector(0.05, 0.075, 0.13), horizon)
    hills = 1.55 + 0.25 * np.sin(x * 1.1) + 0.5 * noise(x * 0.9, 4.2, 0.5)
    sky = sky * np.where(y > hills, 1, 0.12)
    rng = np.random.default_rng(11)
    for _ in range(46):
        sx, sy = rng.uniform(-7, -1.5), rng.uniform(2.4, 6)
        sky = sky + rng.uniform(0.05, 0.5) * np.exp(-((x - sx) ** 2 + (y - sy) ** 2) / 0.013**2)
    colours = (black_body(2300), black_body(2900), black_body(4200), vector(0.9, 0.12, 0.06))
    for _ in range(30):
        sx, sy = rng.uniform(-7, -1.5), 1.85 - rng.exponential(0.35)
        radius, colour = rng.uniform(0.05, 0.1), colours[rng.choice(4, p=(0.4, 0.35, 0.15, 0.1))]
        disc = smoothstep(radius, radius * 0.86, np.hypot(x - sx, y - sy))
        sky = sky + rng.uniform(0.15, 1.1) * colour * disc
    return Surface(vector(0, 0, 0), n, emission=sky, f0=0.0)


def plain(colour, roughness=0.5, f0=0.04, mirror=False):
    """Return a material of one albedo."""

    def material(shape, p, n):
        return Surface(vector(*colour), n, f0=f0, roughness=roughness, mirror=mirror)

    return material


CHART = Box((0.12, 0.975, -2.42), (1.42, 0.965, 0.03), rotation(-3, -13))
CHART_PITCH, CHART_PATCH = 0.445, 0.38  # dm


def chart(shape, p, n):
    """A 24-patch colour chart: matt patches in a black frame."""
    x, y, _ = shape.local(p)
    column, row = np.floor(x / CHART_PITCH + 3), np.floor(2 - (y - 0.02) / CHART_PITCH)
    patch = (np.clip(row, 0, 3) * 6 + np.clip(column, 0, 5)).astype(np.int32)
    off = np.maximum(np.abs(x / CHART_PITCH + 2.5 - column), np.abs(1.5 - (y - 0.02) / CHART_PITCH - row))
    inside = (off * CHART_PITCH < CHART_PATCH / 2) & (row >= 0) & (row < 4) & (column >= 0) & (column < 6)
    albedo = srgb_to_linear(CHART_SRGB)[patch].T
    return Surface(np.where(inside, albedo, 0.02), n, f0=0.0)


def printed(ink, paper, colour, face):
    """Return a material printed with the mask ``ink`` on the box side ``face``: 1 is +y, 2 is +z."""
    right, down = {2: (0, 1), 1: (0, 2)}[face]

    def material(shape, p, n):
        q = shape.local(p) / shape.half
        v = q[down] if face == 1 else -q[down]
        cover = sample_image(ink, q[right] / 2 + 0.5, v / 2 + 0.5) * (q[face] > 0.99)
        fibre = 0.96 + 0.08 * noise(*(p * np.float32(23)))
        return Surface(mix(vector(*paper) * fibre, vector(*colour), cover), n, f0=0.02, roughness=0.6)

    return material


def book(cover, title):
    """Return a cloth-bound book: a golden title on the spine (+z), cover above and below, else page edges."""
    ink = print_page(1400, 160, [(60, 24, 84, title), (20, 12, 6, None), (20, 142, 6, None)])
    spine = printed(ink, cover, (0.75, 0.55, 0.2), 2)

    def material(shape, p, n):
        surface, q = spine(shape, p, n), shape.local(p)
        pages = (np.abs(q[1]) < shape.half[1] - 0.035) & (q[2] < shape.half[2] - 0.02)
        pages &= np.abs(q[0]) > shape.half[0] - 0.01
        leaves = 0.45 + 0.25 * noise(q[1] * 60, q[2] * 0.7, 0.5)
        weave = 0.85 + 0.3 * noise(q[0] * 45, q[1] * 45, q[2] * 45)
        surface.albedo = np.where(pages, vector(1, 0.9, 0.7) * leaves, surface.albedo * weave)
        return surface

    return material


SETT = ("navy", 14, "red", 3, "navy", 3, "red", 14, "gold", 2, "red", 6, "green", 12, "cream", 2, "green", 5)
YARN = {
    "navy": (0.02, 0.045, 0.22),
    "red": (0.42, 0.02, 0.03),
    "gold": (0.78, 0.42, 0.03),
    "green": (0.02, 0.17, 0.07),
    "cream": (0.72, 0.66, 0.52),
}
THREAD = 0.028  # dm between two threads


def tartan(shape, p, n):
    """Plain weave: warp and weft take their colours from the same sett, and go over and under."""
    sett = np.repeat([YARN[c] for c in SETT[::2]], SETT[1::2], axis=0).astype(np.float32)
    x, _, z = shape.local(p)
    u, v = x / THREAD, z / THREAD
    i, j = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    warp_on_top = (i + j) % 2 == 0
    across = np.where(warp_on_top, u - i, v - j) * 2 - 1
    along = np.where(warp_on_top, v - j, u - i) * 2 - 1
    colour = np.where(warp_on_top[:, None], sett[i % len(sett)], sett[j % len(sett)]).T
    colour = colour * (0.8 + 0.4 * noise(u * 0.9, v * 0.9, 1.5))
    depth = (1 - 0.75 * across**4) * (1 - 0.45 * along**2)  # light hardly reaches the gaps between threads
    axes = shape.turn[:, [0, 2]]
    sideways = np.where(warp_on_top, axes[:, :1] * across, axes[:, 1:] * across)
    endways = np.where(warp_on_top, axes[:, 1:] * along, axes[:, :1] * along)
    return Surface(colour * depth, unit(n + 0.55 * sideways + 0.35 * endways), f0=0.02, roughness=0.6)


def orange_peel(shape, p, n):
    """Orange with pores and a pale stem end."""
    q = unit(p - shape.centre)
    blush = noise(*(q * np.float32(1.7) + 9))
    albedo = mix(vector(0.80, 0.25, 0.012), vector(0.85, 0.36, 0.03), blush)
    stem = smoothstep(0.985, 0.995, q[1] * 0.8 + q[0] * 0.25 + q[2] * 0.5)
    normal = bump(bump(n, q, 17, 0.30), q, 34, 0.16)
    return Surface(mix(albedo, vector(0.16, 0.2, 0.05), stem), normal, roughness=0.3, f0=0.045)


def lemon_peel(shape, p, n):
    q = shape.local(p)
    albedo = mix(vector(0.80, 0.56, 0.03), vector(0.70, 0.58, 0.07), noise(*(q * np.float32(4))))
    return Surface(albedo, bump(n, q, 34, 0.22), roughness=0.3, f0=0.045)


def apple_skin(shape, p, n):
    """Red streaks over yellow-green, with small pale dots; the hollow stays green."""
    q = shape.local(p)
    turn = np.arctan2(q[2], q[0])
    streak = noise(np.cos(turn) * 13 + 16, np.sin(turn) * 13 + 16, q[1] * 1.5 + 4)
    side = noise(*(unit(q) * np.float32(1.3) + 21))
    red = smoothstep(0.25, 0.75, 0.45 * streak + 1.1 * side - 0.05)
    red = red * (1 - smoothstep(0.24, 0.08, np.hypot(q[0], q[2])) * (q[1] > 0))
    albedo = mix(vector(0.50, 0.47, 0.07), vector(0.42, 0.022, 0.02), red)
    albedo = mix(albedo, vector(0.65, 0.5, 0.25), 0.4 * smoothstep(0.80, 0.90, noise(*(q * np.float32(34)))))
    return Surface(albedo, n, roughness=0.17, f0=0.045, mirror=True)


def wax(shape, p, n):
    """Candle wax, glowing through near the flame."""
    depth = np.maximum(0.8 - shape.local(p)[1], 0)
    glow = 1.1 * np.exp(-depth * 3.2) * vector(1, 0.42, 0.1)
    return Surface(vector(0.75, 0.66, 0.5), n, emission=glow, roughness=0.35)


def flame(shape, p, n):
    """White-yellow body, orange tip, blue foot."""
    y = shape.local(p)[1] / shape.bound
    colour = mix(vector(1, 0.72, 0.30), vector(1, 0.5, 0.13), smoothstep(0.1, 0.9, y))
    colour = mix(vector(0.12, 0.16, 0.5), 20 * colour, smoothstep(-0.85, -0.2, y))
    return Surface(vector(0, 0, 0), n, emission=colour, f0=0.0)


def opal(shape, p, n):
    """The lamp's globe: brightest where one looks straight through the glass at the bulb."""
    facing = np.clip(dot(n, unit(EYE - p)), 0, 1)
    return Surface(vector(0, 0, 0), n, emission=LAMP.colour * (3 + 17 * facing**1.5), f0=0.0)


def glaze(shape, p, n):
    """White ceramic with two hand-painted blue bands."""
    y = shape.local(p)[1]
    y = y + 0.02 * np.sin(3 * np.arctan2(p[2] - shape.centre[2], p[0] - shape.centre[0]))
    band = np.maximum(smoothstep(0.09, 0.07, np.abs(y - 0.12)), smoothstep(0.022, 0.012, np.abs(y - 0.27)))
    band = np.maximum(band, smoothstep(0.03, 0.02, np.abs(y + 0.55)))
    return Surface(
        mix(vector(0.62, 0.60, 0.54), vector(0.03, 0.07, 0.30), band), n, mirror=True, roughness=0.12
    )


def leaf_green(shape, p, n):
    u, v = shape.local(p)
    veins = smoothstep(0.10, 0.0, np.abs(np.mod(u * 7 - np.abs(v) * 1.2, 1) - 0.5)) * 0.25
    rib = np.maximum(smoothstep(0.10, 0.03, np.abs(v)), veins)
    albedo = mix(vector(0.055, 0.17, 0.028), vector(0.20, 0.33, 0.09), rib)
    return Surface(albedo, n, roughness=0.32, through=0.45)
