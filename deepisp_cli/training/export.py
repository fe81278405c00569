"""Export a checkpoint to a model folder (``deepisp export``).

Writes ``weights.safetensors``, ``model.onnx``, on request ``model-int8.onnx``, and ``card.json``. Before
anything is written, ONNX Runtime and torch must agree on the exported graphs.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from deepisp_cli import __version__
from deepisp_cli.errors import InputError, ModelError
from deepisp_cli.files import replace_file
from deepisp_cli.models import CARD_FILE, EIGHT_BIT_FILE, ONNX_FILE, WEIGHTS_FILE
from deepisp_cli.network import DeepISP, NetworkConfig
from deepisp_cli.onnx_engine import open_session
from deepisp_cli.training.checkpoint import read_checkpoint, read_config, read_weights
from deepisp_cli.training.config import TrainConfig, on_photographs
from deepisp_cli.training.onnx_graph import to_onnx
from deepisp_cli.training.quantise import FEWEST_BLOCKS, measure
from deepisp_cli.training.sources import open_sources

# what a person writes into a card
KEPT = ("summary", "contrast", "licence", "training", "results", "limitations", "openness")
PARITY = 1e-4  # largest difference allowed between the two engines
EIGHT_BIT_PARITY = 5e-3  # largest root mean square error allowed in the 8-bit form's restored image
TRANSFORM_PARITY = 0.03  # largest difference allowed of a coefficient of its W
CALIBRATION = 12, 2, 384  # batches, crops in each, pixels a side
CHECKS = 3  # further batches, which the statistics have not seen
REDUCTIONS = (1.0, 2.0, 3.0)  # of their photographs: near and far, unlike the last stage of training
# Values beyond the ranges would stay in the picture, so the rare ones have to be included
HOT_SHARE = 2e-4  # share of samples
SATURATED_SHARE = 0.5  # share of photographs


def largest_difference(network: DeepISP, graph: bytes) -> float:
    """Largest difference between torch and ONNX Runtime on random tiles of several sizes; NaN if one is."""
    session = open_session(graph)
    generator = torch.Generator().manual_seed(0)
    config = network.config
    differences = [0.0]
    for rows, columns in ((1, 1), (1, 3), (2, 1)):
        halo = config.lead + 2 * config.reach
        shape = (1, 3, rows * config.cell + halo, columns * config.cell + halo)
        picture = torch.rand(shape, generator=generator)
        with torch.inference_mode():
            expected = network.eval()(picture)
        found = session.run(["image", "coefficients"], {"picture": picture.numpy()})
        for ours, theirs in zip(expected, found, strict=True):
            if ours.shape != theirs.shape:
                return float("inf")
            if theirs.size:
                differences.append(float(np.abs(ours.numpy() - theirs).max()))
    return float(np.max(differences))  # NaN if one is


def eight_bit_difference(
    network: DeepISP, graph: bytes, pictures: Sequence[torch.Tensor]
) -> tuple[float, float]:
    """The 8-bit form's error on the first picture of each batch (N, 3, H, W): of its restored images (root
    mean square), and of its W (the largest difference of a coefficient)."""
    session = open_session(graph)
    errors, transform = [], [0.0]
    for picture in pictures:
        with torch.inference_mode():
            expected = network.eval()(picture[:1])
        found = session.run(["image", "coefficients"], {"picture": picture[:1].numpy()})
        errors.append(float(np.square(expected[0].numpy() - found[0]).mean()))
        if found[1].size:
            ours, theirs = expected[1].numpy().mean((2, 3)), found[1].mean((2, 3))
            transform.append(float(np.abs(ours - theirs).max()))
    return float(np.sqrt(np.mean(errors))), float(np.max(transform))


def export(
    network: DeepISP,
    folder: Path,
    facts: dict[str, Any],
    pictures: Sequence[torch.Tensor] = (),
    checks: Sequence[torch.Tensor] = (),
) -> None:
    """Write the model folder.

    Parameters
    ----------
    network : to write.
    folder : made if missing.
    facts : further entries of the card: summary, training, results, ...
    pictures : typical inputs of the network, (N, 3, H, W); if given, the 8-bit form is written too.
    checks : other inputs on which it must agree; by default the same.

    Raises
    ------
    ModelError
        If the exported graph does not agree with the network.
    """
    graph = to_onnx(network)
    difference = largest_difference(network, graph)
    if not difference <= PARITY:
        raise ModelError(f"{folder}: torch and ONNX Runtime differ by {difference:.2g}; nothing was written")
    parity = {"torch against onnxruntime, largest difference": difference}
    eight_bit = {}
    if pictures:
        eight_bit = {EIGHT_BIT_FILE: to_onnx(network, measure(network, pictures))}
        image, transform = eight_bit_difference(network, eight_bit[EIGHT_BIT_FILE], checks or pictures)
        if not (image <= EIGHT_BIT_PARITY and transform <= TRANSFORM_PARITY):
            raise ModelError(
                f"{folder}: the 8-bit form is off by {image:.2g} (W by {transform:.2g}); nothing was written"
            )
        parity["8 bit against float32, root mean square"] = image
        parity["8 bit against float32, largest difference of W"] = transform
    config: NetworkConfig = network.config
    files = {ONNX_FILE: graph, **eight_bit, WEIGHTS_FILE: _weights_file(network)}
    card = {
        "name": folder.resolve().name,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "architecture": asdict(config),
        "tile": {
            "cell": config.cell,
            "before": config.reach + config.lead,
            "after": config.reach,
            "continues": True,
        },
        "files": {name: hashlib.sha256(contents).hexdigest() for name, contents in files.items()},
        "parity": parity,
        **facts,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        replace_file(folder / name, contents)
    if not eight_bit:
        (folder / EIGHT_BIT_FILE).unlink(missing_ok=True)  # of the model that was there
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    replace_file(folder / CARD_FILE, text.encode())  # what a person wrote into the old one is not lost


def export_checkpoint(checkpoints: Sequence[Path], folder: Path, photographs: Sequence[str] = ()) -> Path:
    """Export the averaged weights of training runs' checkpoints; returns the card's path.

    Parameters
    ----------
    checkpoints : one, or several of one network, whose mean is taken (Wortsman et al., "Model soups", 2022);
        all but the first may be model folders. The card records the training of the first, and the
        ``lineage`` of all: what they started from, and the checkpoints themselves.
    folder : of the model; what a person wrote into the card that it holds is kept.
    photographs : folders; raws made from them calibrate the 8-bit form.

    Raises
    ------
    ModelError
        If one is not a checkpoint, has another network or one that this version does not know, the engines do
        not agree, the network has too few blocks for an 8-bit form that is asked for, or the folder's card is
        damaged.
    """
    state = read_checkpoint(checkpoints[0])
    config = read_config(checkpoints[0], state)
    read = {path: read_weights(path) for path in dict.fromkeys(checkpoints)}  # one may be named twice
    for path, (_, architecture, _) in read.items():
        if architecture != config.network:
            raise ModelError(f"{path}: holds a network of another architecture; average those of one network")
    weights, _, lineage = zip(*(read[path] for path in checkpoints), strict=True)
    blocks = len(config.network.dilations)
    if photographs and blocks < FEWEST_BLOCKS:
        raise ModelError(
            f"{checkpoints[0]}: a network of {blocks} low-level blocks has no 8-bit form: the first and the"
            f" last two stay in float32, so it takes {FEWEST_BLOCKS}; leave out --calibrate"
        )
    pictures, checks = _inputs(config, photographs) if photographs else ([], [])
    network = DeepISP(config.network)
    network.load_state_dict(
        {name: torch.stack([each[name] for each in weights]).mean(0) for name in weights[0]}
    )
    path = folder / CARD_FILE
    try:
        old = json.loads(path.read_text("utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ModelError(f"{path}: is not JSON ({error}); correct it, or remove it") from error
    tables = ("files", "training")
    if not isinstance(old, dict) or not all(isinstance(old.get(table, {}), dict) for table in tables):
        raise ModelError(f"{path}: is no model card; correct it, or remove it")
    facts = {key: old[key] for key in KEPT if key in old}
    if old.get("files", {}).get(WEIGHTS_FILE) != hashlib.sha256(_weights_file(network)).hexdigest():
        facts.pop("results", None)  # they belong to other weights
    facts = {"summary": "", "training": {}, "results": [], **facts}
    facts["training"] |= {
        "config": state["config"],
        "steps": state["position"][3],
        "version": __version__,
        "lineage": lineage,
        # NaN, as without validation, is not JSON
        "log": [{k: None if v != v else v for k, v in row.items()} for row in state["history"][-1:]],
    }
    export(network, folder, facts, pictures, checks)
    return path


def _weights_file(network: DeepISP) -> bytes:
    return safetensors.torch.save({name: each.contiguous() for name, each in network.state_dict().items()})


def _inputs(config: TrainConfig, photographs: Sequence[str]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The network's inputs (N, 3, H, W) that calibrate the 8-bit form, and those it is checked on."""
    generator = torch.Generator().manual_seed(config.seed)
    synthesis = replace(config.synthesis, hot_share=HOT_SHARE, saturated_share=SATURATED_SHARE)
    batches, count, size = CALIBRATION
    network = config.network
    smallest = network.cell + network.lead + 2 * network.reach
    stage = min(config.stages, key=lambda stage: stage.crop)  # which photographs are too small
    stage = replace(stage, crop=min(stage.crop, max(size, config.smallest_side)))
    calibration = replace(
        on_photographs(config, photographs),
        synthesis=synthesis,
        longest_side=max(config.longest_side, 2 * smallest),
        reductions=REDUCTIONS,
        stages=(stage,),
        restoration_scales=(1,),  # no loss is computed, and larger ones may not fit into the crop
    )
    (source,), _ = open_sources(calibration, generator)
    pictures = [source(count, size).picture for _ in range(batches)]
    checks = [source(1, max(size, smallest)).picture for _ in range(CHECKS)]
    if min(checks[0].shape[2:]) < smallest:
        raise InputError(
            f"{', '.join(photographs)}: this network is calibrated on photographs of {smallest} pixels a side"
        )
    return pictures, checks
