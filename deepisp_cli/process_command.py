"""``deepisp process``: options → `Options` → one call."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepisp_cli.cli_options import (
    A_PATH,
    Format,
    Number,
    devices_option,
    engine_option,
    json_option,
    memory_option,
    tile_option,
)
from deepisp_cli.errors import INTERRUPTED, DeepIspError, OutputError, UsageError
from deepisp_cli.interrupts import ending_signals, raise_if_interrupted
from deepisp_cli.talk import Talk, duration, give_up, is_terminal, need_stdout, progress_on, tell

if TYPE_CHECKING:
    from deepisp_cli.batch import Report
    from deepisp_cli.models import Model
    from deepisp_cli.options import Options
    from deepisp_cli.plan import Job


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=A_PATH)
@click.option(
    "-o", "--output", type=A_PATH, metavar="PATH", help="File, folder or '-' for stdout. [beside the source]"
)
@click.option(
    "--name",
    metavar="TEMPLATE",
    help="Output name: {stem} {suffix} {folder} {model} {date:%Y-%m-%d} {camera} {iso}; '/' makes folders, "
    "which replace the source's. [{stem}, with --format dng {stem}-deepisp]",
)
@click.option(
    "--format",
    type=Format(["jpeg", "png", "tiff", "dng"], case_sensitive=False),
    help="Picture format; dng: restored, but left raw for other programs. [from the suffix of -o, else jpeg]",
)
@click.option(
    "--quality", type=Number(1, 100, whole=True), default=95, metavar="1..100", show_default=True,
    help="JPEG quality.",
)  # fmt: skip
@click.option(
    "--bit-depth",
    type=click.Choice(["8", "16"]),
    default="8",
    show_default=True,
    help="16 bits: PNG and TIFF only; a DNG always has them.",
)
@click.option(
    "-r",
    "--recursive",
    is_flag=True,
    help="Also search sub-folders, but not links to them; below -o they are kept.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
@click.option(
    "--skip-existing",
    is_flag=True,
    help="Skip inputs whose output exists, however it was made; an output of another shot is an error.",
)
@click.option(
    "--model",
    default="deepisp",
    type=A_PATH,
    metavar="NAME|DIR",
    show_default=True,
    help="Model name (see 'deepisp models') or folder.",
)
@engine_option
@devices_option
@tile_option
@memory_option
@click.option(
    "--white-balance",
    default="camera",
    metavar="WB",
    show_default=True,
    help="camera, daylight, auto, a temperature (5500K) or gains R,G,B.",
)
@click.option(
    "--exposure",
    type=Number(-10, 10),
    default=0.0,
    metavar="EV",
    show_default=True,
    help="Brighten or darken the result, by -10 to 10.",
)
@click.option(
    "--contrast",
    type=Number(0, 1),
    metavar="0..1",
    help="Darken shadows, brighten lights, strengthen colours, as cameras do. [the model's: deepisp 0.25,"
    " others that ship 0; --look neutral: 0]",
)
@click.option(
    "--strength",
    type=Number(0, 1),
    default=1.0,
    metavar="0..1",
    show_default=True,
    help="Strength of the restoration; 0 leaves all noise.",
)
@click.option(
    "--look",
    type=click.Choice(["learned", "neutral"], case_sensitive=False),
    default="learned",
    show_default=True,
    help="neutral leaves out light meter and learned tone and colour.",
)
@click.option(
    "--long-side",
    type=Number(1, whole=True),
    metavar="PIXELS",
    help="Reduce larger pictures to this longer side. [as large as the raw]",
)
@click.option("--dry-run", is_flag=True, help="List inputs and outputs, but develop nothing.")
@json_option("PROCESS", "One JSON object per file on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Also print engine, stages and seconds.")
def process(inputs: tuple[str, ...], output: str | None, name: str | None, format: str | None, quality: int,
            bit_depth: str, recursive: bool, overwrite: bool, skip_existing: bool, model: str, engine: str,
            device: str, tile: int | None, memory: float | None, white_balance: str, exposure: float,
            contrast: float | None, strength: float, look: str, long_side: int | None, dry_run: bool,
            as_json: bool, quiet: bool, verbose: bool) -> None:  # fmt: skip
    """Develop raw files, folders, quoted patterns, or stdin ('-').

    \b
    deepisp process night.dng                     writes night.jpg beside it
    deepisp process *.nef -o out/ --format tiff --bit-depth 16
    deepisp process card/ -r -o pictures/ --name "{date:%Y}/{stem}"
    deepisp process night.dng --format dng        writes night-deepisp.dng, still raw
    cat night.dng | deepisp process - > night.jpg
    """
    from deepisp_cli.engine import check_devices
    from deepisp_cli.models import find_model
    from deepisp_cli.options import Options
    from deepisp_cli.plan import file_format, plan_jobs

    stands = _in_environment()
    overwrite, skip_existing = _settled(stands, overwrite=overwrite, skip_existing=skip_existing)
    quiet, verbose = _settled(stands, quiet=quiet, verbose=verbose)
    by_suffix = file_format(output) if output else None
    if by_suffix and "output" not in stands:
        format = None if "format" in stands else format
        name = None if "name" in stands else name
    if (by_suffix or format) == "jpeg" and "bit_depth" in stands:
        bit_depth = "8"
    finished = {"exposure": exposure, "contrast": contrast, "look": look, "long_side": long_side}
    if (by_suffix or format) == "dng":
        finished = {name: value for name, value in finished.items() if name not in stands}
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other; give only one")
    if quiet and verbose:
        raise UsageError("-q and -v contradict each other; give only one")
    options = Options(
        white_balance=white_balance.lower(), strength=strength, format=format, quality=quality,
        bit_depth=int(bit_depth), tile=tile, overwrite=overwrite, **finished,  # type: ignore[arg-type]
    )  # fmt: skip
    chosen = find_model(model)
    jobs, format = plan_jobs(
        inputs, output, template=name, format=format, model=chosen.name, recursive=recursive,
        overwrite=overwrite, skip_existing=skip_existing,
    )  # fmt: skip
    options = replace(options, format=format)
    to_stdout = jobs[0].target == "-"
    as_json = as_json and not (to_stdout and not dry_run and "as_json" in stands)
    if to_stdout or as_json:
        need_stdout()
    if to_stdout and as_json and not dry_run:
        raise UsageError("--json and a picture cannot both go to standard output; name a file with -o")
    if to_stdout and not dry_run and sys.stdout.isatty():
        raise UsageError("a picture would go to the terminal; redirect it, or name a file with -o")
    if to_stdout and name and "name" not in stands:
        raise UsageError("--name and standard output contradict each other; give a folder with -o")
    talk = Talk(as_json, quiet, verbose)
    started = time.monotonic()
    if dry_run:
        check_devices(device)
        report, took = _plan_only(jobs, overwrite, talk), ""
    else:
        report = _develop(jobs, chosen, engine, device, options, memory, talk)
        took = f" in {duration(time.monotonic() - started)}"
    if len(jobs) > 1 and not quiet:
        tell(f"{report}{took}")
    sys.exit(report.exit_code)


def _in_environment() -> set[str]:
    """The options that the environment sets; they give way to what is given by hand."""
    context = click.get_current_context()
    source = click.core.ParameterSource.ENVIRONMENT
    return {name for name in context.params if context.get_parameter_source(name) is source}


def _settled(stands: set[str], **flags: bool) -> list[bool]:
    """Flags that exclude each other: of two that are set, the one given by hand."""
    both, by_hand = all(flags.values()), flags.keys() - stands
    return [value and not (both and by_hand and name in stands) for name, value in flags.items()]


def _plan_only(jobs: Sequence["Job"], overwrite: bool, talk: Talk) -> "Report":
    from deepisp_cli.batch import Report
    from deepisp_cli.files import check_target, is_taken

    report = Report()
    for job in jobs:
        result = job.result()
        if result.status == "planned" and job.target != "-":
            try:
                check_target(Path(job.target), overwrite)
                if is_taken(Path(job.target)):
                    result.notes.append("replaces the one that is there")
            except DeepIspError as error:
                result.fail(error)
        report.add(result)
        talk(result)
    return report


def _develop(
    jobs: Sequence["Job"],
    model: "Model",
    engine: str,
    devices: str,
    options: "Options",
    memory: float | None,
    talk: Talk,
) -> "Report":
    from deepisp_cli.batch import Report, develop_many, share_one_heap
    from deepisp_cli.engine import open_engines

    share_one_heap()
    report = Report()
    try:
        engines = open_engines(model, engine, devices)
        raise_if_interrupted()
        if talk.verbose:
            for opened in engines:
                tell(f"{opened.model.name} on {opened.name}/{opened.device}")
        bar: Any = click.progressbar(
            length=1000 * len(jobs), file=sys.stderr, show_pos=False, label="developing", width=0,
            item_show_func=lambda done: f"{done or 0} of {len(jobs)}",
        )  # fmt: skip
        hidden = talk.quiet or not is_terminal(sys.stderr) or os.environ.get("TERM") == "dumb"
        with nullcontext() if hidden else bar as shown:
            move = progress_on(shown)
            for index, result in enumerate(develop_many(jobs, engines, options, move, memory)):
                report.add(result)
                move(index, 1.0)
                if not hidden:
                    tell("\r\033[K", newline=False)
                talk(result)
    except BrokenPipeError as error:
        give_up(sys.stdout)
        raise OutputError(
            f"standard output: its reader has closed the pipe; {_progress(report, jobs, options)}"
        ) from error
    except KeyboardInterrupt:
        for number in ending_signals():  # one more would tear Python apart while it ends
            signal.signal(number, signal.SIG_IGN)
        tell(f"\ndeepisp: interrupted; {_progress(report, jobs, options)}")
        sys.exit(INTERRUPTED)
    return report


def _progress(report: "Report", jobs: Sequence["Job"], options: "Options") -> str:
    """How far a batch that has ended early has come."""
    goes_on = "; --skip-existing goes on" if len(jobs) > 1 and not options.overwrite else ""
    return f"at least {report.count('written')} of {len(jobs)} written{goes_on}"
