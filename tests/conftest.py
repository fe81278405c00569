"""Shared fixtures: an identity engine, a tiny random network as a model folder, raws with known scenes."""

import math
import os
import signal
import struct
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from deepisp_cli import interrupts
from deepisp_cli.dng import write_dng
from deepisp_cli.libraw import Decoded
from deepisp_cli.models import Model
from deepisp_cli.raw import RawImage

# As for a real camera, no row or column equals sRGB's.
MATRIX = np.array([[0.9020, -0.2890, -0.0715], [-0.4535, 1.2436, 0.2330], [-0.1137, 0.2200, 0.6974]])
IDENTITY = [[1.0 if term == channel else 0.0 for term in range(10)] for channel in range(3)]


# Whoever runs the tests may have defaults for the program; tests, and the programs they start, have none.
for _name in [name for name in os.environ if name.startswith("DEEPISP_")]:
    del os.environ[_name]


# Waiting threads of torch should not keep a core busy: beside other programs, tiny networks would take ten
# times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class IdentityEngine:
    """Returns the core of each tile unchanged, and the identity transform."""

    name, device, resident, workers, continues, lanes = "fake", "cpu", False, 1, False, 1

    def __init__(self, cell: int = 16, before: int = 6, after: int = 4) -> None:
        self.model = Model(
            None,
            {
                "name": "identity",
                "tile": {"cell": cell, "before": before, "after": after},
                "architecture": {"high_blocks": 1},
                "files": {},
            },
        )
        self.tiles = []

    def lane(self):
        return nullcontext()

    def tile(self, pixels):
        return 1024

    def run(self, tile):
        needs = self.model.tile_needs
        self.tiles.append(tile.shape)
        core = tile[:, :, needs.before : -needs.after, needs.before : -needs.after]
        rows, cols = (side // needs.cell for side in core.shape[2:])
        coefficients = np.broadcast_to(np.float32(IDENTITY).reshape(1, 30, 1, 1), (1, 30, rows, cols))
        return core, coefficients


@pytest.fixture(autouse=True)
def own_signals(monkeypatch):
    """The handlers that ``main()`` installs end with the test: pytest has its own."""
    before = {number: signal.getsignal(number) for number in interrupts.ending_signals()}
    monkeypatch.setattr(interrupts, "_received", [])
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def identity_engine():
    return IdentityEngine()


def raw_with(samples, pattern, **known):
    """A raw of these counts, black 0, white 1, of which nothing is known but ``known``."""
    planes = (3,) if pattern is None else (2, 2)
    unknown = {"camera_white_balance": None, "daylight_white_balance": None, "xyz_to_camera": None}
    levels = {"black": np.zeros(planes, np.float32), "white": np.ones(planes, np.float32)}
    rest = {
        "orientation": 1,
        "lens_warp": None,
        "make": "",
        "model": "",
        "capture": {},
        "notes": (),
    }
    return RawImage(samples, pattern, **{**levels, **unknown, **rest, **known})


def mosaic_of(scene, pattern="RGGB", black=512, white=16383, gains=(2.0, 1.0, 1.5)):
    """Counts (H, W) uint16 of white-balanced camera RGB ``scene`` (H, W, 3) behind a filter of 2x2 or 6x6."""
    counts = np.empty(scene.shape[:2])
    side = math.isqrt(len(pattern))
    for row in range(side):
        for col in range(side):
            channel = "RGB".index(pattern[side * row + col])
            counts[row::side, col::side] = scene[row::side, col::side, channel] / gains[channel]
    return np.clip(np.round(counts * (white - black) + black), 0, white).astype(np.uint16)


@pytest.fixture
def write_raw(tmp_path):
    """``write_raw(name, scene, **options)`` writes a DNG of camera RGB in [0, 1] and returns its path."""

    def write(name, scene, pattern="RGGB", black=512, white=16383, gains=(2.0, 1.0, 1.5), **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = mosaic_of(scene, pattern, black, white, gains)
        options = {"xyz_to_camera": MATRIX, "make": "Test", "model": "Camera", **options}
        write_dng(path, samples, pattern=pattern, black=black, white=white, white_balance=gains, **options)
        return path

    return write


@pytest.fixture
def grey_ramp():
    """(48, 64, 3) linear camera RGB, neutral, dark to light from left to right."""
    return np.repeat(np.linspace(0.02, 0.6, 64)[None, :, None], 48, 0).repeat(3, 2)


# Of a DNG: what says that it is one; that its mosaic is of Bayer's filter
DNG_VERSION = [(50706, 1, 4, bytes((1, 4, 0, 0))), (50708, 2, 0, "Test")]
RGGB = [(33421, 3, 2, (2, 2)), (33422, 1, 4, bytes((0, 1, 1, 2)))]


def decoded(samples, colours, **known):
    """What LibRaw returns for these samples if it knows nothing of them but ``known``."""
    unknown = {
        "letters": "RGBG", "origin": np.zeros(2, int), "visible": samples.shape[:2], "orientation": 1,
        "pixel_aspect": 1.0, "black": np.zeros(4, np.float32), "white": np.full(4, 4095, np.float32),
        "camera_gains": np.ones(3), "daylight_gains": np.ones(3), "xyz_to_camera": np.zeros((3, 3)),
        "capture": {},
    }  # fmt: skip
    return Decoded(samples=samples, colours=colours, **{**unknown, **known})


def gain_map(gains, area, planes=(0, 1), pitch=(1, 1), spacing=None, origin=(0.0, 0.0)):
    """A GainMap from gains (vertical, horizontal, planes) over the whole height and width."""
    gains = np.asarray(gains, ">f4")
    spacing = spacing or [1 / max(1, points - 1) for points in gains.shape[:2]]
    numbers = (*area, *planes, *pitch, *gains.shape[:2], *spacing, *origin, gains.shape[2])
    return 9, struct.pack(">10I4dI", *numbers) + gains.tobytes()


def polynomial(coefficients, area, planes=(0, 1), pitch=(1, 1)):
    """A MapPolynomial."""
    numbers = struct.pack(">9I", *area, *planes, *pitch, len(coefficients) - 1)
    return 8, numbers + struct.pack(f">{len(coefficients)}d", *coefficients)


def opcode_list(*entries, flags=0):
    """The bytes of a DNG's OpcodeList; entries are codes and their parameters."""
    codes = (struct.pack(">4I", code, 0x01030000, flags, len(data)) + data for code, data in entries)
    return struct.pack(">I", len(entries)) + b"".join(codes)


def with_tag(data, code, new_code, value=None):
    """A little-endian TIFF of which one tag has another code, and perhaps value."""
    data = bytearray(data)
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    (entry,) = (
        place
        for place in range(start + 2, start + 2 + 12 * count, 12)
        if struct.unpack_from("<H", data, place) == (code,)
    )
    struct.pack_into("<H", data, entry, new_code)
    if value is not None:
        struct.pack_into("<H", data, entry + 8, value)
    return bytes(data)


def random_model(folder, dilations, pictures=()):
    """A model folder of a small random network, fold 2 with a high-level stage."""
    torch = pytest.importorskip("torch")
    from deepisp_cli.models import find_model
    from deepisp_cli.network import DeepISP, NetworkConfig
    from deepisp_cli.training.export import export

    torch.manual_seed(0)
    network = DeepISP(NetworkConfig(fold=2, dilations=dilations, width=20, high_blocks=1))
    with torch.no_grad():
        torch.nn.init.normal_(network.head.weight, std=0.1)
        for layer in network.low:
            torch.nn.init.normal_(layer.weight[-12:], std=0.02)
    export(network, folder, {"summary": "for tests", "training": {}, "results": []}, pictures)
    return find_model(str(folder))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("models") / "tiny", (1, 2))


@pytest.fixture
def tile(tiny_model):
    """A tile whose core is 4 x 5 cells."""
    needs = tiny_model.tile_needs
    side = 4 * needs.cell + needs.before + needs.after
    return np.random.default_rng(0).uniform(0, 1, (1, 3, side, side + needs.cell)).astype(np.float32)


@pytest.fixture(scope="session")
def eight_bit_model(tmp_path_factory):
    """Two of its five blocks are in 8 bits, calibrated on frames from dark to bright."""
    torch = pytest.importorskip("torch")
    pictures = [
        brightness * torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(seed))
        for seed, brightness in enumerate([0.02, 0.1, 0.3, 1.0, 1.0])
    ]
    return random_model(tmp_path_factory.mktemp("models") / "eight-bit", (1, 1, 2, 1, 1), pictures)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight pictures of coloured rectangles and gradients."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for index in range(8):
        picture = np.linspace(20, 200, 160)[None, :, None] * rng.uniform(0.5, 1, (120, 1, 3))
        for _ in range(12):
            top, left = rng.integers(0, 90), rng.integers(0, 130)
            picture[top : top + 30, left : left + 30] = rng.uniform(0, 255, 3)
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{index}.png")
    return folder
