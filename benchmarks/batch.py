"""How well a batch hides reading and writing, and whether its memory stays flat.

    python benchmarks/batch.py [--files N] [--megapixels M] [--model NAME|DIR] [--device DEVICE]

Develops N computed frames in one batch. Printed: the seconds of each stage, summed over the files; the wall
clock over the slowest thread's seconds (1 is perfect); files a second; and by how much the peak of the
process's memory grew from the tenth file to the last.
"""

import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deepisp_cli.batch import develop_many
from deepisp_cli.benchmark import frame_size, peak_memory, write_frame
from deepisp_cli.engine import open_engines
from deepisp_cli.models import find_model
from deepisp_cli.pipeline import Options
from deepisp_cli.plan import Job

WORKERS = {"read": "read", "demosaic": "read", "write": "write"}  # stages beside the network's thread
TENTH = 10


@click.command(help=__doc__.split("\n")[0])
@click.option("--files", default=20, show_default=True, type=click.IntRange(min=TENTH + 1))
@click.option("--megapixels", default=3.0, show_default=True)
@click.option("--model", default="deepisp", show_default=True, metavar="NAME|DIR")
@click.option("--device", default="auto", show_default=True)
def main(files: int, megapixels: float, model: str, device: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_frame(folder / "0.dng", *frame_size(megapixels))
        for index in range(1, files):
            shutil.copy(folder / "0.dng", folder / f"{index}.dng")
        jobs = [Job(folder / f"{i}.dng", folder / f"{i}.jpg") for i in range(files)]
        engines = open_engines(find_model(model), devices=device)
        places = ", ".join(f"{engine.name}/{engine.device}" for engine in engines)
        seconds: Counter[str] = Counter()
        early = 0.0
        started = time.perf_counter()
        for index, result in enumerate(develop_many(jobs, engines, Options())):
            assert result.status == "written", result.error
            seconds.update(result.seconds)
            if index == TENTH - 1:
                early = peak_memory() or 0
        wall = time.perf_counter() - started
        threads: Counter[str] = Counter()
        for stage, spent in seconds.items():
            threads[WORKERS.get(stage, "network and colour")] += spent
        click.echo(f"{files} files of {megapixels:g} megapixels, {places}")
        click.echo("stages: " + ", ".join(f"{stage} {spent:.1f} s" for stage, spent in seconds.items()))
        slowest = max(threads, key=lambda thread: threads[thread])
        ratio = wall / threads[slowest]
        click.echo(
            f"wall {wall:.1f} s, {ratio:.2f} of the slowest thread ({slowest}), {files / wall:.2f} files/s"
        )
        late = peak_memory() or 0
        click.echo(f"memory: peak {late:g} MB, grown by {late - early:g} MB since file {TENTH}")


if __name__ == "__main__":
    main()
