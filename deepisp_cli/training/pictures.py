"""Picture files to arrays: photographs as 8-bit sRGB, HDR files as linear light."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageCms, ImageOps
from PIL.ExifTags import Base as Tag

from deepisp_cli.colour import LUMINANCE
from deepisp_cli.errors import InputError, first_line
from deepisp_cli.machine import available_cores

PHOTOGRAPH_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
HDR_SUFFIXES = (".hdr", ".tif", ".tiff")
GREY = 0.18  # of white: what the mean of a picture is exposed to
SRGB = ImageCms.createProfile("sRGB")
NAMED = 5  # files in a message
log = logging.getLogger(__name__)
Named = TypeVar("Named")
Loaded = TypeVar("Loaded")


def list_files(folders: Iterable[Path], suffixes: tuple[str, ...], recursive: bool = False) -> list[Path]:
    """All files of these kinds in ``folders`` but the hidden ones, sorted by folder and name; with
    ``recursive`` also those in their sub-folders.

    Raises
    ------
    InputError
        If one is not a folder.
    """
    files: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: is not a folder; name folders of pictures")
        there = sorted(folder.rglob("*") if recursive else folder.iterdir())
        for path in there:
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if path.suffix.lower() in suffixes and path.is_file() and not hidden:
                files.append(path)
    return list(dict.fromkeys(files))  # a sub-folder may be given, too


def list_photographs(folders: Sequence[Path], recursive: bool = False) -> list[Path]:
    """The photographs that `list_files` finds in ``folders``.

    Raises
    ------
    InputError
        If one is not a folder, or there are none.
    """
    files = list_files(folders, PHOTOGRAPH_SUFFIXES, recursive)
    if not files:
        names, known = ", ".join(map(str, folders)), ", ".join(PHOTOGRAPH_SUFFIXES)
        searched = "" if recursive else "; sub-folders are not searched"
        raise InputError(f"{names}: holds no photographs ({known}){searched}")
    return files


def some(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    return ", ".join([*names[:NAMED], *([f"{len(names) - NAMED} more"] if len(names) > NAMED else [])])


def spread(files: Sequence[Any], limit: int | None) -> list[Any]:
    """``limit`` of the files spread evenly, or all."""
    if not limit or limit >= len(files):
        return list(files)
    return [files[index * len(files) // limit] for index in range(limit)]


def load_all(files: Iterable[Named], load: Callable[[Named], Loaded]) -> list[Loaded]:
    """Load ``files`` on all cores; those that cannot be loaded are named in the log and left out."""
    loaded = []
    pool = ThreadPoolExecutor(available_cores())
    try:
        for future in [pool.submit(load, file) for file in files]:
            try:
                loaded.append(future.result())
            except InputError as error:
                log.warning("%s; left out", error)
    finally:
        pool.shutdown(cancel_futures=True)  # at Ctrl-C hundreds may be waiting
    return loaded


@contextmanager
def damage_told(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever goes wrong while ``path`` is decoded into an `InputError` that names it.

    ``kind`` is what it should be: "a picture".
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # decoders meet damage in many ways: sizes too large for memory, too
        raise InputError(
            f"{path}: cannot be read as {kind} ({first_line(error)}); replace it or take it out of the folder"
        ) from error


def load_photograph(path: Path) -> Image.Image:
    """One photograph, 8 or 16 bits, as an upright 8-bit sRGB picture; its ICC profile is respected.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    with damage_told(path, "a picture"), Image.open(path) as picture:
        if picture.mode == "F":
            raise InputError(f"{path}: holds floating-point numbers; photographs have 8 or 16 bits")
        tags = getattr(picture, "tag_v2", {})  # of a TIFF
        bits = max(tags.get(Tag.BitsPerSample, (8,)))
        if bits > 16:
            raise InputError(f"{path}: holds {bits}-bit numbers; photographs have 8 or 16 bits")
        if tags.get(Tag.PlanarConfiguration) == 2 and bits > 8:
            raise InputError(  # Pillow would take the planes apart wrongly
                f"{path}: has 16 bits and its colours in separate planes; save it with interleaved colours"
            )
        upright = ImageOps.exif_transpose(picture)
        profile = upright.info.get("icc_profile")
        if upright.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        if upright.mode not in ("L", "RGB", "CMYK"):
            upright = upright.convert("RGB")
        if profile:
            given = ImageCms.ImageCmsProfile(BytesIO(profile))
            if upright.mode == "L" and given.profile.xcolor_space.strip() == "RGB":  # as some programs save
                upright = upright.convert("RGB")
            upright = ImageCms.profileToProfile(upright, given, SRGB, outputMode="RGB") or upright
        return upright.convert("RGB")


def middle(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of an image (H, W, ...): so many rows and columns, or as many as it has."""
    height, width = min(height, image.shape[0]), min(width, image.shape[1])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def load_linear(path: Path) -> np.ndarray:
    """One HDR file as linear sRGB (H, W, 3) float32, not negative; the unit is the file's.

    Radiance RGBE (.hdr) and floating-point TIFF.

    Raises
    ------
    InputError
        If it cannot be read or is not linear light.
    """
    with damage_told(path, "an HDR file"):
        if path.suffix.lower() == ".hdr":
            light = imagecodecs.rgbe_decode(path.read_bytes())
        else:
            light = tifffile.imread(path)
    if light.ndim != 3 or light.shape[2] not in (3, 4) or not np.issubdtype(light.dtype, np.floating):
        raise InputError(f"{path}: is not a linear RGB picture ({light.dtype}, {light.shape})")
    light = light[..., :3].astype(np.float32)
    most = light.max(where=np.isfinite(light), initial=0)  # a sun may be infinite: no number to train on
    return np.nan_to_num(light, posinf=most).clip(0)


def load_scene(path: Path) -> np.ndarray:
    """`load_linear`, scaled as a light meter exposes it: the logarithmic mean of its luminance is `GREY`."""
    light = load_linear(path)
    return light * np.float32(GREY / np.exp(np.log((light @ LUMINANCE).clip(1e-6)).mean()))
