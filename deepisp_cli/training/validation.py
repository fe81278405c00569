"""How good the network is while it trains, always measured on the same frames."""

import logging
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deepisp_cli.errors import InputError
from deepisp_cli.network import DeepISP
from deepisp_cli.training.config import TrainConfig
from deepisp_cli.training.mosaics import MosaicOptions, MosaicSynthesis
from deepisp_cli.training.pictures import (
    PHOTOGRAPH_SUFFIXES,
    list_files,
    load_all,
    load_photograph,
    middle,
    spread,
)
from deepisp_cli.training.raw_pairs import Scene, cut, find_pairs, load_pair
from deepisp_cli.training.sensor import LOW_LIGHT
from deepisp_cli.training.synthesis import (
    Pairs,
    Synthesis,
    SynthesisOptions,
    frame_gains,
    to_picture,
    to_srgb,
)

log = logging.getLogger(__name__)
SIGMAS = (0.0, 10.0, 20.0)
SHEET_ROWS = 6


class Validation:
    """The middle of each validation picture as one fixed frame: of photographs at a quarter of the exposure,
    or as a mosaic with noise of 0, 10 and 20 of 255. Where there are raws with references, of these alone.

    Raises
    ------
    InputError
        If the folders are there, but hold no picture that can be read and is large enough.
    """

    def __init__(self, config: TrainConfig, device: torch.device, size: int = 320, count: int = 12) -> None:
        self.finished = config.network.high_blocks > 0
        self.pairs: list[Pairs] = []
        folders = [Path(folder) for folder in config.validation]
        for folder in folders:
            if not folder.is_dir():
                log.warning("%s: is not there; training goes on without these validation pictures", folder)
        there = list(filter(Path.is_dir, folders))
        smallest = config.network.cell if self.finished else 2
        size = max(size, smallest)

        def load_photo(path: Path) -> np.ndarray:
            pixels = np.asarray(load_photograph(path))
            _refuse_small(pixels, path, smallest)
            return pixels

        def load_real(pair: tuple[Path, Path]) -> Scene:
            scene = load_pair(pair)
            _refuse_small(scene[0], pair[0], smallest)
            return scene

        real = [pair for folder in there for pair in find_pairs(folder)] if self.finished else []
        files = [] if real else list_files(there, PHOTOGRAPH_SUFFIXES, recursive=True)
        real, files = spread(real, count), spread(files, count)
        self.files = {path.resolve() for path in (*files, *(raw for raw, _ in real))}
        for scene in load_all(real, load_real):
            side = min(size, *(each // 2 * 2 for each in scene[0].shape))
            self.pairs.append(cut([(scene, 0.5, 0.5)], side, device))
        for seed, pixels in enumerate(load_all(files, load_photo)):
            crop = middle(pixels, *(min(size, side // 2 * 2) for side in pixels.shape[:2])).transpose(2, 0, 1)
            synthesis = _fixed_synthesis(config, seed, torch.Generator(device).manual_seed(seed))
            self.pairs.append(synthesis(torch.from_numpy(np.ascontiguousarray(crop))[None]))
        if there and not self.pairs:
            named = ", ".join(map(str, there))
            raise InputError(f"{named}: no pictures to validate on; name others, or leave them out")

    def psnr(self, network: DeepISP) -> float:
        """Mean PSNR in dB of the results, not quantised; NaN without photographs."""
        if not self.pairs:
            return math.nan
        errors = [float((self.result(network, each) - each.target).square().mean()) for each in self.pairs]
        return float(np.mean([-10 * math.log10(max(error, 1e-12)) for error in errors]))

    @torch.no_grad()
    def result(self, network: DeepISP, pairs: Pairs) -> Tensor:
        """What the network makes of a frame: the finished picture or, without high-level stage, the image."""
        image, coefficients = network(pairs.picture, pad=True)
        if not self.finished:
            return image.clamp(0, 1)
        gain = frame_gains(image, pairs.matrix) if network.config.metered else None
        return to_picture(image, coefficients, pairs.matrix, gain).clamp(0, 1)

    def sheet(self, network: DeepISP) -> Image.Image:
        """Input, result and photograph of the first frames, side by side."""
        shown = []
        for pairs in self.pairs[:SHEET_ROWS]:
            picture = to_srgb(pairs.picture, pairs.matrix) if self.finished else pairs.picture
            row = torch.cat([picture.clamp(0, 1), self.result(network, pairs), pairs.target], 3)[0]
            shown.append(torch.round(255 * row).byte().permute(1, 2, 0).cpu().numpy())
        width = max(row.shape[1] for row in shown)
        filled = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in shown]
        return Image.fromarray(np.concatenate(filled))


def _refuse_small(pixels: np.ndarray, path: Path, smallest: int) -> None:
    if min(pixels.shape[:2]) < smallest:
        raise InputError(f"{path}: has less than {smallest} pixels a side")


def _fixed_synthesis(
    config: TrainConfig, index: int, generator: torch.Generator
) -> Synthesis | MosaicSynthesis:
    if config.mosaic:
        sigma = SIGMAS[index % 3]
        return MosaicSynthesis(MosaicOptions(sigma=(sigma, sigma)), generator)
    shot = LOW_LIGHT[index % 3]
    options = SynthesisOptions(
        exposure=(-2, -2), shot_noise=(shot, shot), inverse_tone=(0, 0), highlight_share=0,
        black_error=0, row_noise=0, hot_share=0,
    )  # fmt: skip
    return Synthesis(options, generator)


@torch.no_grad()
def dead_features(network: DeepISP, pictures: list[Tensor]) -> float:
    """Share of the low-level stage's features that are zero everywhere in ``pictures``: they cannot learn."""
    count = network.config.width - network.config.image_channels
    alive: dict[int, Tensor] = {}

    def remember(index: int, output: Tensor) -> None:
        active = (output[:, :count] > 0).any(0).flatten(1).any(1)
        alive[index] = active | alive.get(index, torch.zeros_like(active))

    hooks = [
        layer.register_forward_hook(lambda _, __, output, index=index: remember(index, output))
        for index, layer in enumerate(network.low)
    ]
    for picture in pictures:
        network.restore(picture, pad=True)
    for hook in hooks:
        hook.remove()
    return 1 - float(torch.stack(list(alive.values())).float().mean()) if alive else math.nan
