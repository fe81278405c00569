"""How fast the kernel of a low-level block is on this GPU, by the shape of its programs.

    python benchmarks/kernels.py [--size HEIGHTxWIDTH] [--image CHANNELS] [--repeat N]

One block, 64 wide: `kernels.convolve` with each combination of pixels and warps of a program and taps in
flight (`PIXELS`, `WARPS`, `STAGES`), after cuDNN's convolution of the same size alone, in half precision.
Prints the median of N runs after two to warm up, in milliseconds and TFLOP/s, the fastest last. With one
stage nothing is loaded ahead, but loads go through the first-level cache, which the usual ones pass by. With
TRITON_INTERPRET=1 it runs without a GPU; times then mean nothing.
"""

import itertools
import re
import statistics
import time
from collections.abc import Callable

import click
import torch
from script import run_script

from deepisp_cli import kernels

WIDTH = 64
SHAPES = tuple(itertools.product((64, 128, 256), (4, 8), (1, 2, 3, 4)))


@click.command(help=__doc__.split("\n")[0])
@click.option("--size", default="3000x4000", show_default=True, metavar="HEIGHTxWIDTH")
@click.option("--image", default=3, show_default=True, type=click.IntRange(1, kernels.LAST_OUTPUTS))
@click.option("--repeat", default=20, show_default=True, type=click.IntRange(min=1))
def main(size: str, image: int, repeat: int) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"\d+x\d+", size):
        raise click.BadParameter(f"{size!r}: give HEIGHTxWIDTH, such as 3000x4000", param_hint="--size")
    height, width = map(int, size.split("x"))
    stem = torch.rand(height, width, WIDTH, device=device).half()
    frame = torch.rand(height, width, image, device=device)
    weight = 0.05 * torch.randn(WIDTH, WIDTH, 3, 3, device=device)
    filters, bias = kernels.arrange(weight), torch.zeros(WIDTH, device=device)
    work = 2 * 9 * WIDTH**2 * (height - 2) * (width - 2)

    planes = stem.permute(2, 0, 1)[None]  # channels last
    half = weight.half().contiguous(memory_format=torch.channels_last)
    _print(
        "cuDNN's convolution alone", _median(lambda: torch.nn.functional.conv2d(planes, half), repeat), work
    )
    found = []
    for shape in SHAPES:
        kernels.PIXELS, kernels.WARPS, kernels.STAGES = shape
        try:
            seconds = _median(lambda: kernels.convolve(stem, filters, bias, frame, 1), repeat)
        except Exception as error:  # more shared memory or registers than there are
            click.echo(f"pixels {shape[0]}, warps {shape[1]}, stages {shape[2]}: {type(error).__name__}")
            continue
        found.append((seconds, shape))
    for seconds, shape in sorted(found, reverse=True):
        _print("pixels {}, warps {}, stages {}".format(*shape), seconds, work)


def _median(run: Callable[[], object], repeat: int) -> float:
    """Seconds."""
    seconds = []
    for _ in range(repeat + 2):
        started = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[2:])


def _print(name: str, seconds: float, work: float) -> None:
    click.echo(f"{name}: {1e3 * seconds:.2f} ms, {work / seconds / 1e12:.0f} TFLOP/s")


if __name__ == "__main__":
    run_script(main)
