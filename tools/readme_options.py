"""Write README.md's table of options from `deepisp process` itself: ``python tools/readme_options.py``."""

import sys
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from deepisp_cli.cli import main as program

README = ROOT / "README.md"
START, END = "<!-- options: tools/readme_options.py -->", "<!-- end of options -->"


def option_table(command: click.Command) -> str:
    """The options of one command as a Markdown table."""
    context = click.Context(command, info_name=command.name)
    lines = ["| option | meaning |", "|---|---|"]
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None and parameter.param_type_name == "option":
            option, text = (part.replace("|", "\\|").replace("  ", " ") for part in record)
            lines.append(f"| `{option}` | {text} |")
    return "\n".join(lines)


def with_options(readme: str) -> str:
    """``readme`` with the tables between the markers rewritten."""
    before, rest = readme.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n\n{option_table(program.commands['process'])}\n\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_options(README.read_text("utf-8")), "utf-8")
