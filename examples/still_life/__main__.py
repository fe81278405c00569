"""Write a tone-mapped preview of the scene: python examples/still_life OUT.png"""

import argparse
import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from still_life import preview, render


def main():
    """Write a tone-mapped preview of the scene."""
    parser = argparse.ArgumentParser(
        prog="still_life", description="Render the still life and write an 8-bit sRGB preview."
    )
    parser.add_argument("output", metavar="OUT.png")
    parser.add_argument("--width", type=int, default=1536)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--samples", type=int, default=3, help="rays per pixel along each axis (default: 3)")
    options = parser.parse_args()
    Image.fromarray(preview(render(options.width, options.height, samples=options.samples))).save(
        options.output
    )


if __name__ == "__main__":
    main()
