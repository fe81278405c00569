"""Small training runs for tests."""

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")


from deepisp_cli.network import NetworkConfig
from deepisp_cli.training.config import Stage, TrainConfig
from deepisp_cli.training.trainer import Trainer

CPU = torch.device("cpu")
TINY = NetworkConfig(fold=2, dilations=(1, 2), width=20, high_blocks=2)
LOW_ONLY = replace(TINY, high_blocks=0)
ROOT = Path(__file__).resolve().parents[1]


def config(folder, **changes):
    values = {
        "network": TINY,
        "stages": (Stage(learning_rate=2e-3, batch=4, crop=32, steps=6),),
        "photographs": (str(folder),),
        "reductions": (1.0, 2.0),
        **changes,
    }
    return TrainConfig(**values)


def new_trainer(settings):
    return Trainer(settings, CPU)


def weights(checkpoint):
    return torch.load(checkpoint, weights_only=True)["network"]
