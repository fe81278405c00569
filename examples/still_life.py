"""Render the project's own test scene: a still life at night, in linear light.

    python examples/still_life.py still_life.png --width 768 --height 512

A small ray tracer in numpy. Everything in the picture is computed here (wood, weave, print, fruit), so the
sample raw and the documentation pictures need no photograph by anyone else. The scene is made for judging a
raw developer: a 24-patch colour chart, letters down to the limit of legibility, a fine weave in saturated
colours, a clean wall gradient, lamps far above white, and deep shadows.

Conventions: vectors are float32 arrays of shape (3, N); lengths are decimetres; x is right, y is up, z is
towards the camera; the table top is y = 0. Colours are linear sRGB; radiance 1.0 is about what a white sheet
under the main lamp shows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

EPSILON = 2e-3  # dm; float32 rays leave their surface by this much
GLASS_INDEX = 1.5  # refractive index of crown glass
STEPS = 44  # sphere-tracing steps for the implicit shapes
PENUMBRA_RAYS = 5  # times as many shadow rays in penumbras
SHADOW_RAYS = 4  # to the main lamp from each point; half as many to the other lights

# The published sRGB values of the 24-patch ColorChecker, in reading order.
CHART_SRGB = np.frombuffer(
    bytes.fromhex(
        "735244 c29682 627a9d 576c43 8580b1 67bdaa d67e2c 505ba6 c15a63 5e3c6c 9dbc40 e0a32e "
        "383d96 469449 af363c e7c71f bb5695 0885a1 f3f3f2 c8c8c8 a0a0a0 7a7a79 555555 343434"
    ),
    np.uint8,
).reshape(24, 3)


# --- small vector and texture tools ---------------------------------------------------------------------


def vector(*components):
    """Return a (3, 1) float32 column that broadcasts against (3, N)."""
    return np.array(components, np.float32).reshape(3, 1)


def dot(a, b):
    """Return the (N,) inner products of two (3, N) arrays."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def unit(a):
    """Return (3, N) scaled to length one."""
    return a / np.sqrt(dot(a, a) + np.float32(1e-20))


def mix(a, b, weight):
    """Blend from ``a`` (weight 0) to ``b`` (weight 1)."""
    return a + (b - a) * weight


def smoothstep(low, high, x):
    """Return the cubic 0..1 ramp of ``x`` between ``low`` and ``high``."""
    s = np.clip((x - low) / np.float32(high - low), 0, 1)
    return s * s * (3 - 2 * s)


def rotation(yaw=0.0, pitch=0.0):
    """Return the 3x3 matrix that pitches about x, then yaws about y (degrees); columns are the local axes."""
    a, b = np.radians([yaw, pitch])
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return (about_y @ about_x).astype(np.float32)


def srgb_to_linear(code):
    """Decode sRGB codes 0..255 to linear 0..1 (IEC 61966-2-1)."""
    v = np.asarray(code, np.float32) / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4).astype(np.float32)


def linear_to_srgb(linear):
    """Encode linear 0..1 to sRGB 0..1 (IEC 61966-2-1); the input is clipped to that range."""
    v = np.clip(linear, 0, 1)
    return np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)


def black_body(kelvin, adopted_white=3400.0):
    """Return the (3, 1) colour of a glowing body as a camera balanced for ``adopted_white`` K records it.

    Planck's law in Wien's approximation at 610, 550 and 465 nm, scaled to a maximum of 1. Balancing between
    the lamp and daylight is what a photographer does at night: the lamp stays warm, the window stays blue.
    """
    wavelength = np.array([610e-9, 550e-9, 465e-9])
    ratio = np.exp(-0.014388 / wavelength * (1 / kelvin - 1 / adopted_white))
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


# --- shapes: each has a bounding sphere, hit() and normal() -----------------------------------------------


class Sphere:
    """A ball."""

    def __init__(self, centre, radius):
        self.centre, self.radius, self.bound = vector(*centre), np.float32(radius), np.float32(radius)

    def hit(self, origin, direction):
        """Return (N,) distances along unit ``direction`` to the near side, inf where there is none."""
        from_centre = origin - self.centre
        b = dot(from_centre, direction)
        inside = b * b - dot(from_centre, from_centre) + self.radius**2
        t = -b - np.sqrt(np.maximum(inside, 0))
        return np.where((inside > 0) & (t > EPSILON), t, np.inf)

    def normal(self, p):
        return (p - self.centre) / self.radius


class Box:
    """A box of half sizes ``half`` turned by the 3x3 matrix ``turn``."""

    def __init__(self, centre, half, turn=None):
        self.centre, self.half = vector(*centre), vector(*half)
        self.turn = np.eye(3, dtype=np.float32) if turn is None else turn
        self.bound = np.sqrt(dot(self.half, self.half))[0]

    def local(self, p):
        """Return the points in the box's own axes, about its centre."""
        return self.turn.T @ (p - self.centre)

    def hit(self, origin, direction):
        o, d = self.local(origin), self.turn.T @ direction
        inverse = 1 / np.where(np.abs(d) < 1e-9, np.float32(1e-9), d)
        middle, reach = -o * inverse, np.abs(inverse) * self.half
        near, far = (middle - reach).max(axis=0), (middle + reach).min(axis=0)
        return np.where((near < far) & (near > EPSILON), near, np.inf)

    def normal(self, p):
        q = self.local(p) / self.half
        face = np.abs(q).argmax(axis=0)
        return self.turn[:, face] * np.sign(q[face, np.arange(q.shape[1])])


class Implicit:
    """A shape given by ``field(local points)``, about its signed distance (N,), in a bounding sphere."""

    def __init__(self, centre, bound, field, turn=None):
        self.centre, self.bound, self.field = vector(*centre), np.float32(bound), field
        self.turn = np.eye(3, dtype=np.float32) if turn is None else turn

    def local(self, p):
        return self.turn.T @ (p - self.centre)

    def hit(self, origin, direction):
        o, d = self.local(origin), self.turn.T @ direction
        b = dot(o, d)
        half = np.sqrt(np.maximum(b * b - dot(o, o) + self.bound**2, 0))
        t, far = np.maximum(-b - half, EPSILON), half - b
        for _ in range(STEPS):
            distance = self.field(o + t * d)
            t = t + np.where(t < far, np.maximum(distance, 0), 0)
        # Tighter than EPSILON, so that a ray leaving this surface does not hit it again.
        # A ray from afar that is still creeping along the surface after all steps is a grazing hit.
        reached = (distance < EPSILON / 2) | ((distance < 1.5 * EPSILON) & (t > 0.2))
        return np.where(reached & (t < far), t, np.inf)

    def normal(self, p):
        q, steps = self.local(p), np.float32(4e-3) * np.eye(3, dtype=np.float32)[:, :, None]
        return self.turn @ unit(np.stack([self.field(q + step) - self.field(q - step) for step in steps]))


class Capsule:
    """A thin round rod from ``start`` to ``end``."""

    def __init__(self, start, end, radius):
        self.start, self.axis, self.radius = vector(*start), vector(*end) - vector(*start), np.float32(radius)
        self.length2 = dot(self.axis, self.axis)
        self.centre, self.bound = self.start + self.axis / 2, np.sqrt(self.length2[0]) / 2 + radius

    def hit(self, origin, direction):
        o = origin - self.start
        along_d, along_o = dot(self.axis, direction), dot(self.axis, o)
        a = self.length2 - along_d**2
        b = self.length2 * dot(direction, o) - along_o * along_d
        c = self.length2 * dot(o, o) - along_o**2 - self.radius**2 * self.length2
        inside = b * b - a * c
        t = (-b - np.sqrt(np.maximum(inside, 0))) / np.maximum(a, 1e-9)
        y = along_o + t * along_d
        return np.where((inside > 0) & (y > 0) & (y < self.length2) & (t > EPSILON), t, np.inf)

    def normal(self, p):
        q = p - self.start
        return unit(q - self.axis * (dot(q, self.axis) / self.length2))


class Leaf:
    """A flat pointed leaf from ``base`` along ``along``; ``face`` is roughly its upper side."""

    def __init__(self, base, along, face, length, width):
        self.base, self.length, self.width = vector(*base), np.float32(length), np.float32(width)
        self.along = unit(vector(*along))
        self.across = unit(np.cross(vector(*face), self.along, axis=0))
        self.face = np.cross(self.along, self.across, axis=0)
        self.centre, self.bound = self.base + self.along * self.length / 2, self.length / 2 + self.width / 2

    def local(self, p):
        """Return (u, v): 0..1 along the leaf and -1..1 across its width."""
        q = p - self.base
        u = dot(q, self.along) / self.length
        outline = np.sin(np.pi * np.clip(u, 0, 1) ** 0.8) * self.width / 2 + 1e-4
        return u, dot(q, self.across) / outline

    def hit(self, origin, direction):
        slope = dot(direction, self.face)
        t = dot(self.base - origin, self.face) / np.where(np.abs(slope) < 1e-6, np.float32(1e-6), slope)
        u, v = self.local(origin + t * direction)
        return np.where((t > EPSILON) & (u > 0) & (u < 1) & (np.abs(v) < 1), t, np.inf)

    def normal(self, p):
        u, v = self.local(p)
        # The blade is flat but shaded as if folded along its midrib and bent towards the tip.
        return unit(
            self.face + self.across * 0.35 * np.sign(v) * np.abs(v) ** 0.5 + self.along * 0.5 * (u - 0.4)
        )


class Cloth(Implicit):
    """A sheet lying on the table with a few folds, cut to ``half`` sizes; its ends are fringed."""

    TOP = 0.15  # dm, above the highest fold

    def __init__(self, centre, half, turn):
        super().__init__(centre, np.hypot(*half) + 0.1, self.above, turn)
        self.half = half

    @staticmethod
    def height(x, z):
        """Return the height of the cloth; the folds run across and grow towards both ends."""
        bend = x + 0.16 * np.sin(1.7 * z + 0.6)
        ends = smoothstep(1.1, 2.1, bend) + smoothstep(1.2, 2.0, -bend)
        return 0.025 + ends * 0.055 * (1 + np.sin(9.0 * bend + 0.5 * z)) + 0.012 * np.sin(2.1 * x - 3 * z + 1)

    def above(self, q):
        return q[1] - self.height(q[0], q[2])

    def hit(self, origin, direction):
        o, d = self.local(origin), self.turn.T @ direction
        # From where the ray comes below the highest fold; the step allows for folds that rise towards it.
        t = np.maximum(np.where(d[1] < 0, (self.TOP - o[1]) / np.minimum(d[1], -1e-6), 0), 2 * EPSILON)
        for _ in range(10):
            gap = self.above(o + t * d)
            t = t + gap / (np.abs(d[1]) + 0.4)
        x, y, z = o + t * d
        t = np.where((np.abs(gap) < EPSILON) & (y < self.TOP) & (t > 3 * EPSILON), t, np.inf)
        fringe = np.abs(np.sin(z * 34 + 2 * np.sin(x * 9))) > 0.55
        inside = (np.abs(z) < self.half[1]) & (np.abs(x) < self.half[0] + 0.16 * fringe)
        return np.where(inside, t, np.inf)


# --- materials: (shape, points (3, N), normals (3, N)) -> Surface -----------------------------------------


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


@dataclass
class Points:
    """N lit points: positions, normals, the rays that found them (all (3, N)), and what they are made of."""

    p: np.ndarray
    normal: np.ndarray
    direction: np.ndarray
    albedo: np.ndarray  # (3, N)
    f0: np.ndarray  # (N,), 0 for points without a highlight
    roughness: np.ndarray  # (N,)
    through: np.ndarray  # (N,)

    def take(self, index):
        """Return the points of ``index``."""
        return Points(*(getattr(self, field)[..., index] for field in self.__dataclass_fields__))


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


def plain(colour, roughness=0.5, f0=0.04, mirror=False, through=0.0):
    """Return a material of one albedo."""

    def material(shape, p, n):
        return Surface(vector(*colour), n, f0=f0, roughness=roughness, mirror=mirror, through=through)

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


def printed(ink, paper, colour, face, sign=1):
    """Return a material printed with the mask ``ink`` on the box side ``face`` (0 x, 1 y, 2 z; + or -)."""
    right, down = {2: (0, 1), 1: (0, 2)}[face]

    def material(shape, p, n):
        q = shape.local(p) / shape.half
        v = q[down] if face == 1 else -q[down]
        cover = sample_image(ink, q[right] / 2 + 0.5, v / 2 + 0.5) * (q[face] * sign > 0.99)
        fibre = 0.96 + 0.08 * noise(*(p * np.float32(23)))
        return Surface(mix(vector(*paper) * fibre, vector(*colour), cover), n, f0=0.02, roughness=0.6)

    return material


def book(cover, title, gold=(0.75, 0.55, 0.2)):
    """Return a cloth-bound book: title on the spine (+z), cover above and below, page edges elsewhere."""
    ink = print_page(1400, 160, [(60, 24, 84, title), (20, 12, 6, None), (20, 142, 6, None)])
    spine = printed(ink, cover, gold, 2)

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


# --- the scene --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Thing:
    """An object of the scene."""

    name: str
    shape: Sphere | Box | Implicit | Capsule | Leaf
    material: Callable
    albedo: tuple[float, float, float]  # mean colour, for the light it throws on its neighbours
    shadow: bool = True
    glass: tuple[float, float, float] | None = None  # transmittance of one diameter


class Scene:
    """All things, in groups that lie close together: (centre, bound, index of the first, things)."""

    def __init__(self, groups):
        self.things, self.groups = [thing for group in groups for thing in group], []
        first = 0
        for group in groups:
            shapes = [thing.shape for thing in group]
            centre = np.mean([shape.centre for shape in shapes], axis=0)
            bound = max(np.linalg.norm(shape.centre - centre) + shape.bound for shape in shapes)
            # A sphere around the walls would hold every ray: not worth testing.
            self.groups.append((centre, bound if bound < 4 else None, first, group))
            first += len(group)
        self.albedo = np.array([thing.albedo for thing in self.things], np.float32).T


@dataclass(frozen=True)
class Lamp:
    """A ball of light. ``strength`` is the radiance of a white sheet facing it 1 dm away."""

    centre: np.ndarray
    radius: float
    strength: float
    colour: np.ndarray


EYE, TARGET, TAN_HALF_WIDTH = vector(0, 4.3, 10.0), vector(0.0, 1.45, -0.6), 0.40
LAMP = Lamp(vector(1.0, 3.55, 0.85), 0.36, 21.0, black_body(2700))
CANDLE = Lamp(vector(-3.52, 2.0, -0.5), 0.13, 3.0, black_body(2000))
WINDOW = (vector(-3.35, 3.9, -3.35), 1.35, 1.7, 0.16 * black_body(9500))  # centre, half width and height
ROOM = 0.012 * black_body(3000)  # what the dark room behind the camera sends back


def vase_field(q):
    """Belly, neck and lip: the radius as a function of the height."""
    y = np.clip(q[1], -0.85, 0.85)
    radius = 0.31 + 0.20 * np.cos((y + 0.22) * 3.3) + 0.10 * smoothstep(0.55, 0.85, y)
    return np.maximum(np.hypot(q[0], q[2]) - radius, np.abs(q[1]) - 0.85) * 0.8


def apple_field(q):
    """A ball with a hollow at the top and a narrower foot."""
    ring = np.hypot(q[0], q[2])
    hollow = 0.20 * np.exp(-((ring / 0.16) ** 2)) * np.where(q[1] > 0, 1, 0.45)
    return (np.sqrt((ring / (1 + 0.28 * q[1])) ** 2 + (q[1] * 1.08) ** 2) - 0.42 + hollow) * 0.7


def lemon_field(q):
    """An ellipsoid along x with a nipple at each end."""
    taper = np.hypot(q[1], q[2])
    return (np.sqrt(taper**2 + (q[0] * 0.78) ** 2) - 0.30 - 0.09 * np.exp(-((taper / 0.085) ** 2))) * 0.75


def candle_field(q):
    """A cylinder with a molten, uneven rim."""
    ring, rim = np.hypot(q[0], q[2]), 0.8 - 0.05 * np.sin(2 * np.arctan2(q[2], q[0]))
    return np.maximum(ring - 0.24, q[1] - rim + 0.10 * smoothstep(0.20, 0.05, ring)) * 0.8


def flame_field(q):
    """A drop."""
    y = q[1] / 0.27
    width = 0.085 * np.sqrt(np.clip(1 - y * y, 0, 1)) * (1 - 0.55 * y)
    return np.maximum(np.hypot(q[0], q[2]) - width, np.abs(q[1]) - 0.27) * 0.6


def saucer_field(q):
    """A shallow dish."""
    return np.maximum(np.hypot(q[0], q[2]) - 0.5 - q[1], np.abs(q[1]) - 0.05) * 0.7


def shade_field(q):
    """A thin enamel cone, open below, around the upper half of the globe."""
    radius = 0.56 - 0.62 * (q[1] - 0.12)
    wall_distance = np.abs(np.hypot(q[0], q[2]) - radius) * 0.85 - 0.015
    return np.maximum(wall_distance, np.abs(q[1] - 0.25) - 0.28)


def plant():
    """Return the stems and leaves in the vase, grown by a fixed recipe."""
    rng, things = np.random.default_rng(3), []
    for lean_x, lean_z, height in (
        (-0.45, 0.2, 1.65),
        (0.35, -0.25, 2.0),
        (0.95, 0.3, 1.5),
        (0.1, 0.55, 1.2),
    ):
        points = [
            np.array([2.4 + lean_x * s**1.6, 1.55 + height * s, -1.75 + lean_z * s**1.6])
            for s in np.linspace(0, 1, 6)
        ]
        for k in range(5):
            rod = Capsule(points[k], points[k + 1], 0.026 - 0.003 * k)
            things.append(painted("stem", rod, (0.10, 0.13, 0.04)))
            angle = 2.4 * k + rng.uniform(0, 6.3)
            for side in (angle, angle + np.pi) if k else ():
                along = (np.cos(side), 0.45 + rng.uniform(-0.3, 0.3), np.sin(side))
                leaf = Leaf(points[k + 1], along, (0, 1, 0.3), 0.72 - 0.07 * k, 0.27)
                things.append(Thing("leaf", leaf, leaf_green, (0.06, 0.17, 0.03)))
    return things


def eye_chart():
    """Return the ink of the card: rows of letters, each smaller than the last."""
    rows = (
        "R A W",
        "L I G H T",
        "S H A D O W S",
        "N I G H T  A N D  L A M P",
        "F I N E  G R A I N  A N D  C O L O U R",
        "A L L  T H E  L E T T E R S  O F  T H I S  L I N E  A R E  S M A L L",
    )
    lines, y = [(60, 60, 5, None)], 100
    for row, size in zip(rows, (300, 180, 118, 72, 47, 27), strict=True):
        lines.append((450, y, size, "^" + row))
        y += int(size * 1.28) + 22
    return print_page(900, 1200, [*lines, (60, y + 10, 5, None)])


STORY = (
    "The lamp is lit. A red cloth, a lemon and a ball of glass lie on the table, and the window is blue. "
    "What the sensor counts is light; what is left when the light is few is chance. A fine line should stay "
    "a line, a grain of wood a grain, and the dark wall should be quiet."
)


def newspaper():
    """Return the ink of the printed sheet: a title, a rule and two columns."""
    words = STORY.split()
    lines = [
        (500, 30, 110, "^The Evening Lamp"),
        (40, 168, 6, None),
        (500, 182, 46, "^Notes on light and shadow"),
        (40, 246, 3, None),
    ]
    font, at = ImageFont.load_default(36), 0
    for x in (45, 520):
        for y in range(270, 1270, 46):
            text = ""
            while font.getlength(f"{text} {words[at % len(words)]}") < 435:
                text, at = f"{text} {words[at % len(words)]}".strip(), at + 1
            lines.append((x, y, 36, text))
    return print_page(1000, 1300, lines)


def painted(name, shape, colour, shadow=True, **look):
    """Return a thing of one colour; ``look`` goes to plain()."""
    return Thing(name, shape, plain(colour, **look), colour, shadow=shadow)


def glass(name, shape, tint):
    """Return a solid ball of tinted glass."""
    return Thing(name, shape, plain((0, 0, 0), mirror=True), tuple(0.12 * t for t in tint), glass=tint)


def build_scene():
    """Return the scene: the things on the table, around it, and outside."""
    window_x, window_y, half_w, half_h = -3.35, 3.9, 1.35, 1.7
    cream, ink, sage = (0.72, 0.69, 0.60), (0.03, 0.03, 0.035), (0.25, 0.28, 0.25)
    walls = [
        ((window_x + half_w + 6, 4, -3.35), (6, 5, 0.35)),
        ((window_x - half_w - 6, 4, -3.35), (6, 5, 0.35)),
        ((window_x, window_y - half_h - 3, -3.35), (half_w, 3, 0.35)),
        ((window_x, window_y + half_h + 3, -3.35), (half_w, 3, 0.35)),
    ]
    frame = [
        ((window_x, window_y - half_h, -3.0), (half_w + 0.22, 0.07, 0.16)),
        ((window_x, window_y, -3.3), (0.045, half_h, 0.05)),
        ((window_x, 3.55, -3.3), (half_w, 0.04, 0.05)),
        ((window_x - half_w + 0.06, window_y, -3.3), (0.06, half_h, 0.07)),
        ((window_x + half_w - 0.06, window_y, -3.3), (0.06, half_h, 0.07)),
        ((window_x, window_y - half_h + 0.13, -3.3), (half_w, 0.06, 0.07)),
    ]
    room = [Thing("wall", Box(c, h), wall, sage, shadow=False) for c, h in walls]
    room += [
        Thing("night", Box((-4.2, 3.4, -5.5), (4, 4, 0.1)), night, (0, 0, 0), shadow=False),
        Thing("table", Box((0, -0.5, 2), (12, 0.5, 5.2)), wood, (0.2, 0.1, 0.045), shadow=False),
        painted("skirting", Box((0, 0, -2.98), (12, 0.06, 0.05)), (0.1, 0.05, 0.025), shadow=False),
    ]
    window = [painted("window frame", Box(c, h), (0.55, 0.53, 0.48), roughness=0.3) for c, h in frame]
    back = [
        Thing("chart", CHART, chart, (0.15, 0.14, 0.14)),
        Thing(
            "card",
            Box((-2.45, 0.99, -2.35), (0.75, 1.0, 0.02), rotation(7, -13)),
            printed(eye_chart(), cream, ink, 2),
            cream,
        ),
    ]
    light = [
        Thing("candle", Implicit((-3.52, 0.85, -0.5), 0.9, candle_field), wax, (0.7, 0.6, 0.45)),
        painted(
            "saucer",
            Implicit((-3.52, 0.05, -0.5), 0.62, saucer_field),
            (0.36, 0.2, 0.08),
            roughness=0.2,
            f0=0.3,
        ),
        painted(
            "wick", Capsule((-3.52, 1.5, -0.5), (-3.51, 1.78, -0.5), 0.018), (0.02, 0.02, 0.02), shadow=False
        ),
        Thing("flame", Implicit((-3.52, 1.97, -0.5), 0.3, flame_field), flame, (0, 0, 0), shadow=False),
    ]
    cloth = [
        Thing("cloth", Cloth((-1.05, 0, 1.25), (2.1, 1.0), rotation(11)), tartan, (0.15, 0.06, 0.06)),
        Thing("orange", Sphere((-0.25, 0.46, 0.75), 0.43), orange_peel, (0.8, 0.3, 0.02)),
        Thing(
            "lemon",
            Implicit((0.62, 0.32, 1.55), 0.56, lemon_field, rotation(-32)),
            lemon_peel,
            (0.75, 0.55, 0.04),
        ),
        painted("ceramic ball", Sphere((-1.42, 0.40, -0.35), 0.40), (0.012, 0.17, 0.21), mirror=True),
        glass("green glass", Sphere((-1.55, 0.42, 1.25), 0.38), (0.25, 0.80, 0.48)),
        glass("amber glass", Sphere((-0.72, 0.27, 1.95), 0.23), (0.92, 0.50, 0.08)),
    ]
    right = [
        Thing(
            "newspaper",
            Box((2.3, 0.008, 1.3), (0.95, 0.008, 1.235), rotation(9)),
            printed(newspaper(), (0.66, 0.63, 0.55), ink, 1),
            (0.55, 0.52, 0.45),
        ),
        Thing(
            "book",
            Box((3.1, 0.14, -0.62), (1.05, 0.14, 0.75), rotation(-9)),
            book((0.09, 0.022, 0.02), "NOTES ON LIGHT      VOL. II"),
            (0.1, 0.03, 0.03),
        ),
        Thing(
            "book",
            Box((3.15, 0.40, -0.66), (0.93, 0.12, 0.68), rotation(-3)),
            book((0.018, 0.06, 0.085), "A HISTORY OF SHADOWS"),
            (0.03, 0.06, 0.08),
        ),
        Thing(
            "apple",
            Implicit((3.3, 0.91, -0.55), 0.56, apple_field, rotation(20, 12)),
            apple_skin,
            (0.4, 0.08, 0.03),
        ),
        painted("apple stem", Capsule((3.3, 1.08, -0.52), (3.36, 1.42, -0.47), 0.022), (0.09, 0.05, 0.02)),
        Thing("vase", Implicit((2.4, 0.85, -1.75), 1.1, vase_field), glaze, (0.5, 0.5, 0.46)),
    ]
    x, y, z = LAMP.centre[:, 0]
    lamp = [
        Thing("globe", Sphere((x, y, z), LAMP.radius), opal, (0, 0, 0), shadow=False),
        painted(
            "lamp shade",
            Implicit((x, y, z), 1.0, shade_field),
            (0.012, 0.04, 0.035),
            mirror=True,
            shadow=False,
        ),
        painted(
            "lamp cap",
            Capsule((x, y + 0.5, z), (x, y + 0.66, z), 0.09),
            (0.3, 0.18, 0.05),
            f0=0.4,
            shadow=False,
        ),
        painted("lamp cord", Capsule((x, y + 0.6, z), (x, y + 3, z), 0.02), (0.02, 0.02, 0.02), shadow=False),
    ]
    return Scene([room, window, back, light, cloth, right, lamp, plant()])


# --- light transport --------------------------------------------------------------------------------------


def reaching(centre, bound, origin, direction):
    """Return the indices of the rays that meet a bounding sphere."""
    from_centre = origin - centre
    b = dot(from_centre, direction)
    gap = dot(from_centre, from_centre) - bound**2
    return np.flatnonzero((b * b > gap) & ((b < 0) | (gap < 0)))


def candidates(scene, origin, direction, shadows_only=False):
    """Yield (index, thing, rays, (N,) distances) for every thing that some of the rays may hit.

    ``rays`` are the indices tried: a ray that misses the bounding sphere of a group, or of the thing itself,
    is not. This is most of the speed of the whole program.
    """
    for centre, bound, first, members in scene.groups:
        rays = None if bound is None else reaching(centre, bound, origin, direction)
        if rays is not None and not rays.size:
            continue
        o, d = (origin, direction) if rays is None else (origin[:, rays], direction[:, rays])
        for index, thing in enumerate(members, first):
            if shadows_only and not thing.shadow:
                continue
            near = reaching(thing.shape.centre, thing.shape.bound, o, d)
            if near.size:
                yield (
                    index,
                    thing,
                    near if rays is None else rays[near],
                    thing.shape.hit(o[:, near], d[:, near]),
                )


def nearest(scene, origin, direction):
    """Return two (N,): the distance to the nearest thing (inf for none) and its index (-1 for none)."""
    distance = np.full(origin.shape[1], np.inf, np.float32)
    which = np.full(origin.shape[1], -1, np.int16)
    for index, _, rays, t in candidates(scene, origin, direction):
        closer = t < distance[rays]
        distance[rays[closer]] = t[closer]
        which[rays[closer]] = index
    return distance, which


def visibility(scene, origin, target):
    """Return the (3, N) share of light that gets from ``target`` to ``origin``, both (3, N)."""
    path = target - origin
    length = np.sqrt(dot(path, path))
    direction, light = path / length, np.ones_like(path)
    for _, thing, rays, t in candidates(scene, origin, direction, shadows_only=True):
        blocked = rays[t < length[rays]]
        if thing.glass is None:
            light[:, blocked] = 0
        else:
            # A ball of glass focuses: dark rim, bright coloured middle. A stand-in for the caustic.
            to_centre = thing.shape.centre - origin[:, blocked]
            miss2 = dot(to_centre, to_centre) - dot(to_centre, direction[:, blocked]) ** 2
            chord = np.sqrt(np.clip(1 - miss2 / thing.shape.radius**2, 0, 1))
            light[:, blocked] *= vector(*thing.glass) ** chord * (0.12 + 1.9 * chord**5)
    return light


def shade(scene, origin, direction, sequence, *, samples, depth):
    """Return the (3, N) radiance that arrives at ``origin`` against the unit ``direction``.

    ``sequence(k, m)`` returns pair k of m of (N,) low-discrepancy numbers; ``samples`` shadow rays go to the
    main lamp, half as many to the other lights and into the hemisphere. ``depth`` mirror or glass events are
    followed.
    """
    distance, which = nearest(scene, origin, direction)
    n = origin.shape[1]
    albedo, normal, light = (np.zeros((3, n), np.float32) for _ in range(3))
    f0, roughness, through = (np.zeros(n, np.float32) for _ in range(3))
    mirror = np.zeros(n, bool)
    light[:] = ROOM
    p = origin + np.where(which >= 0, distance, 0) * direction
    for index in np.unique(which[which >= 0]):
        at, thing = np.flatnonzero(which == index), scene.things[index]
        facing = thing.shape.normal(p[:, at])
        facing = facing * -np.sign(dot(facing, direction[:, at]) + 1e-9)
        surface = thing.material(thing.shape, p[:, at], facing)
        albedo[:, at], normal[:, at], light[:, at] = surface.albedo, surface.normal, surface.emission
        f0[at], roughness[at], through[at] = surface.f0, surface.roughness, surface.through
        mirror[at] = surface.mirror
    # A mirror shows the lamps themselves and needs no highlight.
    points = Points(p, normal, direction, albedo, np.where(mirror, 0, f0), roughness, through)
    lit = np.flatnonzero((albedo.max(axis=0) > 0) | (points.f0 > 0))
    light[:, lit] += reflected(scene, points.take(lit), narrowed(sequence, lit), samples)
    shiny = np.flatnonzero(mirror)
    if depth and shiny.size:
        rest = {"samples": max(1, samples // 2), "depth": depth - 1}
        points.f0 = f0
        light[:, shiny] += mirrored(scene, which[shiny], points.take(shiny), narrowed(sequence, shiny), rest)
    return light


def narrowed(sequence, index):
    """Return the sequence for the rays ``index`` only."""
    return lambda k, m: [numbers[index] for numbers in sequence(k, m)]


def mirrored(scene, which, points, sequence, rest):
    """Return (3, N): the Fresnel reflection of polished points and, for glass balls, the refracted view.

    ``which`` are the things the points lie on; ``rest`` are the samples and depth left to shade().
    """
    cosine = -dot(points.normal, points.direction)
    fresnel = points.f0 + (1 - points.f0) * np.clip(1 - cosine, 0, 1) ** 5
    bounced = unit(points.direction + 2 * cosine * points.normal)
    light = fresnel * shade(scene, points.p + EPSILON * points.normal, bounced, sequence, **rest)
    for index in np.unique(which):
        thing, at = scene.things[index], np.flatnonzero(which == index)
        if thing.glass is None:
            continue
        centre, radius, normal = thing.shape.centre, thing.shape.radius, points.normal[:, at]
        inner = refract(points.direction[:, at], normal, 1 / GLASS_INDEX)
        chord = -2 * dot(inner, normal) * radius
        leave = points.p[:, at] + chord * inner
        outer = refract(inner, (centre - leave) / radius, GLASS_INDEX)
        beyond = shade(scene, leave + 2 * EPSILON * outer, outer, narrowed(sequence, at), **rest)
        light[:, at] += (1 - fresnel[at]) ** 2 * vector(*thing.glass) ** (chord / (2 * radius)) * beyond
    return light


def refract(direction, normal, ratio):
    """Return the (3, N) refracted directions by Snell's law; ``ratio`` is n1 / n2."""
    cosine = -dot(normal, direction)
    return unit(
        ratio * direction + (ratio * cosine - np.sqrt(np.maximum(1 - ratio**2 * (1 - cosine**2), 0))) * normal
    )


def reflected(scene, points, sequence, samples):
    """Return (3, N): diffuse light and highlights from the lamps and the window, and one diffuse bounce."""
    # Where the first shadow rays to the large lamp disagree, in a penumbra, many more follow.
    of = samples * PENUMBRA_RAYS
    first = [from_lamp(scene, LAMP, points, *sequence(k, of)) for k in range(0, of, PENUMBRA_RAYS)]
    total = sum(first) / np.float32(samples)
    mixed = np.flatnonzero(np.ptp([light[0] for light in first], axis=0) > 0)
    if mixed.size:
        part, numbers = points.take(mixed), narrowed(sequence, mixed)
        total[:, mixed] = sum(from_lamp(scene, LAMP, part, *numbers(k, of)) for k in range(of)) / np.float32(
            of
        )
    samples = max(1, samples // 2)  # the other lights are dim, or small, or smooth
    for k in range(samples):
        a, b = sequence(k, samples)
        light = from_lamp(scene, CANDLE, points, a, b) + from_window(scene, points, a, b)
        total += (light + points.albedo * bounce(scene, points, a, b)) / samples
    return total


def from_window(scene, points, a, b):
    """Return (3, N): the diffuse light of the dusk, sampled at one point of the window."""
    centre, half_w, half_h, radiance = WINDOW
    target = centre + vector(1, 0, 0) * (2 * a - 1) * half_w + vector(0, 1, 0) * (2 * b - 1) * half_h
    path = target - points.p
    length2 = dot(path, path) + 0.1
    facing = np.maximum(dot(path, points.normal), 0) * np.maximum(-path[2], 0) / length2
    solid = 4 * half_w * half_h * facing / (np.pi * length2)
    used = np.flatnonzero(solid > 0)
    light = np.zeros_like(path)
    seen = visibility(scene, (points.p + EPSILON * points.normal)[:, used], target[:, used])
    light[:, used] = points.albedo[:, used] * radiance * solid[used] * seen
    return light


def from_lamp(scene, lamp, points, a, b):
    """Return (3, N): light of one ball lamp, sampled at one point of the disc it shows to the points."""
    p, normal = points.p, points.normal
    axis = lamp.centre - p
    distance2 = dot(axis, axis)
    axis = axis / np.sqrt(distance2)
    side = unit(np.stack([axis[2], np.zeros_like(a), -axis[0]]) + 1e-6)
    radius, turn = lamp.radius * np.sqrt(a), 2 * np.pi * b
    spot = lamp.centre + radius * (np.cos(turn) * side + np.sin(turn) * np.cross(axis, side, axis=0))
    cosine = dot(normal, axis)
    towards = np.where(cosine < 0, -1, 1) * normal  # leaves are also lit from behind
    used = np.flatnonzero((cosine > 0) | (points.through > 0))
    seen = np.zeros_like(p)
    seen[:, used] = visibility(scene, (p + EPSILON * towards)[:, used], spot[:, used])
    diffuse = points.albedo * (np.maximum(cosine, 0) + points.through * np.maximum(-cosine, 0))
    # GGX highlight with Kelemen's visibility; the lamp's own size widens it.
    middle = unit(axis - points.direction)
    alpha2 = (points.roughness + lamp.radius / np.sqrt(distance2) / 2) ** 2
    lobe = alpha2 / (np.pi * (dot(normal, middle) ** 2 * (alpha2 - 1) + 1) ** 2)
    along = np.maximum(dot(axis, middle), 0.05)
    fresnel = points.f0 + (1 - points.f0) * (1 - along) ** 5 * (points.f0 > 0)
    highlight = np.pi * lobe * fresnel / (4 * along**2) * np.maximum(cosine, 0)
    # The enamel shade cuts the light off above the lamp; its edge is soft because the globe is large.
    shaded = smoothstep(-0.30, 0.42, axis[1]) if lamp is LAMP else np.float32(1)
    return (diffuse + highlight) * seen * shaded * lamp.colour * lamp.strength / distance2


def bounce(scene, points, a, b):
    """Return (3, N): radiance from one cosine-distributed direction of the hemisphere."""
    p, normal = points.p, points.normal
    z, turn = 1 - 2 * a, 2 * np.pi * b
    ring = np.sqrt(np.maximum(1 - z * z, 0))
    out = unit(normal * 1.001 + np.stack([ring * np.cos(turn), z, ring * np.sin(turn)]))
    distance, which = nearest(scene, p + EPSILON * normal, out)
    # The lit room in that direction, as a smooth function: which far thing the ray met would only add noise.
    lit_side = smoothstep(0.8, -0.6, 0.5 * out[2] + out[1])
    far = ROOM + vector(0.15, 0.12, 0.085) * lit_side * unshadowed(p + 2 * out)
    # A thing close by lies in the same shadow: it darkens what it hides, and colours it when not too close.
    openness = smoothstep(0, 2.0, distance)
    near = scene.albedo[:, which] * unshadowed(p) * 1.2 * openness * (1 - openness)
    return far * openness + np.where(which >= 0, near, 0)


def unshadowed(p):
    """Return (3, N): the light of both lamps at ``p`` without shadows and angles, softened near them."""
    light = np.zeros_like(p)
    for lamp in (LAMP, CANDLE):
        path = lamp.centre - p
        light += lamp.colour * lamp.strength / (dot(path, path) + 3)
    return light


# --- the camera -------------------------------------------------------------------------------------------


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


def main(arguments=None):
    """Write a tone-mapped preview of the scene."""
    parser = argparse.ArgumentParser(description="Render the still life and write an 8-bit sRGB preview.")
    parser.add_argument("output", metavar="OUT.png")
    parser.add_argument("--width", type=int, default=1536)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--samples", type=int, default=3, help="rays per pixel along each axis (default: 3)")
    options = parser.parse_args(arguments)
    Image.fromarray(preview(render(options.width, options.height, samples=options.samples))).save(
        options.output
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
