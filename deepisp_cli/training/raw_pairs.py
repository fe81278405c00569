"""Real pairs: raws and well-lit reference pictures of the same scene, pixel for pixel.

Two layouts are supported: each scene in its own folder, as in the S7-ISP dataset of the paper
(``SCENE/short_exposure.dng`` and ``SCENE/medium_exposure.jpg``); or raws and pictures of the same name side
by side (``night.dng`` and ``night.jpg``).
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from deepisp_cli.camera_rgb import camera_matrix
from deepisp_cli.colour import encode
from deepisp_cli.demosaic import demosaic, normalise_mosaic, red_position
from deepisp_cli.errors import InputError
from deepisp_cli.inputs import is_ours, search_folder
from deepisp_cli.options import Options
from deepisp_cli.raw import read_raw
from deepisp_cli.render import orient
from deepisp_cli.training.pictures import (
    PHOTOGRAPH_SUFFIXES,
    damage_told,
    list_files,
    load_all,
    load_photograph,
    some,
)
from deepisp_cli.training.synthesis import PATTERN, Pairs
from deepisp_cli.white_balance import choose_white_balance, find_balanced

TURN_BACK = {6: 8, 8: 6}  # EXIF orientations that undo others; the rest undo themselves
LARGEST_BORDER = 64  # pixels a side by which a camera may have trimmed its own picture
log = logging.getLogger(__name__)

Scene = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of a raw and its reference, see `load_pair`."""


def find_raws(folder: Path) -> list[Path]:
    """The raws that ``deepisp process -r`` finds in a folder, sorted; hidden ones are passed over.

    Raises
    ------
    InputError
        If it is not a folder, or what is below it cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; name folders of raws")
    files, unreadable = search_folder(folder, recursive=True)
    if unreadable:
        name, reason = next(iter(unreadable.items()))
        raise InputError(f"{name}: {reason}")
    return files


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Raws and their references below ``folder``; see `find_raws`."""
    pairs, alone = [], []
    raws = [raw for raw in find_raws(folder) if not raw.stem.startswith("medium_exposure")]
    pictures = pictures_beside(raws)
    for raw in raws:
        beside = pictures[raw.parent]
        short = raw.stem.startswith("short_exposure")
        if reference := well_lit(beside) if short else beside.get(raw.stem):
            pairs.append((raw, reference))
        else:
            alone.append(str(raw))
    if pairs and alone:
        log.warning("no reference picture beside %s; left out", some(alone))
    return pairs


def pictures_beside(raws: Iterable[Path]) -> dict[Path, dict[str, Path]]:
    """For each folder of ``raws``, its pictures by stem; of those with the same stem, the first by name. This
    program's own are no references."""
    beside = {folder: list_files([folder], PHOTOGRAPH_SUFFIXES) for folder in {raw.parent for raw in raws}}
    return {
        folder: {path.stem: path for path in reversed(pictures) if not is_ours(path)}
        for folder, pictures in beside.items()
    }


def well_lit(beside: Mapping[str, Path]) -> Path | None:
    """Of the pictures beside the raws of a scene in the S7-ISP dataset, the reference."""
    found = [path for stem, path in beside.items() if stem.startswith("medium_exposure")]
    return min(found, default=None)


class RawPairs:
    """Crops of raws, normalised and with red first, and of their references.

    Only the finished picture of a real scene is known, not its noise-free frame: `Pairs.clean` is None. A
    pair that cannot be read, does not fit or has less than ``smallest`` pixels a side is named in the log and
    left out.

    Raises
    ------
    InputError
        If nothing is left.
    """

    def __init__(self, folders: Sequence[Path], smallest: int, generator: torch.Generator) -> None:
        self.generator = generator
        files = list(dict.fromkeys(pair for folder in folders for pair in find_pairs(folder)))
        names = ", ".join(map(str, folders))
        if not files:
            raise InputError(f"{names}: no raw with a reference picture of the same scene")

        def load(pair: tuple[Path, Path]) -> tuple[Path, Scene]:
            scene = load_pair(pair)
            if min(scene[0].shape) < smallest:
                raise InputError(f"{pair[0]}: has less than {smallest} pixels a side, the smallest crops")
            return pair[0], scene

        self.scenes = dict(load_all(files, load))
        self.sides: Mapping[Path, int] = {
            path: min(scene[0].shape) // 2 * 2 for path, scene in self.scenes.items()
        }
        if not self.scenes:
            raise InputError(f"{names}: none of the {len(files)} raws with a reference picture can be used")
        self.largest = max(self.sides.values())

    def __call__(self, count: int, size: int) -> Pairs:
        device = self.generator.device
        size = min(size, self.largest)
        large = [scene for path, scene in self.scenes.items() if self.sides[path] >= size]
        # all numbers at once: a GPU would wait for each
        drawn = torch.rand(count, 3, generator=self.generator, device=device).tolist()
        return cut([(large[int(number * len(large))], *corner) for number, *corner in drawn], size, device)


def cut(places: Iterable[tuple[Scene, float, float]], size: int, device: torch.device) -> Pairs:
    """Crops of scenes.

    Parameters
    ----------
    places : scenes, each with two shares, 0 to below 1, of the way from its top and left to where the last
        crop begins.
    size : pixels a side, even; no scene is smaller.
    device : where the crops go.
    """
    pictures, targets, matrices = [], [], []
    for (mosaic, reference, matrix), *shares in places:
        top, left = (
            int(share * ((side - size) // 2 + 1)) * 2
            for share, side in zip(shares, mosaic.shape, strict=True)
        )
        above, before = min(top, 2), min(left, 2)  # the demosaic sees a sample beyond each side
        part = mosaic[top - above : top + size + 2, left - before : left + size + 2]
        rgb = demosaic(part, PATTERN)[above : above + size, before : before + size]
        pictures.append(torch.from_numpy(encode(rgb)).permute(2, 0, 1))
        targets.append(torch.from_numpy(reference[top : top + size, left : left + size].copy()))
        matrices.append(torch.from_numpy(matrix))
    target = torch.stack(targets).to(device).permute(0, 3, 1, 2).float() / 255
    picture = torch.stack(pictures).to(device)
    exposure = torch.zeros(len(targets), device=device)
    return Pairs(picture, None, target, torch.stack(matrices).to(device), exposure)


def load_pair(pair: tuple[Path, Path]) -> Scene:
    """Load a raw and its reference.

    Returns
    -------
    mosaic : (H, W) float32, white-balanced, red first.
    reference : (H, W, 3) uint8 sRGB, in the sensor's orientation.
    matrix : (3, 3) float32, camera to linear sRGB.
    """
    path, reference_path = pair
    with damage_told(path, "a raw file"), path.open("rb") as file:
        raw, _ = find_balanced(read_raw(file, str(path)))
    if raw.pattern is None or raw.x_trans or raw.monochrome:
        raise InputError(f"{path}: is not a Bayer mosaic; training pairs need one")
    if raw.lens_warp is not None:
        raise InputError(f"{path}: has a lens correction, and its reference would not lie pixel on pixel")
    gains, _ = choose_white_balance(raw, Options().white_balance)
    mosaic = normalise_mosaic(raw.samples, raw.pattern, raw.black, raw.white, gains)
    upright = np.asarray(load_photograph(reference_path))
    reference = orient(upright, TURN_BACK.get(raw.orientation, raw.orientation))
    border = [(a - b) // 2 for a, b in zip(mosaic.shape, reference.shape[:2], strict=True)]
    if not all(0 <= side <= LARGEST_BORDER for side in border):
        shapes = f"{mosaic.shape[1]}x{mosaic.shape[0]} and {reference.shape[1]}x{reference.shape[0]}"
        raise InputError(f"{reference_path}: is not the size of {path.name} ({shapes} pixels)")
    mosaic = mosaic[border[0] :, border[1] :][: reference.shape[0], : reference.shape[1]]
    top, left = ((b + r) % 2 for b, r in zip(border, red_position(raw.pattern), strict=True))
    matrix, _ = camera_matrix(raw, gains)
    return mosaic[top:, left:], np.ascontiguousarray(reference[top:, left:]), matrix
