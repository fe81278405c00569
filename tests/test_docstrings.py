"""What ``help()`` shows is complete: the fields of records, the arguments of functions of arrays."""

import ast
import inspect
import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

import deepisp_cli
from deepisp_cli.batch import Report
from deepisp_cli.engine import Engine
from deepisp_cli.frame import Frame, Result
from deepisp_cli.models import Model, TileNeeds
from deepisp_cli.options import Options
from deepisp_cli.plan import Job
from deepisp_cli.raw import RawImage

pytest.importorskip("torch")  # which some modules import

PACKAGE = Path(deepisp_cli.__file__).parent
OTHERS = ("__init__", "__main__", "kernels")  # the last is Triton's: test_fused has to import it first
MODULES = sorted({path.stem for path in PACKAGE.glob("*.py")} - {*OTHERS})


def section(documented, title):
    """Names, in order, to descriptions in a section of a numpydoc docstring, or of what has one."""
    lines = (documented if isinstance(documented, str) else inspect.getdoc(documented)).splitlines()
    if title not in lines:
        return {}
    start = lines.index(title) + 2
    end = next((n for n in range(start, len(lines)) if lines[n].startswith("---")), len(lines) + 1) - 1
    found, names = {}, []
    for line in filter(None, lines[start:end]):
        if line.startswith(" "):
            for name in names:
                found[name] += line.strip()
        else:
            listed, colon, kind = line.partition(" : ")
            assert colon, f"{line!r} is not 'name : kind'"
            names = listed.split(", ")
            found.update(dict.fromkeys(names, kind))
    return found


def public_functions():
    for name in MODULES:
        module = import_module(f"deepisp_cli.{name}")
        for function in vars(module).values():
            is_own = inspect.isfunction(function) and function.__module__ == module.__name__
            if is_own and not function.__name__.startswith("_"):
                yield function


def takes_an_array(function):
    kinds = inspect.signature(function).parameters.values()
    return any(word in str(kind.annotation) for kind in kinds for word in ("ndarray", "Array"))


def returns_an_array(function):
    return "ndarray" in str(inspect.signature(function).return_annotation)


def functions(wanted):
    chosen = [function for function in public_functions() if wanted(function)]
    return pytest.mark.parametrize("function", chosen, ids=lambda function: function.__qualname__)


@pytest.mark.parametrize(
    "record",
    [RawImage, Options, Result, Frame, Report, Job, Model, TileNeeds],
    ids=lambda kind: kind.__name__,
)
def test_every_field_of_a_record_is_described(record):
    described = section(record, "Attributes")
    assert list(described) == [field.name for field in fields(record)]
    assert not re.search(r"^    \w+: .*#", inspect.getsource(record), re.MULTILINE), (
        "a comment is not in help()"
    )


def test_every_attribute_of_an_engine_is_described():
    assert list(section(Engine, "Attributes")) == list(inspect.get_annotations(Engine))


@functions(takes_an_array)
def test_functions_of_arrays_describe_their_arguments(function):
    assert list(section(function, "Parameters")) == list(inspect.signature(function).parameters)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_a_list_of_arguments_is_complete(path):
    """In every module, without importing what it needs."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef) and "Parameters\n---" in (text := ast.get_docstring(node) or ""):
            arguments = [*node.args.args, *node.args.kwonlyargs]
            names = [argument.arg for argument in arguments if argument.arg != "self"]
            assert list(section(text, "Parameters")) == names, node.name


@functions(returns_an_array)
def test_arrays_that_are_returned_have_a_shape(function):
    text = inspect.getdoc(function)
    returned = (text.partition("Returns\n-------")[2] or text).partition("Raises")[0]
    assert re.search(r"\((\w+|\.{3})(, (\w+|\.{3}))+\)|\(\w,\)", returned), "no (H, W, 3)"
