"""The fixed setting: where the picture is taken from, and the light in the room."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .textures import black_body
from .vectors import vector


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
WINDOW = ((-3.35, 3.9, -3.35), 1.35, 1.7, 0.16 * black_body(9500))  # centre, half width and height
ROOM = 0.012 * black_body(3000)  # what the dark room behind the camera sends back
