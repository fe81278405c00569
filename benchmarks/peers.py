"""The same raws through LibRaw, darktable and RawTherapee: seconds, and ratios against deepisp, in one run.

    python benchmarks/peers.py [RAW]... [--megapixels M] [--repeat N]

Without raws one computed frame is developed. Each program uses its defaults and writes to memory or a
temporary PNG; the median of N runs counts, after one to warm up.
"""

import statistics
import tempfile
import time
from pathlib import Path

import click
from script import run_script

from deepisp_cli.benchmark import frame_size, write_frame
from deepisp_cli.engine import open_engine
from deepisp_cli.errors import DeepIspError
from deepisp_cli.evaluation.baselines import RAW_BASELINES, developed, is_installed, program_version
from deepisp_cli.models import list_models


@click.command(help=__doc__.split("\n")[0])
@click.argument("raws", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--megapixels", default=12.0, show_default=True, help="Of the computed frame.")
@click.option("--repeat", default=3, show_default=True, type=click.IntRange(min=1))
def main(raws: tuple[Path, ...], megapixels: float, repeat: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if not raws:
            raws = (Path(folder) / "frame.dng",)
            write_frame(raws[0], *frame_size(megapixels))
        methods = {
            model.name: developed(open_engine(model)) for model in list_models() if model.has_transform
        }
        for name, method in RAW_BASELINES.items():
            if is_installed(name):
                methods[name] = method
            else:
                click.echo(f"{name}: not installed")
        ours = next(iter(methods))
        for raw in raws:
            try:
                size = methods[ours](raw).size / 3e6
            except DeepIspError as error:  # then there is nothing to compare with
                click.echo(error, err=True)
                continue
            seconds = {}
            for name, method in methods.items():
                try:
                    method(raw)
                except DeepIspError as error:  # a program that cannot read the file; the others continue
                    click.echo(f"{name}: {error}", err=True)
                    continue
                seconds[name] = statistics.median(_seconds(method, raw) for _ in range(repeat))
            click.echo(f"{raw.name}, {size:.1f} megapixels")
            for name, spent in seconds.items():
                version = program_version(name)
                shown = f"{name} {version}" if version else name
                click.echo(f"  {shown:22}{spent:7.2f} s  {spent / seconds[ours]:6.2f} of {ours}")


def _seconds(method, raw: Path) -> float:  # type: ignore[no-untyped-def]
    started = time.perf_counter()
    method(raw)
    return time.perf_counter() - started


if __name__ == "__main__":
    run_script(main)
