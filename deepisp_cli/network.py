"""The DeepISP network (Schwartz, Giryes, Bronstein: "DeepISP", section 1) and its folded form.

Low-level blocks correct a running image by residuals while they compute features; the high-level stage turns
the features into the 30 numbers of one global quadratic colour transform.

No layer pads when the network runs on tiles: the caller supplies a halo of real (or mirrored) pixels, so that
tiles join exactly. Training pads each layer by replication instead, so that a small crop is used whole.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepisp_cli.joining import PLAIN, RESIDUAL_LIMIT, PaddedJoin, join

TRANSFORM_SIZE = 30  # 3 output channels x (r, g, b, rr, rg, rb, gg, gb, bb, 1)
MOST_DILATED, MOST_HIGH_BLOCKS = 1000, 6  # beyond these a tile would be larger than any picture
LEVEL_STRIDE = 4  # a stride-2 convolution followed by a 2x2 max-pool
# Subtracted from the input: about the mean of an encoded low-light frame. (The authors' 0.5 suits well-lit
# frames: on dark ones it leaves a large constant, and features that never wake up.)
MIDDLE = 0.2


@dataclass(frozen=True)
class NetworkConfig:
    """A network's shape, and whether its transform expects metered frames.

    The paper's full pipeline is ``fold=1, dilations=(1,) * 15, width=64, high_blocks=3``.
    """

    fold: int = 1  # 1: the paper; 2: works on 2x2 space-to-depth, red sample first
    dilations: tuple[int, ...] = (1,) * 15  # one low-level block each; the paper's blocks are not dilated
    width: int = 64  # channels of a block: 3 * fold**2 of them residual image, the rest features
    high_blocks: int = 3  # stride-2 convolutions with max-pool; 0: denoise + demosaic alone, no transform
    metered: bool = False  # T is applied to the frame as `metering` exposes it; the paper has no meter

    def __post_init__(self) -> None:
        if self.fold not in (1, 2):
            raise ValueError(f"fold is 1 or 2, got {self.fold}")
        if not self.dilations or min(self.dilations) < 1 or max(self.dilations) > MOST_DILATED:
            raise ValueError(f"dilations are one or more of 1 to {MOST_DILATED}, got {self.dilations}")
        if self.width <= self.image_channels:
            raise ValueError(
                f"width must be above the {self.image_channels} image channels, got {self.width}"
            )
        if not 0 <= self.high_blocks <= MOST_HIGH_BLOCKS:
            raise ValueError(f"high_blocks is 0 to {MOST_HIGH_BLOCKS}, got {self.high_blocks}")

    @property
    def image_channels(self) -> int:
        return 3 * self.fold**2

    @property
    def cell(self) -> int:
        """Side in pixels of the square that yields one set of coefficients."""
        return self.fold * LEVEL_STRIDE**self.high_blocks

    @property
    def reach(self) -> int:
        """How far, in pixels, a corrected pixel sees in each direction."""
        return self.fold * sum(self.dilations)

    @property
    def lead(self) -> int:
        """Pixels that the first cell's coefficients see above and to the left of the cell, beyond `reach`.

        Each stride-2 convolution looks one position back: 1, then 1 + 4, then 1 + 4 + 16 ...
        """
        return self.fold * (LEVEL_STRIDE**self.high_blocks - 1) // (LEVEL_STRIDE - 1)


def config_from_card(architecture: dict) -> NetworkConfig:
    """The config in a card or a checkpoint; older ones lack newer fields."""
    return NetworkConfig(**{**architecture, "dilations": tuple(architecture["dilations"])})


class DeepISP(nn.Module):
    """The network of one `NetworkConfig`.

    ``forward`` takes encoded camera RGB (N, 3, H, W) float32, values about [0, 1], with the CFA's red sample
    at the first pixel, and returns the corrected image and the coefficients per cell: (N, 30, rows, columns),
    ``w0`` included, so that a frame's W is their mean over its cells. With ``high_blocks == 0`` the
    coefficients have no cells.

    ``pad=True`` (training): H and W multiples of ``fold``; the image has the input's size.
    ``pad=False`` (tiles): the input carries a halo of ``reach + lead`` pixels above and left and of ``reach``
    below and right of a core whose size is a multiple of ``cell``; the image is the core.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.training_join = PLAIN
        features = config.width - config.image_channels
        self.low = nn.ModuleList()
        for index, dilation in enumerate(config.dilations):
            inputs = config.image_channels + (features if index else 0)
            self.low.append(nn.Conv2d(inputs, config.width, 3, dilation=dilation))
        self.high = nn.ModuleList()
        for index in range(config.high_blocks):
            self.high.append(nn.Conv2d(config.width if index else features, config.width, 3, stride=2))
        if config.high_blocks:
            self.head = nn.Conv2d(config.width, TRANSFORM_SIZE, 1)
            self.register_buffer("w0", _identity_transform())
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """He initialisation with filters of zero mean; residuals start at zero and the head near it, so that
        an untrained network returns W0 applied to the bilinear picture.

        A dark frame is nearly constant. Filters with a mean would see that constant above all: each feature
        would be on or off everywhere, and those that are off never learn. Residuals that start at random are
        mere noise in the image, which training first removes by switching the features off.
        """
        for layer in [*self.low, *self.high]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            layer.weight -= layer.weight.mean((1, 2, 3), keepdim=True)
            nn.init.zeros_(layer.bias)
        self.low[0].weight *= 4  # the picture varies by about a quarter of unit size
        for layer in self.low:
            layer.weight[-self.config.image_channels :] = 0
        if self.config.high_blocks:
            nn.init.normal_(self.head.weight, std=1e-3)
            nn.init.zeros_(self.head.bias)

    def forward(self, picture: Tensor, pad: bool = False) -> tuple[Tensor, Tensor]:
        image, features = self.restore(picture, pad)
        return image, self.coefficients(features, pad)

    def restore(
        self, picture: Tensor, pad: bool = False, separate: bool = False, blocks: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The low-level stage: the corrected image and the features of its last block.

        ``separate`` (training): the features, which only the high-level stage uses, pass no gradient back to
        earlier blocks. ``blocks`` (training, with ``pad``): how many blocks to run, which is the whole
        network while the residuals of the others are zero.
        """
        config = self.config
        image = picture - MIDDLE
        if config.fold > 1:
            image = F.pixel_unshuffle(image, config.fold)
        image, features = self._run_blocks(image, pad, separate, self.low[:blocks])
        if config.fold > 1:
            image = F.pixel_shuffle(image, config.fold)
        if not pad and config.lead:
            image = image[:, :, config.lead :, config.lead :]
        return image + MIDDLE, features

    def _run_blocks(
        self, image: Tensor, pad: bool, separate: bool, blocks: nn.ModuleList
    ) -> tuple[Tensor, Tensor]:
        """Each block yields features (ReLU) and a residual (tanh / 10) for the running image."""
        dilations = self.config.dilations
        stem = F.pad(image, (dilations[0],) * 4, mode="replicate") if pad else image
        for layer, dilation, following in zip(blocks, dilations, (*dilations[1:], 0), strict=False):
            output = layer(stem)
            if not pad:
                image = image[:, :, dilation:-dilation, dilation:-dilation]
            if layer is blocks[-1]:
                break
            if pad:
                stem, image = PaddedJoin.apply(output, image, following, self.training_join)
            else:
                stem, image = join(output, image)
        features, residual = output.tensor_split([output.shape[1] - image.shape[1]], 1)
        if separate:
            count = features.shape[1]
            features = F.conv2d(stem.detach(), layer.weight[:count], layer.bias[:count], dilation=dilation)
        return image + RESIDUAL_LIMIT * torch.tanh(residual), F.relu(features)

    def coefficients(self, features: Tensor, pad: bool) -> Tensor:
        """The high-level stage: coefficients per cell.

        The paper's global mean and fully connected layer commute: here the layer is applied to each cell, and
        the caller takes the mean.
        """
        if not self.config.high_blocks:
            return features.new_zeros(features.shape[0], TRANSFORM_SIZE, 0, 0)
        for layer in self.high:
            if pad:
                features = F.pad(features, (1, 0, 1, 0), mode="replicate")
            features = F.max_pool2d(F.relu(layer(features)), 2)
        return self.head(features) + self.w0.reshape(1, TRANSFORM_SIZE, 1, 1)


def _identity_transform() -> Tensor:
    """The W that changes nothing, as 30 numbers."""
    identity = torch.zeros(3, 10)
    identity[:, :3] = torch.eye(3)
    return identity.flatten()
