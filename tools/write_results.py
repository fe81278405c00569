"""Write benchmarks/results/*.json into docs/benchmarks.md, README.md and the models' cards.

python tools/write_results.py

A test checks that they agree. The JSON files are the results.json of `deepisp evaluate ... -o FOLDER`.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from deepisp_cli.evaluation.report import DECIMALS, as_markdown, label, number, table

RESULTS = ROOT / "benchmarks" / "results"
START, END = "<!-- results: tools/write_results.py -->", "<!-- end of results -->"
DATA = {
    "kodak24": "Kodak, 24 photographs",
    "mcmaster18": "McMaster, 18 photographs",
    "gb82": "gb82, 25 photographs",
}
README_ROWS = {"libraw": "LibRaw, defaults", "darktable": "darktable, defaults", "deepisp": "**deepisp**"}
README_METRICS = {"psnr": "PSNR", "ssim": "SSIM", "delta_e": "dE2000", "matched_psnr": "matched PSNR"}


def load_reports() -> list[dict[str, Any]]:
    """All reports, by file name, that of the usual settings before others of the same data."""
    paths = sorted(RESULTS.glob("*.json"), key=lambda path: path.stem)
    return [json.loads(path.read_text("utf-8")) for path in paths]


def written(reports: list[dict[str, Any]]) -> Iterator[tuple[Path, str]]:
    """Each file that shows results, and what it should contain."""
    yield _between_markers(ROOT / "docs" / "benchmarks.md", "\n\n".join(map(_section, reports)))
    yield _between_markers(ROOT / "README.md", _readme_table(reports))
    for path in sorted((ROOT / "models").glob("*/card.json")):
        card = json.loads(path.read_text("utf-8"))
        if results := list(_card_results(reports, card["name"])):  # a model of the user's own has others
            card["results"] = results
            yield path, json.dumps(card, indent=2, ensure_ascii=False) + "\n"


def _between_markers(path: Path, text: str) -> tuple[Path, str]:
    before, rest = path.read_text("utf-8").split(START)
    return path, f"{before}{START}\n\n{text}\n\n{END}{rest.split(END)[1]}"


def _section(report: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return (
        f"### {report['benchmark']}: {_data(report)}{_variant(report)}\n\n"
        f"    {report['command']}\n\n{as_markdown(table(report['results']))}\n\nWith {versions}."
    )


def _data(report: dict[str, Any]) -> str:
    return DATA.get(report["data"], report["data"])


def _kind(report: dict[str, Any]) -> str:
    """What is not usual in a report's mosaic, contrast and precision, in words; "" for nothing."""
    words = {
        "--cfa none": "linear DNGs", "--cfa x-trans": "X-Trans", "--contrast 0": "with `--contrast 0`",
        "--engine onnx": "in float32",
    }  # fmt: skip
    return "".join(f", {text}" for option, text in words.items() if f"{option} " in f"{report['command']} ")


def _variant(report: dict[str, Any]) -> str:
    """Engine, mosaic and contrast asked for, to put after a name; "" for what is usual."""
    return "".join(
        f", `{option}`" for option in re.findall(r"--(?:engine|cfa|contrast) \S+", report["command"])
    )


def _readme_table(reports: list[dict[str, Any]]) -> str:
    rows = [["", *README_METRICS.values()]]
    for report in reports:
        if report["benchmark"] == "lowlight":
            for result in report["results"]:
                ours = result["name"] in report["models"]
                if result["name"] in README_ROWS and (ours or not _variant(report)):
                    name = f"{README_ROWS[result['name']]}{_kind(report)}: {_data(report)}"
                    rows.append([name, *(number(result["mean"], key) for key in README_METRICS)])
    return as_markdown(rows)


def _card_results(reports: list[dict[str, Any]], model: str) -> Iterator[dict[str, Any]]:
    for report in reports:
        for result in report["results"]:
            if result["name"] == model:
                setting = label(result["settings"]) + _variant(report).replace("`", "")
                yield {
                    "benchmark": f"{report['benchmark']}, {_data(report)}, {setting}",
                    "command": re.sub(r" --baseline \S+", "", report["command"]),
                    "values": _values(result["mean"]),
                }


def _values(mean: dict[str, float | None]) -> dict[str, float]:
    return {key: round(value, DECIMALS.get(key, 2)) for key, value in mean.items() if value is not None}


if __name__ == "__main__":
    for path, text in written(load_reports()):
        path.write_text(text, "utf-8")
