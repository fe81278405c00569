"""Plot quality against cost from benchmarks/results/*.json: python benchmarks/quality_cost.py [PICTURE]

PSNR of mosaics without noise and with noise of 10 / 255, and matched PSNR of low-light raws, against seconds
per megapixel, for every model and baseline.
"""

import json
from pathlib import Path

import click
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "quality-cost.png"
PANELS = (
    ("demosaic", {"sigma": 0}, "psnr", "Mosaics without noise: PSNR, dB"),
    ("demosaic", {"sigma": 10}, "psnr", "Mosaics, noise 10 of 255: PSNR, dB"),
    ("lowlight", {"exposure": "-2 EV"}, "matched_psnr", "Low-light raws: matched PSNR, dB"),
)
MARKERS = "osD^v"


@click.command(help=__doc__.split("\n")[0])
@click.argument("picture", type=click.Path(dir_okay=False, path_type=Path), default=PICTURE)
def main(picture: Path) -> None:
    paths = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    reports = [json.loads(path.read_text("utf-8")) for path in paths]
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    axes = figure.subplots(1, len(PANELS))
    for axis, (benchmark, settings, metric, title) in zip(axes, PANELS, strict=True):
        chosen = [
            report
            for report in reports
            if report["benchmark"] == benchmark
            and not {"--engine", "--cfa", "--contrast"} & set(report["command"].split())
        ]
        for marker, report in zip(MARKERS, chosen, strict=False):
            for result in report["results"]:
                if result["settings"] == settings:
                    point = (result["seconds_per_megapixel"], result["mean"][metric])
                    ours = result["name"].startswith("deepisp")
                    axis.scatter(*point, marker=marker, color="tab:red" if ours else "tab:grey")
                    axis.annotate(
                        result["name"], point, textcoords="offset points", xytext=(4, 4), fontsize=7
                    )
            axis.scatter([], [], marker=marker, color="black", label=report["data"])
        axis.set(title=title, xlabel="seconds per megapixel, two CPU cores", xscale="log")
        axis.margins(x=0.3, y=0.12)
        axis.grid(alpha=0.3)
        axis.legend(loc="upper left", fontsize=8)
    figure.savefig(picture, dpi=90)
    click.echo(str(picture))


if __name__ == "__main__":
    main()
