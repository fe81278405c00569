"""Trained weights in files, those of models and the checkpoints of training runs: what they hold, and what is
told of damaged ones."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from deepisp_cli.errors import ModelError
from deepisp_cli.models import WEIGHTS_FILE, find_model, unknown_network
from deepisp_cli.network import DeepISP, NetworkConfig, config_from_card
from deepisp_cli.training.config import TrainConfig, config_from_dict

# what exports and new runs need; `Trainer.load` needs more
PARTS_OF_CHECKPOINT = {"config": dict, "average": dict, "position": list, "history": list}


def read_config(path: Path, state: dict) -> TrainConfig:
    """The configuration in ``state``, the contents of the checkpoint at ``path``.

    Raises
    ------
    ModelError
        If this version does not know it.
    """
    try:
        return config_from_dict(state["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise unknown_network(path, error) from error


def load_weights(network: DeepISP, weights: dict[str, Tensor], path: Path) -> None:
    """Set the network's weights to those from the checkpoint or model at ``path``.

    Raises
    ------
    ModelError
        If they are those of another network than it says.
    """
    try:
        network.load_state_dict(weights)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise ModelError(f"{path}: its weights are not those of its network; it is damaged") from error


def origin(path: Path, state: dict) -> dict[str, Any]:
    """What a card says of the checkpoint at ``path``, whose contents are ``state``: its hash, its steps."""
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "steps": state["position"][3]}


def read_weights(
    path: Path, device: torch.device | str = "cpu"
) -> tuple[dict[str, Tensor], NetworkConfig, list[dict[str, Any]]]:
    """The weights of a model folder, or the averaged ones of a checkpoint, their network and their lineage.

    Raises
    ------
    ModelError
        If ``path`` is neither, or holds a network that this version does not know.
    """
    if path.is_dir():
        model = find_model(path)
        contents = model.read(WEIGHTS_FILE)
        lineage = [{"model": model.name, "sha256": hashlib.sha256(contents).hexdigest()}]
        try:
            network = config_from_card(model.card["architecture"])
            weights = safetensors.torch.load(contents)
        except (TypeError, ValueError) as error:
            raise unknown_network(path, error) from error
        except safetensors.SafetensorError as error:
            raise ModelError(f"{path / WEIGHTS_FILE}: holds no weights; install the model again") from error
    else:
        state = read_checkpoint(path, device)
        lineage = [*state.get("lineage", []), origin(path, state)]
        weights, network = state["average"], read_config(path, state).network
    load_weights(DeepISP(network), weights, path)
    return weights, network, lineage


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict:
    """The contents of a checkpoint.

    Raises
    ------
    ModelError
        If it is not one.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        if not all(isinstance(state[part], kind) for part, kind in PARTS_OF_CHECKPOINT.items()):
            raise ValueError("a part is of another kind")
        if not np.isfinite(state["position"]).all() or len(state["position"]) != 4:
            raise ValueError("its position is none")
    except MemoryError:
        raise
    except Exception as error:  # torch.load raises whatever pickle and zip do, with advice that is dangerous
        raise ModelError(
            f"{path}: is not a checkpoint of a training run, or is damaged; use the run's checkpoint.pt"
        ) from error
    return state
