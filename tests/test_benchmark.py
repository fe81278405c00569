"""What ``deepisp benchmark`` measures. No test looks at a clock: how fast is no property."""

import json

import pytest
from click.testing import CliRunner

from deepisp_cli.benchmark import measure, multiply_adds
from deepisp_cli.cli import main
from deepisp_cli.models import find_model


def test_the_papers_network_costs_what_the_design_says():
    paper = {"fold": 1, "dilations": [1] * 15, "width": 64, "high_blocks": 0}
    assert multiply_adds(paper) == 9 * 64 * (3 + 14 * 64)
    assert 0.5e6 < multiply_adds(paper) < 0.56e6
    folded = {**paper, "fold": 2}
    assert multiply_adds(folded) == pytest.approx(multiply_adds(paper) / 4, rel=0.03)
    # the first high-level block has 61 inputs at a quarter of the positions
    assert multiply_adds({**paper, "high_blocks": 1}) - multiply_adds(paper) == 9 * 61 * 64 / 4


def test_each_size_is_measured_smallest_first():
    rows = list(measure(find_model("deepisp"), "onnx", "cpu", [0.06, 0.02], repeat=2, tile=128))
    assert [row["megapixels"] for row in rows] == [0.02, 0.06]
    for row in rows:
        assert row["width"] * row["height"] == pytest.approx(row["megapixels"] * 1e6, rel=0.3)
        assert list(row["seconds"]) == ["read", "demosaic", "network", "colour", "render", "write"]
        assert row["total"] >= max(row["seconds"].values())
        assert row["peak_mb"] is None or row["peak_mb"] > 10


def test_the_command_prints_a_line_or_an_object_for_each_size():
    arguments = ["benchmark", "--sizes", "0.02", "--repeat", "1", "--model", "deepisp", "--engine", "onnx"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "per megapixel" in result.output
    row = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).output)
    assert (row["model"], row["engine"], row["device"]) == ("deepisp", "onnx", "cpu")
    refused = CliRunner().invoke(main, ["benchmark", "--sizes", "large"])
    assert refused.exit_code == 2
    assert "large" in refused.output
