"""torch's engine: its tiles fit the device, its errors are ours."""

import pytest

from deepisp_cli import torch_engine
from deepisp_cli.errors import EngineError
from deepisp_cli.models import TILE
from deepisp_cli.torch_engine import TorchEngine


def test_without_torch_the_error_says_what_to_install(tiny_model, monkeypatch):
    monkeypatch.setattr(torch_engine, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r'pip install "\.\[torch\]"'):
        TorchEngine(tiny_model)


def test_the_tile_on_cuda_follows_the_free_memory(tiny_model, monkeypatch):
    torch = pytest.importorskip("torch")
    opened = TorchEngine(tiny_model)
    assert opened.tile(1) == TILE
    opened._kind = "cuda"
    for cache in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, cache, lambda device: 0)
    sides = []
    for free in (1e6, 2e8, 8e8, 1e12):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (int(free), 2e12))
        sides.append(opened.tile(1))
    assert sides[0] == torch_engine.GPU_TILES[0]
    assert sides[3] == torch_engine.GPU_TILES[1]
    assert sides[2] == pytest.approx(2 * sides[1], rel=0.01)

    def lost(device):
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "mem_get_info", lost)
    with pytest.raises(EngineError, match=r"torch failed on .*unspecified launch failure"):
        opened.tile(1)
