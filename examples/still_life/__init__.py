"""Render the project's own test scene: a still life at night, in linear light.

    python examples/still_life still_life.png --width 768 --height 512

A small ray tracer in numpy. Everything in the picture is computed here (wood, weave, print, fruit), so the
sample raw and the documentation pictures need no photograph by anyone else. The scene is made for judging a
raw developer: a 24-patch colour chart, letters down to the limit of legibility, a fine weave in saturated
colours, a clean wall gradient, lamps far above white, and deep shadows.

Conventions: vectors are float32 arrays of shape (3, N); lengths are decimetres; x is right, y is up, z is
towards the camera; the table top is y = 0. Colours are linear sRGB; radiance 1.0 is about what a white sheet
under the main lamp shows.
"""

from .camera import chart_patches, preview, render

__all__ = ["chart_patches", "preview", "render"]
