"""Options that several commands share."""

import click

engine_option = click.option(
    "--engine",
    type=click.Choice(["auto", "onnx", "onnx-int8", "torch"]),
    default="auto",
    show_default=True,
    help="What runs the network.",
)
device_option = click.option(
    "--device",
    default="auto",
    metavar="DEVICE",
    show_default=True,
    help="auto, cpu, cuda, cuda:N or mps. One that is named and missing is an error.",
)
tile_option = click.option(
    "--tile",
    type=click.IntRange(min=64),
    default=1024,
    show_default=True,
    metavar="PIXELS",
    help="Tile side: smaller needs less memory; the picture is the same.",
)
