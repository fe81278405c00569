"""``deepisp train`` and ``deepisp export``: options → one call. torch is imported when a command runs."""

import dataclasses
import logging
import os
from pathlib import Path

import click

from deepisp_cli.cli_options import Number
from deepisp_cli.errors import InputError, UsageError, refuse_not_installed

log = logging.getLogger(__name__)


@click.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Folder of the run. [runs/ and the name of CONFIG, or, if that is train.toml or lies beside a"
    " card.json, of its folder]",
)
@click.option(
    "--photographs",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    metavar="FOLDER",
    help="Train only on these, instead of the configuration's data.",
)
@click.option("--validation", multiple=True, type=click.Path(exists=True, file_okay=False), metavar="FOLDER",
              help="Measure on these, instead of the configuration's.")  # fmt: skip
@click.option(
    "--resume", is_flag=True, help="Continue from the run's checkpoint, on the data that it began with."
)
@click.option(
    "--initial",
    metavar="NAME|PATH",
    help="Start from the weights of a model, by its name or folder, or of another run's checkpoint.",
)
@click.option("--steps", type=Number(1, whole=True), metavar="N", help="Stop after N steps in total.")
@click.option("--minutes", type=Number(0), metavar="M", help="Stop after M minutes.")
@click.option(
    "--device", default="auto", metavar="DEVICE", show_default=True, help="auto, cpu, cuda or cuda:N."
)
def train(
    config: Path, output: Path | None, photographs: tuple[str, ...], validation: tuple[str, ...],
    resume: bool, initial: str | None, steps: int | None, minutes: float | None, device: str,
) -> None:  # fmt: skip
    """Train the model that CONFIG, a TOML file, describes.

    \b
    deepisp train models/deepisp/train.toml --photographs FOLDER
    deepisp train models/deepisp/train.toml --resume

    The run's folder gets checkpoint.pt, log.csv and sheets of validation pictures. A run stopped by --steps,
    --minutes, Ctrl-C or a kill saves its last step and continues with --resume.
    """
    _need_torch()
    from deepisp_cli.training.checkpoint import read_checkpoint, read_config
    from deepisp_cli.training.config import load_config, on_photographs, with_data_of
    from deepisp_cli.training.device import memory_told, open_device
    from deepisp_cli.training.train import CHECKPOINT, check_folder
    from deepisp_cli.training.train import train as run

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = load_config(config)
    folder = output or Path("runs") / _name_of(config.resolve())
    if resume and initial:
        raise UsageError("a resumed run has weights of its own: leave out --resume or --initial")
    check_folder(folder, resume)
    if resume:
        state = read_checkpoint(folder / CHECKPOINT)
        given, settings = settings, with_data_of(settings, read_config(folder / CHECKPOINT, state))
        folders = settings.photographs, settings.panoramas, settings.raw_pairs
        used = [each for kind, share in zip(folders, settings.shares, strict=True) for each in kind if share]
        gone = [] if photographs else [each for each in used if not os.path.isdir(each)]
        if gone:
            raise InputError(
                f"{', '.join(gone)}: the data of the run is not there; mount its disk, or train on other data"
                f" into another folder with --initial {folder / CHECKPOINT}"
            )
        if settings != dataclasses.replace(given, validation=settings.validation) and not photographs:
            log.warning("%s: trained on the data that the run began with, not on that of %s", folder, config)
        if settings.validation != given.validation and not validation:
            log.warning(
                "%s: validated as the run began, not as %s says; --validation changes it", folder, config
            )
    if photographs:
        settings = on_photographs(settings, photographs)
    if validation:
        settings = dataclasses.replace(settings, validation=validation)
    with memory_told(config):
        start = None if initial is None else _weights(initial)
        checkpoint = run(settings, folder, device=open_device(device), resume=resume, initial=start,
                         steps=steps, minutes=minutes)  # fmt: skip
    click.echo(str(checkpoint))


@click.command(short_help="Make a model folder from a checkpoint.")
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("name")
@click.option(
    "--calibrate",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    metavar="FOLDER",
    help="Also write the 8-bit form; raws made from these photographs set the ranges of its numbers.",
)
@click.option(
    "--average",
    multiple=True,
    metavar="NAME|PATH",
    help="Average the weights with those of this model or checkpoint: legs of one model are often better "
    "together. Naming one twice counts it twice.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace a model that exists; what a person wrote into its card is kept.",
)
def export(
    checkpoint: Path, name: str, calibrate: tuple[str, ...], average: tuple[str, ...], overwrite: bool
) -> None:
    """Write the averaged weights of CHECKPOINT to the model folder NAME.

    \b
    deepisp export runs/mine/checkpoint.pt mine --calibrate FOLDER

    NAME means models/NAME, or a folder if it is a path: weights.safetensors, model.onnx and card.json go
    there once torch and ONNX Runtime agree on the graph. What a person wrote into the folder's card (summary,
    limitations, ...) is kept, results only while the weights are the same.
    """
    _need_torch()
    from deepisp_cli.models import EIGHT_BIT_FILE, ONNX_FILE, WEIGHTS_FILE, looks_like_a_path
    from deepisp_cli.training.export import export_checkpoint

    if not name:
        raise UsageError("the model's name is empty; is a variable not set?")
    folder = Path(name) if looks_like_a_path(name) else Path("models") / name
    files = (WEIGHTS_FILE, ONNX_FILE, EIGHT_BIT_FILE)  # a person may have written the card
    if any((folder / name).exists() for name in files) and not overwrite:
        raise UsageError(f"{folder}: holds a model already; give another name, or --overwrite to replace it")
    card = export_checkpoint([checkpoint, *map(_weights, average)], folder, calibrate)
    click.echo(str(card))
    click.echo(f"use it with --model {_as_model(folder)}", err=True)


def _weights(given: str) -> Path:
    """What ``--initial`` and ``--average`` name: a checkpoint, or a model's folder, which may be given by its
    name."""
    from deepisp_cli.models import CARD_FILE, find_model, looks_like_a_path

    if not given:
        raise UsageError("the name of a model or checkpoint is empty; is a variable not set?")
    if os.path.isfile(given) or os.path.isfile(os.path.join(given, CARD_FILE)):
        return Path(given)
    if looks_like_a_path(given) or given.endswith(".pt"):
        raise UsageError(f"{given}: is neither a checkpoint nor a model's folder; check the path")
    return find_model(given).folder


def _name_of(config: Path) -> str:
    """What to call a run. Configurations of a model that ships lie beside it."""
    from deepisp_cli.models import CARD_FILE

    beside_model = (config.parent / CARD_FILE).exists()
    return config.parent.name if beside_model or config.name == "train.toml" else config.stem


def _as_model(folder: Path) -> str:
    """``folder`` as ``process --model`` takes it: a path, even in the current folder."""
    name = str(folder) if folder.name != str(folder) else f".{os.sep}{folder}"
    return f'"{name}"' if " " in name else name


def _need_torch() -> None:
    refuse_not_installed(("torch", "onnx", "pytorch_msssim"), "train")
