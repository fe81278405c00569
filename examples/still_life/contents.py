"""What the scene holds: the things on the table, around it, and outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import ImageFont

from .materials import (
    CHART,
    apple_skin,
    book,
    chart,
    flame,
    glaze,
    leaf_green,
    lemon_peel,
    night,
    opal,
    orange_peel,
    plain,
    printed,
    tartan,
    wall,
    wax,
    wood,
)
from .setting import LAMP, WINDOW
from .shapes import Box, Capsule, Cloth, Implicit, Leaf, Sphere
from .textures import print_page
from .vectors import rotation, smoothstep


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
    (window_x, window_y, _), half_w, half_h, _ = WINDOW
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
