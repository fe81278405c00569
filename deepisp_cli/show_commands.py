"""``deepisp info``, ``models`` and ``doctor``: what there is, before anything is developed."""

import json
import sys

import click

from deepisp_cli.cli_options import A_PATH, json_option
from deepisp_cli.errors import DeepIspError, EngineError, InputError, ModelError, joint_exit_code
from deepisp_cli.talk import fact_text, need_stdout, printable, tell


@click.command(short_help="Show what is read from raw files.")
@click.argument("raws", nargs=-1, required=True, metavar="RAW...", type=A_PATH)
@click.option("-r", "--recursive", is_flag=True, help="Also search sub-folders.")
@json_option("INFO", "One JSON object per file.")
def info(raws: tuple[str, ...], recursive: bool, as_json: bool) -> None:
    """Show what the program reads from raw files, folders or quoted patterns.

    \b
    deepisp info night.dng
    deepisp info --json *.nef
    deepisp info -r card/
    """
    from deepisp_cli.info import describe, not_supported
    from deepisp_cli.inputs import find_sources

    need_stdout()
    codes: list[int] = []
    sources, missing, passed_over = find_sources(raws, recursive)
    for _, remark in passed_over:
        tell(printable(remark))
    found = [*((source, None) for source, _ in sources), *missing]
    for raw, problem in found:
        try:
            if problem:
                raise problem
            facts, code = describe(raw), 0
        except InputError as error:
            facts, code = not_supported(raw, error), error.exit_code
        except DeepIspError as error:
            tell(f"deepisp: {printable(str(error))}")
            codes.append(error.exit_code)
            continue
        codes.append(code)
        if as_json:
            if not facts["supported"]:
                tell(f"deepisp: {printable('{file}: {reason}'.format(**facts))}")
            click.echo(json.dumps(facts))
        else:
            for key, value in facts.items():
                if value not in (None, "", [], {}):
                    click.echo(f"{key.replace('_', ' ') + ':':24}{printable(fact_text(key, value))}")
            click.echo()
    sys.exit(joint_exit_code(codes))


@click.command()
@json_option("MODELS", "The cards as one JSON list.")
def models(as_json: bool) -> None:
    """List the models: name, size, purpose, folder and figures.

    \b
    deepisp models

    docs/benchmarks.md explains the figures.
    """
    from deepisp_cli.models import NOT_INSTALLED, list_models

    need_stdout()
    found = list_models()
    if not found:
        raise ModelError(NOT_INSTALLED)
    if as_json:
        click.echo(json.dumps([{**model.card, "folder": str(model.folder)} for model in found]))
        return
    for model in found:
        card = model.card
        try:
            size = f"{model.graph_bytes / 1e6:.1f} MB"
        except ModelError as error:  # the others can be used
            tell(f"deepisp: {printable(str(error))}")
            continue
        look = f", contrast {model.contrast:g}" if model.contrast else ""  # figures of others are without
        click.echo(f"{model.folder.name}  {card['parameters'] / 1e6:.2f} M parameters, {size}{look}")
        if card["summary"]:
            click.echo(f"    {card['summary']}")
        click.echo(f"    {model.folder}")
        for result in card["results"]:
            numbers = ", ".join(f"{key} {value:g}" for key, value in result["values"].items())
            click.echo(f"    {result['benchmark']}: {numbers}")


@click.command(short_help="Check the installation and its devices.")
@json_option("DOCTOR", "As one JSON object.")
def doctor(as_json: bool) -> None:
    """Check the installation: versions, engines, devices that open, a self-test of the default model.

    \b
    deepisp doctor
    """
    from deepisp_cli.doctor import examine

    need_stdout()
    findings = examine()
    if as_json:
        click.echo(json.dumps(findings))
    else:
        for name, version in findings["versions"].items():
            click.echo(f"{name:16}{version or 'not installed'}")
        for engine in findings["engines"]:
            click.echo(f"{engine['engine'] + '/' + engine['device']:16}{engine['state']}")
        click.echo(f"{'self-test':16}{findings['self_test']}")
    sys.exit(0 if findings["healthy"] else EngineError.exit_code)
