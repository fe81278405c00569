"""Model folders: find, verify, list. A folder holds ``card.json`` and the files whose SHA-256 it states."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from deepisp_cli.errors import ModelError, UsageError

DEFAULT_MODEL = "deepisp"
CARD_FILE = "card.json"
ONNX_FILE = "model.onnx"
EIGHT_BIT_FILE = "model-int8.onnx"  # optional
OPSET = 17  # of our ONNX graphs
IR_VERSION = 8  # of their files, the one that came with this opset
WEIGHTS_FILE = "weights.safetensors"
TILE = 768  # pixels a side, where neither memory nor the user ask for another
LARGEST = 4096  # of what a card counts: pixels, channels, blocks
STRIP = 128  # pixels: tile height for an engine that continues; low tiles stay in the cache
ACTIVATIONS = 4  # tensors of a block alive at a time: its joined input, its output, features, image

NOT_INSTALLED = "the program's models are not installed; install deepisp again"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TileNeeds:
    """What a model's network needs from its input.

    Attributes
    ----------
    cell : pixels; the sides of a tile's core are multiples of it.
    before : pixels of the halo above and to the left of the core.
    after : pixels of the halo below and to the right of it.
    continues : whether the ONNX graphs can continue a tile (see `training.onnx_graph`).
    """

    cell: int
    before: int
    after: int
    continues: bool = False

    @property
    def halo(self) -> int:
        """How much longer a tile with its halo is than its core."""
        return self.before + self.after


@dataclass(frozen=True)
class Model:
    """A model folder whose card has been read; its files are verified when they are read.

    Attributes
    ----------
    folder : where its files are.
    card : contents of card.json.
    """

    folder: Path
    card: dict[str, Any] = field(hash=False)

    @property
    def name(self) -> str:
        return self.card["name"]

    @property
    def tile_needs(self) -> TileNeeds:
        return TileNeeds(**self.card["tile"])

    @property
    def has_transform(self) -> bool:
        """False for a denoise + demosaic model without the high-level stage."""
        return self.card["architecture"]["high_blocks"] > 0

    @property
    def metered(self) -> bool:
        """Whether the transform is meant for frames that `metering` has exposed."""
        return self.card["architecture"].get("metered", False)

    @property
    def contrast(self) -> float:
        """How much of the S-curve of `look.add_contrast` belongs to the learned look, 0 to 1."""
        return self.card.get("contrast", 0.0)

    @property
    def has_eight_bit_form(self) -> bool:
        return EIGHT_BIT_FILE in self.card["files"]

    @property
    def graph_bytes(self) -> int:
        """Bytes of the ONNX graph.

        Raises
        ------
        ModelError
            If it is missing.
        """
        path = self.folder / ONNX_FILE
        with _read_errors(path):
            return path.stat().st_size

    def activations(self, size: int) -> float:
        """Bytes of activations for each pixel of a tile, with ``size`` bytes per number."""
        architecture = self.card["architecture"]
        return ACTIVATIONS * size * architecture["width"] / architecture["fold"] ** 2

    def read(self, file: str) -> bytes:
        """The contents of one of the model's files.

        Raises
        ------
        ModelError
            If it is missing or is not the file that the card describes.
        """
        path = self.folder / file
        with _read_errors(path):
            contents = path.read_bytes()
        if hashlib.sha256(contents).hexdigest() != self.card["files"].get(file):
            raise ModelError(f"{path}: is not the file that card.json describes; install the model again")
        return contents


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors about one of a model's files into `ModelError`."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); install the model again") from error


def find_model(name: str | os.PathLike[str]) -> Model:
    """The model called ``name``: one that ships with the program, or a folder.

    Raises
    ------
    ModelError
        If there is none, or its card cannot be used.
    """
    if not isinstance(name, str | os.PathLike):
        raise UsageError(f'{name!r} is not a model; give a name such as "deepisp", or a model\'s folder')
    if name == "":
        raise UsageError("the name of a model is empty; is a variable not set?")
    folder = Path(name)
    if isinstance(name, str) and not looks_like_a_path(name):
        folder = _models_folder() / name
        if not os.path.isfile(folder / CARD_FILE):
            known = ", ".join(model.folder.name for model in list_models())  # a folder may be renamed
            if not known:
                raise ModelError(NOT_INSTALLED)
            here = (path for path in (f"./{name}", f"models/{name}") if os.path.isfile(Path(path, CARD_FILE)))
            hint = next(here, f"./{name}")
            raise ModelError(f"{name}: no such model; known: {known}; give a folder as a path ({hint})")
    return _load(folder)


def list_models() -> list[Model]:
    """The models that ship with the program, the default first; what cannot be used is named in the log and
    left out."""
    folders = sorted(card.parent for card in _models_folder().glob(f"*/{CARD_FILE}"))
    folders.sort(key=lambda folder: folder.name != DEFAULT_MODEL)
    models = []
    for folder in folders:
        try:
            models.append(_load(folder))
        except ModelError as error:
            log.warning("%s; left out", error)
    return models


def looks_like_a_path(name: str) -> bool:
    """Whether a model is given as a folder, and not as the name of one that ships."""
    return name in (".", "..") or "/" in name or "\\" in name


def _models_folder() -> Path:
    """``models/`` of a checkout, or where the wheel puts it."""
    checkout = Path(__file__).resolve().parent.parent / "models"
    if (checkout / DEFAULT_MODEL).is_dir():
        return checkout
    try:
        return Path(str(resources.files("deepisp_models")))
    except ModuleNotFoundError as error:
        raise ModelError(NOT_INSTALLED) from error


def _load(folder: Path) -> Model:
    path = folder / CARD_FILE
    try:
        card = json.loads(path.read_text("utf-8"))
        _check(card)
    except OSError as error:
        run = folder.parent if os.path.isfile(folder) else folder  # Path.is_file may raise PermissionError
        if os.path.isfile(run / "checkpoint.pt"):
            raise ModelError(
                f"{folder}: is a training run's, no model; 'deepisp export' makes a model's folder of its"
                " checkpoint.pt"
            ) from error
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); a model folder holds card.json"
        ) from error
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ModelError(
            f"{path}: is not a model card that this version knows ({reason});"
            " update deepisp, or export the model again"
        ) from error
    return Model(folder, card)


def _check(card: dict[str, Any]) -> None:
    """Raise an error of some kind if the card lacks what the program reads of one."""
    needs, architecture = TileNeeds(**card["tile"]), card["architecture"]
    _ = card["parameters"] / 1, card["summary"]  # for ``deepisp models``
    for result in card["results"]:
        _ = result["benchmark"], [value / 1 for value in result["values"].values()]
    if not 0 <= card.get("contrast", 0) <= 1:
        raise ValueError(f"contrast: {card['contrast']!r} is not a number from 0 to 1")
    for text in (card["name"], *card["files"], *card["files"].values()):
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is not a text")
    for key, number, smallest in (
        ("cell", needs.cell, 1),
        ("before", needs.before, 0),
        ("after", needs.after, 0),
        ("fold", architecture["fold"], 1),
        ("width", architecture["width"], 1),
        ("high_blocks", architecture["high_blocks"], 0),
        *(("dilations", dilation, 1) for dilation in architecture["dilations"]),
    ):
        if not isinstance(number, int) or not smallest <= number <= LARGEST:
            raise ValueError(f"{key}: {number!r} is not a whole number from {smallest} to {LARGEST}")


def unknown_network(path: Path, error: Exception) -> ModelError:
    """What to raise where the network of a model folder or a checkpoint cannot be made of its description."""
    reason = " ".join(str(error).split())[:200]  # torch lists every layer
    return ModelError(f"{path}: holds a network that this version does not know ({reason}); update deepisp")
