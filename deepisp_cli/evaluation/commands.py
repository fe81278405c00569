"""``deepisp evaluate`` and ``deepisp benchmark``: options → one call. How good, and how fast."""

import json
from pathlib import Path

import click

from deepisp_cli.errors import UsageError
from deepisp_cli.options import device_option, engine_option, tile_option


@click.command()
@click.argument("benchmark", type=click.Choice(["demosaic", "lowlight"]))
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="FOLDER")
@click.option("--model", "models", multiple=True, metavar="NAME|DIR", help="Several are compared. [deepisp]")
@click.option(
    "--baseline", "baselines", multiple=True, metavar="NAME",
    help="demosaic: bilinear, malvar, menon; lowlight: libraw, libraw-dcb, libraw-denoised. [the first]",
)  # fmt: skip
@click.option(
    "--sigma", "sigmas", multiple=True, type=click.FloatRange(min=0), metavar="N",
    help="Noise of 'demosaic', of 255. [0, 5, 10, 15, 20]",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Take N photographs.")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Write results.json, results.md and sheet.jpg there.",
)  # fmt: skip
@engine_option
@device_option
@click.option("-q", "--quiet", is_flag=True, help="Only the table.")
def evaluate(
    benchmark: str, data: Path, models: tuple[str, ...], baselines: tuple[str, ...],
    sigmas: tuple[float, ...], limit: int | None, output: Path | None, engine: str, device: str, quiet: bool,
) -> None:  # fmt: skip
    """Measure models and what people use today on a folder of photographs.

    \b
    deepisp evaluate lowlight photographs/
    deepisp evaluate demosaic kodak24/ --model deepisp-jdd --baseline menon --sigma 0 --sigma 10

    demosaic: mosaics of the photographs with Gaussian noise, the field's protocol. lowlight: the photographs
    as raws at a quarter of their exposure, default output.
    """
    try:
        import skimage  # noqa: F401
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'deepisp[evaluate]'") from error
    from deepisp_cli.engine import open_engine
    from deepisp_cli.evaluation import evaluate as evaluation
    from deepisp_cli.evaluation.benchmarks import open_benchmark
    from deepisp_cli.models import find_model

    chosen = open_benchmark(benchmark, sigmas or (0, 5, 10, 15, 20))
    unknown = set(baselines) - set(chosen.baselines)
    if unknown:
        known = ", ".join(chosen.baselines)
        raise UsageError(f"unknown baseline {min(unknown)!r} of {benchmark}; known: {known}")
    photographs = evaluation.find_photographs(data, limit)
    engines = [open_engine(find_model(name), engine, device) for name in models or ("deepisp",)]
    methods = {name: chosen.baselines[name] for name in baselines or [next(iter(chosen.baselines))]}
    methods |= {opened.model.name: chosen.method(opened) for opened in engines}
    if output:
        output.mkdir(parents=True, exist_ok=True)
    results = evaluation.evaluate(
        chosen,
        photographs,
        methods,
        progress=lambda name: None if quiet else click.echo(name, err=True),
        sheet=output / "sheet.jpg" if output else None,
    )
    click.echo(evaluation.as_text(evaluation.table(results)))
    if output:
        hashes = {opened.model.name: opened.model.card["files"] for opened in engines}
        evaluation.write_report(output, evaluation.report(benchmark, results, hashes))


@click.command()
@click.option(
    "--sizes", default="3,12,24", metavar="N,...", show_default=True, help="Megapixels of the frames."
)
@click.option("--model", "names", multiple=True, metavar="NAME|DIR", help="Several are compared. [all]")
@engine_option
@device_option
@tile_option
@click.option("--repeat", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each size.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a measurement.")
def benchmark(
    sizes: str, names: tuple[str, ...], engine: str, device: str, tile: int, repeat: int, as_json: bool
) -> None:
    """Measure seconds and memory on computed frames, stage by stage.

    \b
    deepisp benchmark
    deepisp benchmark --sizes 24 --engine torch --device cuda
    """
    from deepisp_cli.benchmark import measure, peak_gflops
    from deepisp_cli.models import find_model, list_models

    try:
        megapixels = [float(size) for size in sizes.split(",")]
    except ValueError:
        megapixels = []
    if not megapixels or min(megapixels) < 0.01:
        raise UsageError(f"sizes {sizes!r}: give megapixels such as 3,12,24")
    peak = peak_gflops()
    if not as_json:
        click.echo(f"a matrix product reaches {peak:g} GFLOP/s in float32 on this machine's CPU")
    for model in map(find_model, names) if names else list_models():
        for row in measure(model, engine, device, megapixels, repeat, tile):
            if as_json:
                click.echo(json.dumps({**row, "cpu_peak_gflops": peak}))
                continue
            stages = ", ".join(f"{stage} {seconds:g}" for stage, seconds in row["seconds"].items())
            memory = f", peak {row['peak_mb']:g} MB" if row["peak_mb"] else ""
            click.echo(
                f"{row['model']} on {row['engine']}/{row['device']}, {row['megapixels']:g} megapixels: "
                f"{row['total']:.2f} s, {row['per_megapixel']:.2f} s per megapixel{memory}\n"
                f"    {stages}; network at {row['network_gflops']:g} GFLOP/s"
            )
