"""The command line: the commands together, and what holds for all of them.

Only `talk`, the modules of commands and the ``commands.py`` of the sub-packages print. stdout is for data
(pictures, JSON, requested tables), stderr is for people.
"""

import io
import os
import sys
from typing import Any

import click

from deepisp_cli import __version__
from deepisp_cli.errors import UsageError
from deepisp_cli.evaluation.commands import benchmark, evaluate
from deepisp_cli.interrupts import heed_endings
from deepisp_cli.process_command import process
from deepisp_cli.show_commands import doctor, info, models
from deepisp_cli.streams import let_wait
from deepisp_cli.talk import told
from deepisp_cli.training.commands import export, train


class _Commands(click.Group):
    """A group that turns our errors into one line on stderr and an exit code."""

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        if args[0] not in self.commands and os.path.exists(args[0]) and not context.resilient_parsing:
            name = f'"{args[0]}"' if " " in args[0] else args[0]
            raise UsageError(f"{args[0]}: is no command; to develop it: deepisp process {name}")
        return super().resolve_command(context, args)

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        with told(context):  # --help and --version print here
            return super().parse_args(context, args)

    def invoke(self, context: click.Context) -> Any:
        with told(context):
            return super().invoke(context)


# defaults may be set in the environment: DEEPISP_PROCESS_QUALITY=90
CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "DEEPISP"}


@click.group(cls=_Commands, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="deepisp", allow_from_autoenv=False)
def main() -> None:
    """Develop noisy, dark raw photographs into finished pictures.

    \b
    deepisp process night.dng
    deepisp process card/ -r -o pictures/
    """
    heed_endings()
    _fill_descriptors()
    let_wait(sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names that its encoding cannot represent


def _fill_descriptors() -> None:
    """Open standard streams that are closed, to nothing: a picture that got their numbers would also get what
    libraries print."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


for command in (process, info, models, doctor, benchmark, evaluate, train, export):
    main.add_command(command)
