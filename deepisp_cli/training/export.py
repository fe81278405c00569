"""A checkpoint to a model folder (``deepisp export``).

Writes ``weights.safetensors``, ``model.onnx`` and ``card.json``. Before anything is written, ONNX Runtime and
torch must agree on the exported graph.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from deepisp_cli.errors import ModelError
from deepisp_cli.models import CARD_FILE, ONNX_FILE, WEIGHTS_FILE
from deepisp_cli.network import DeepISP, NetworkConfig
from deepisp_cli.training.config import config_from_dict
from deepisp_cli.training.onnx_graph import to_onnx
from deepisp_cli.training.trainer import read_checkpoint

# what a person writes into a card
KEPT = ("summary", "licence", "training", "results", "limitations", "openness")
PARITY = 1e-4  # largest difference allowed between the two engines


def largest_difference(network: DeepISP, graph: bytes, seed: int = 0) -> float:
    """Largest difference between torch and ONNX Runtime on random tiles of several sizes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(seed)
    config = network.config
    worst = 0.0
    for rows, cols in ((1, 1), (1, 3), (2, 1)):
        halo = config.lead + 2 * config.reach
        shape = (1, 3, rows * config.cell + halo, cols * config.cell + halo)
        picture = torch.rand(shape, generator=generator)
        with torch.inference_mode():
            expected = network.eval()(picture)
        found = session.run(["image", "coefficients"], {"picture": picture.numpy()})
        for ours, theirs in zip(expected, found, strict=True):
            if ours.shape != theirs.shape:
                return float("inf")
            if theirs.size:
                worst = max(worst, float(np.abs(ours.numpy() - theirs).max()))
    return worst


def export(network: DeepISP, folder: Path, facts: dict[str, Any]) -> None:
    """Write the model folder.

    Parameters
    ----------
    facts : what else the card says: summary, training, results, ...

    Raises
    ------
    ModelError
        If the exported graph does not agree with the network.
    """
    graph = to_onnx(network)
    difference = largest_difference(network, graph)
    if not difference <= PARITY:
        raise ModelError(f"{folder}: torch and ONNX Runtime differ by {difference:.2g}; nothing was written")
    config: NetworkConfig = network.config
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    files = {ONNX_FILE: graph, WEIGHTS_FILE: safetensors.torch.save(weights)}
    card = {
        "name": folder.name,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "architecture": asdict(config),
        "tile": {"cell": config.cell, "before": config.reach + config.lead, "after": config.reach},
        "files": {name: hashlib.sha256(contents).hexdigest() for name, contents in files.items()},
        "parity": {"torch against onnxruntime, largest difference": difference},
        **facts,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        (folder / name).write_bytes(contents)
    (folder / CARD_FILE).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", "utf-8")


def export_checkpoint(checkpoint: Path, folder: Path) -> Path:
    """Export the averaged weights of a training run's checkpoint; returns the card's path."""
    state = read_checkpoint(checkpoint)
    network = DeepISP(config_from_dict(state["config"]).network)
    network.load_state_dict(state["average"])
    path = folder / CARD_FILE
    old = json.loads(path.read_text("utf-8")) if path.exists() else {}
    facts = {key: old[key] for key in KEPT if key in old}
    facts = {"summary": "", "training": {}, "results": [], **facts}
    facts["training"] |= {
        "config": state["config"],
        "steps": state["position"][3],
        "log": state["history"][-1:],
    }
    export(network, folder, facts)
    return path
