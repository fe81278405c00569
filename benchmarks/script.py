"""What the scripts in this folder share: they run from a checkout, and tell errors as the program does."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deepisp_cli.errors import DeepIspError, InputError
from deepisp_cli.training.pictures import PHOTOGRAPH_SUFFIXES, list_files


def run_script(command: click.Command) -> None:
    """Run a script's command; an error of the program ends it with a message instead of a traceback."""
    try:
        command()
    except DeepIspError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


def photographs_in(folders: Sequence[Path]) -> list[Path]:
    """All photographs in these folders."""
    files = list_files(folders, PHOTOGRAPH_SUFFIXES)
    if not files:
        names = ", ".join(map(str, folders))
        raise InputError(
            f"{names}: no photographs ({', '.join(PHOTOGRAPH_SUFFIXES)}); sub-folders are not searched"
        )
    return files
