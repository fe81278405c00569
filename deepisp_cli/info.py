"""What the program reads from a raw file, for ``deepisp info``."""

from pathlib import Path
from typing import Any

import numpy as np

from deepisp_cli.errors import InputError, told_of
from deepisp_cli.raw import RawImage
from deepisp_cli.reading import read_source
from deepisp_cli.xmp import values_in


def describe(source: Path | str) -> dict[str, Any]:
    """Camera, exposure, levels and colours of a raw file as plain JSON values.

    Raises
    ------
    DeepIspError
        `InputError`, also `UnsupportedRawError`: the file cannot be developed. The base class itself: memory
        does not suffice, or the program has a bug. It names the file.
    """
    name = str(source)
    with told_of(name):
        raw, metadata = read_source(source)
    captured = metadata.captured
    return {
        "file": name,
        "supported": True,
        "camera": metadata.camera,
        "lens": metadata.lens,
        "captured": captured.isoformat() if captured else None,
        "exposure_time": metadata.exposure_time,
        "f_number": metadata.f_number,
        "iso": metadata.iso,
        "focal_length": metadata.focal_length,
        "width": raw.size[1],
        "height": raw.size[0],
        "orientation": raw.orientation,
        "cfa": _mosaic(raw),
        "black": np.unique(np.round(raw.black.astype(float), 4)).tolist(),
        "white": np.unique(np.round(raw.white.astype(float), 4)).tolist(),
        "white_balance": _rounded(raw.camera_white_balance),
        "daylight_white_balance": _rounded(raw.daylight_white_balance),
        "xyz_to_camera": _rounded(raw.xyz_to_camera),
        "restored": raw.restored_strength > 0,
        "rating": metadata.rating,
        "xmp": values_in(metadata.xmp),
        "gps": {2, 4} <= metadata.gps.keys(),  # latitude and longitude
        "notes": [*raw.notes, *metadata.notes],
    }


def not_supported(source: Path | str, error: InputError) -> dict[str, Any]:
    """What takes the place of `describe` for a file that cannot be developed."""
    reason = str(error).removeprefix(f"{source}: ")
    return {"file": str(source), "supported": False, "reason": reason}


def _mosaic(raw: RawImage) -> str:
    if raw.monochrome:
        return "none (monochrome)"
    return "X-Trans" if raw.x_trans else raw.pattern or "none (linear)"


def _rounded(array: np.ndarray | None) -> list | None:
    return None if array is None else np.round(array.astype(float), 4).tolist()
