"""``deepisp evaluate`` and ``deepisp benchmark``: options → one call. How good, and how fast."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from deepisp_cli import ENGINES
from deepisp_cli.cli_options import Number, device_option, engine_option, json_option, tile_option
from deepisp_cli.errors import DeepIspError, UsageError, refuse_not_installed
from deepisp_cli.evaluation import CFAS, PROTOCOLS


@click.command(short_help="Measure the quality of models and other programs.")
@click.argument("benchmark", type=click.Choice(["demosaic", "lowlight", "msr", "s7", "pairs", "raws"]))
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DATA")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME|DIR",
    help="Several are compared. [deepisp; for demosaic deepisp-jdd]",
)
@click.option(
    "--baseline", "baselines", multiple=True, metavar="NAME|FILE",
    help="For mosaics: bilinear, malvar, menon. For raws: libraw, libraw-denoised, libraw-dcb, "
    "libraw-dcb-denoised, darktable, rawtherapee; for s7 also phone. Or an .onnx or .pt file. "
    "[bilinear or libraw, for s7 phone]",
)  # fmt: skip
@click.option(
    "--sigma", "sigmas", multiple=True, type=Number(0), metavar="N",
    help="Noise for 'demosaic', out of 255. [0, 5, 10, 15, 20]",
)  # fmt: skip
@click.option("--protocol", type=click.Choice(PROTOCOLS), help=f"For 'msr'. [{PROTOCOLS[0]}]")
@click.option(
    "--cfa", type=click.Choice(CFAS), help=f"Mosaic of 'lowlight' raws; none: linear DNGs. [{CFAS[0]}]"
)
@click.option(
    "--contrast", type=Number(0, 1), metavar="0..1", help="Of the pictures made of raws. [the model's]"
)
@click.option(
    "--limit", type=Number(1, whole=True), metavar="N", help="Use only N pictures; for 'msr', of each camera."
)
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Write results.json, results.md and sheet.jpg there.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace results in DIR.")
@engine_option
@device_option
@click.option("-q", "--quiet", is_flag=True, help="Only the table.")
def evaluate(
    benchmark: str, data: Path, models: tuple[str, ...], baselines: tuple[str, ...],
    sigmas: tuple[float, ...], protocol: str | None, cfa: str | None, contrast: float | None,
    limit: int | None, output: Path | None, overwrite: bool, engine: str, device: str, quiet: bool,
) -> None:  # fmt: skip
    """Measure models, and what people use today, on a folder of pictures.

    \b
    deepisp evaluate lowlight photographs/
    deepisp evaluate demosaic kodak24/ --model deepisp-jdd --baseline menon --sigma 0 --sigma 10
    deepisp evaluate pairs night/ --baseline libraw-denoised --baseline darktable -o results/

    \b
    demosaic  mosaics of photographs with Gaussian noise, the field's protocol
    lowlight  photographs as raws at a quarter of their exposure, default output
    msr       the Microsoft demosaicing dataset as it unpacks
    s7        the S7-ISP dataset: SCENE/short_exposure.dng, SCENE/medium_exposure.jpg
    pairs     raws and reference pictures of the same name
    raws      raws without references: BRISQUE

    docs/benchmarks.md defines each, and the metrics.
    """
    refuse_not_installed(("torch", "pytorch_msssim", "skimage"), "evaluate")
    from deepisp_cli.evaluation import report
    from deepisp_cli.evaluation.baselines import program_version
    from deepisp_cli.evaluation.benchmarks import Case, Settings
    from deepisp_cli.evaluation.evaluate import choose_baselines, open_benchmark, open_models
    from deepisp_cli.evaluation.evaluate import evaluate as run

    for option, given, wanted in (
        ("--sigma", sigmas, "demosaic"),
        ("--protocol", protocol, "msr"),
        ("--cfa", cfa, "lowlight"),
    ):
        if given and benchmark != wanted:
            raise UsageError(f"{option} is for {wanted} only, not for {benchmark}; leave it out")
    finished = benchmark not in ("demosaic", "msr")  # whether it measures finished pictures
    if contrast is not None and not finished:
        raise UsageError(f"--contrast is for finished pictures, not for {benchmark}; leave it out")
    if output and output.resolve() == data.resolve():
        raise UsageError(f"{output}: holds the data; give the results another folder with -o")
    sigmas = tuple(dict.fromkeys(sigmas))
    if output and not overwrite:
        report.refuse_to_overwrite(output)
    chosen = open_benchmark(
        benchmark,
        data,
        Settings(
            sigmas or Settings.sigmas, limit, protocol or Settings.protocol, cfa or Settings.cfa, contrast
        ),
    )
    methods, files = choose_baselines(chosen, baselines)
    engines = open_models(models or (chosen.usual_model,), engine, device, methods)
    for name, opened in engines.items():
        methods[name] = chosen.method(opened)
        files[name] = opened.model.card["files"]
        if finished and not opened.model.has_transform:
            chosen.remarks.append(f"{name}: has no learned exposure, tone and colour, only restoration")
    levels = {name: opened.model.contrast for name, opened in engines.items()}
    if contrast is None and finished and len(set(levels.values())) > 1:
        shown = ", ".join(f"{name} {level:g}" for name, level in levels.items())
        chosen.remarks.append(f"the contrast of the looks differs ({shown}); --contrast 0 leaves it out")
    for remark in chosen.remarks:
        click.echo(remark, err=True)
    if output:
        output.mkdir(parents=True, exist_ok=True)
    strips: list[Any] = []  # arrays, of the contact sheet
    left_out: list[dict[str, str]] = []

    def failed(case: Case, method: str, error: DeepIspError) -> None:
        made = f"{case.input}: " if isinstance(case.input, Path) else ""  # may be a temporary file
        reason = str(error).removeprefix(made)
        left_out.append({"name": case.name, "method": method, "error": reason})
        click.echo(f"{case.name}: left out, because {method} failed: {reason}", err=True)

    results = run(
        chosen,
        methods,
        progress=lambda name: None if quiet else click.echo(name, err=True),
        strips=strips if output else None,
        failed=failed,
    )
    if not any("images" in row for row in results):
        raise DeepIspError("no picture is left; leave out the baseline or model that fails")
    click.echo(report.as_text(report.table(results)))
    if output:
        repeated = {"--model": models, "--baseline": baselines, "--sigma": [f"{sigma:g}" for sigma in sigmas]}
        words = ["deepisp", "evaluate", benchmark, data.resolve().name]
        words += [word for option, values in repeated.items() for value in values for word in (option, value)]
        level = None if contrast is None else f"{contrast:g}"
        single = {"--protocol": protocol, "--cfa": cfa, "--contrast": level, "--limit": limit}
        words += [word for option, value in single.items() if value for word in (option, str(value))]
        running = {name: f"{opened.name}/{opened.device}" for name, opened in engines.items()}
        places = {"--engine": engine, "--device": device}
        words += [word for option, value in places.items() if value != "auto" for word in (option, value)]
        facts = (benchmark, data.resolve().name, shlex.join(words), chosen.seeds)
        programs = {name: version for name in methods if (version := program_version(name))}
        report.write_report(
            output, report.report(*facts, results, left_out, files, running, programs), strips
        )
    if left_out:
        raise DeepIspError(f"pictures left out: {len(left_out)}; the means are of the others")


@click.command(short_help="Measure speed and memory on this machine.")
@click.option(
    "--sizes", default="3,12,24,1511x1009", metavar="SIZE,...", show_default=True,
    help="Frame sizes, in megapixels or pixels.",
)  # fmt: skip
@click.option("--model", "names", multiple=True, metavar="NAME|DIR", help="Several are compared. [all]")
@click.option(
    "--engine", type=click.Choice(["all", *ENGINES]), default="auto", show_default=True,
    help="all: each that opens here.",
)  # fmt: skip
@device_option
@tile_option
@click.option("--repeat", type=Number(1, whole=True), default=3, show_default=True, help="Runs of each size.")
@click.option(
    "--batch", type=Number(0, whole=True), default=0, metavar="N", show_default=True,
    help="Also develop N files of each size as one batch.",
)  # fmt: skip
@json_option("BENCHMARK", "One JSON object per measurement.")
def benchmark(
    sizes: str, names: tuple[str, ...], engine: str, device: str, tile: int | None, repeat: int, batch: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure seconds and memory on computed frames, stage by stage.

    \b
    deepisp benchmark
    deepisp benchmark --sizes 24 --engine torch --device cuda
    deepisp benchmark --model deepisp --engine all --sizes 3 --batch 20
    """
    from deepisp_cli.benchmark import measure, parse_sizes, places
    from deepisp_cli.models import find_model, list_models

    parsed = parse_sizes(sizes)
    models = list(map(find_model, names)) if names else list_models()
    click.echo(
        f"measuring {', '.join(model.name for model in models)} on sizes {sizes}, runs of each: {repeat};"
        " --model and --sizes make it shorter",
        err=True,
    )
    for model in models:
        for place in places(model, engine, device):
            for row in measure(model, *place, parsed, repeat, tile, batch):
                click.echo(json.dumps(row) if as_json else _as_lines(row))


def _as_lines(row: Mapping[str, Any]) -> str:
    """The measurements for one size, for people."""
    stages = ", ".join(f"{stage} {seconds:g}" for stage, seconds in row["seconds"].items())
    memory = f", peak {row['peak_mb']:g} MB" if row["peak_mb"] else ""
    peak = row["peak_gflops"]
    share = f", {row['network_gflops'] / peak:.0%} of a matrix product's {peak:g}" if peak else ""
    lines = [
        f"{row['model']} on {row['engine']}/{row['device']}, {row['megapixels']:g} megapixels "
        f"({row['width']}x{row['height']}): {row['total']:.2f} s, {row['per_megapixel']:.2f} s per megapixel"
        f"{memory}",
        f"    {stages}; network at {row['network_gflops']:g} GFLOP/s{share}",
    ]
    if batch := row["batch"]:
        memory = "" if batch["peak_mb"] is None else f"; peak {batch['peak_mb']:g} MB"
        grown = "" if batch["grown_mb"] is None else f", {batch['grown_mb']:g} MB more than at file 10"
        lines.append(
            f"    {batch['files']} files in {batch['wall']:.1f} s, {batch['files_per_second']:g} a second, "
            f"{batch['ratio']:.2f} of {batch['slowest']}{memory}{grown}"
        )
    return "\n".join(lines)
