"""Turn photographs into raw frames, and these into the network's input, batched on the training device.

The un-rendering follows Brooks et al., "Unprocessing Images for Learned Raw Denoising" (CVPR 2019): inverse
tone curve, of which a share is undone, and sRGB curve, camera matrix, white balance, exposure, shot and read
noise. The product's own code turns the frame into the network's input.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepisp_cli.colour import LUMINANCE, apply_transform, decode, encode, srgb_encode, srgb_from_camera
from deepisp_cli.demosaic import demosaic, normalise, sample_mosaic
from deepisp_cli.look import add_contrast
from deepisp_cli.metering import expose, metered_gains
from deepisp_cli.training import cameras
from deepisp_cli.training.ranges import check_order, check_range
from deepisp_cli.training.sensor import READ_OFFSET, READ_SLOPE
from deepisp_cli.xtrans import SIDE, X_TRANS, weighted_means

PATTERN = "RGGB"  # the product presents every mosaic with its red sample first
SHADE, TUNGSTEN = (2.6, 1.3), (1.3, 2.7)  # the gains of red and blue at both ends of the light's colours
NEAR_WHITE = 0.8  # linear light of the least channel from which an area may have been brighter than white
SCENE_EXPOSURE = 0.5  # EV by which a camera's picture of a scene may be brighter or darker


@dataclass(frozen=True)
class SynthesisOptions:
    """Ranges that a raw frame is drawn from; uniform unless said otherwise."""

    exposure: tuple[float, float] = (-3.0, 0.0)  # EV against the photograph's own exposure
    usual_exposure: tuple[float, float] = (-2.0, 0.5)  # mean and spread of low light: the paper's quarter
    usual_share: float = 0.0  # share of frames drawn from it (normal, within `exposure`); others are uniform
    shot_noise: tuple[float, float] = (1e-4, 2e-2)  # variance per unit of signal, log-uniform
    read_slope: float = READ_SLOPE  # log(read) = slope * log(shot) + offset, +- spread
    read_offset: float = READ_OFFSET
    read_spread: float = 0.26
    inverse_tone: tuple[float, float] = (0.0, 0.5)  # share of a smoothstep in the tone curve that is undone
    highlight_share: float = 0.5  # share of frames whose near-white areas are made brighter than white
    highlight_gain: float = 8.0  # by up to this factor, log-uniform
    saturated_share: float = 0.0  # share of photographs whose colours are made more saturated
    saturation: float = 3.0  # by up to this factor, log-uniform
    bits: tuple[int, int] = (12, 14)  # of the sensor's converter
    black_share: tuple[float, float] = (0.0, 0.13)  # black level as a share of full scale
    black_error: float = 2e-4  # spread of the error in the file's black level, of full scale
    row_noise: float = 0.1  # spread of row offsets relative to the read noise, uniform up to this
    x_trans_share: float = 0.0  # share of frames with an X-Trans mosaic, in any phase; others: Bayer's
    hot_share: float = 2e-5  # share of hot samples: brighter by up to full scale, mostly by little
    dead_share: float = 0.0  # share of dead samples: black but for the read noise
    white_balance_spread: float = 0.1  # log-normal spread around the daylight-to-tungsten line

    def __post_init__(self) -> None:
        check_order(self, "exposure", "shot_noise", "inverse_tone", "bits", "black_share")
        shares = "usual_share", "inverse_tone", "highlight_share", "saturated_share", "x_trans_share"
        check_range(self, *shares, "hot_share", "dead_share", least=0, most=1)
        check_range(self, "shot_noise", "highlight_gain", "saturation", above=0)
        check_range(self, "read_spread", "black_error", "row_noise", "white_balance_spread", least=0)
        check_range(self, "bits", least=1, most=16)
        check_range(self, "black_share", least=0, most=0.9)
        if self.usual_exposure[1] < 0:
            raise ValueError(f"usual_exposure is a mean and a spread of 0 or more, got {self.usual_exposure}")


@dataclass(frozen=True)
class Pairs:
    """A batch of training pairs, all float32 on one device."""

    picture: Tensor  # (N, 3, H, W) the network's input: encoded camera RGB
    clean: Tensor | None  # (N, 3, H, W) the same without noise and mosaic; None: not known (real raws)
    target: Tensor  # (N, 3, H, W) the photograph, sRGB in [0, 1]
    matrix: Tensor  # (N, 3, 3) camera to linear sRGB
    exposure: Tensor  # (N,) EV


def srgb_decode(encoded: Tensor) -> Tensor:
    """Inverse of `srgb_encode` from 0 up, a line below; finite gradients everywhere."""
    curve = ((encoded.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(encoded <= 0.04045, encoded / 12.92, curve)


def to_linear(image: Tensor, matrix: Tensor) -> Tensor:
    """Encoded camera RGB (N, 3, H, W) to linear sRGB by the camera's matrix (N, 3, 3)."""
    return torch.einsum("nij,njhw->nihw", matrix, decode(image))


def to_srgb(image: Tensor, matrix: Tensor, gain: Tensor | None = None) -> Tensor:
    """`to_linear` on sRGB's curve, before the transform; exposed by ``gain`` (N,) for a metered network."""
    linear = to_linear(image, matrix)
    return srgb_encode(linear if gain is None else expose(linear, gain.reshape(-1, 1, 1, 1)))


@torch.no_grad()
def frame_gains(image: Tensor, matrix: Tensor) -> Tensor:
    """The light meter's gains (N,) for frames in encoded camera RGB (N, 3, H, W)."""
    return metered_gains(to_linear(image, matrix).amax(1).flatten(1))


def to_picture(image: Tensor, coefficients: Tensor, matrix: Tensor, gain: Tensor | None = None) -> Tensor:
    """The finished picture: `to_srgb`, then the mean of the cells' coefficients (N, 30, h, w) as T(I, W)."""
    srgb = to_srgb(image, matrix, gain)
    transform = coefficients.mean((2, 3)).reshape(-1, 3, 10, 1, 1).permute(1, 2, 0, 3, 4)
    return torch.stack(apply_transform(srgb[:, 0], srgb[:, 1], srgb[:, 2], transform), 1)


class Synthesis:
    """Draws cameras, exposures and noise from a generator and makes `Pairs`."""

    def __init__(self, options: SynthesisOptions, generator: torch.Generator) -> None:
        self.options = options
        self.generator = generator
        self.device = generator.device
        xyz_to_camera = cameras.matrices(cameras.TRAINING)
        to_srgb_matrices = np.stack([srgb_from_camera(matrix) for matrix in xyz_to_camera])
        self.matrices = torch.from_numpy(to_srgb_matrices).to(self.device)
        layout = ["RGB".index(colour) for colour in X_TRANS]
        self.x_trans = torch.tensor(layout, device=self.device)  # here, so that no step waits for the copy
        self.luminance = torch.tensor(LUMINANCE.tolist(), device=self.device)

    def _uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.generator, device=self.device)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    @torch.no_grad()
    def __call__(self, photographs: Tensor) -> Pairs:
        """``photographs`` (N, 3, H, W) uint8 sRGB, H and W even."""
        target = photographs.to(self.device, torch.float32) / 255
        linear = srgb_decode(target)
        if self.options.saturated_share:
            linear = self._saturate(linear)
            target = srgb_encode(linear.clamp(0, 1))
        return self._capture(self.unrender(linear), target)

    def unrender(self, linear: Tensor) -> Tensor:
        """Photographs in linear sRGB (N, 3, H, W) to scenes, in which 1 is the photograph's white."""
        return self._extend_highlights(self._invert_tone(linear))

    def _saturate(self, linear: Tensor) -> Tensor:
        """Make colours more saturated in some photographs, even beyond sRGB: petals lie there, and no
        photograph in sRGB has them."""
        count = len(linear)
        chosen = self._uniform(0, 1, count, 1, 1, 1) < self.options.saturated_share
        gain = self.options.saturation ** self._uniform(0, 1, count, 1, 1, 1)
        luminance = torch.einsum("c,nchw->nhw", self.luminance, linear)[:, None]
        return torch.where(chosen, luminance + gain * (linear - luminance), linear)

    @torch.no_grad()
    def of_scenes(self, light: Tensor) -> Pairs:
        """Scenes (N, 3, H, W) float32 in linear sRGB, exposed by `load_scene`, and the photograph a camera
        would make of them: give or take half a stop, clipped, 8 bits."""
        light = light.to(self.device)
        scene = light * torch.exp2(self._uniform(-SCENE_EXPOSURE, SCENE_EXPOSURE, len(light), 1, 1, 1))
        target = torch.round(255 * srgb_encode(self._tone(scene.clamp(max=1)))) / 255
        return self._capture(scene, target)

    def _capture(self, scene: Tensor, target: Tensor) -> Pairs:
        """A frame of the scene (N, 3, H, W), linear sRGB where 1 is the photograph's white."""
        count = len(scene)
        matrix = self._draw_matrices(count)
        gains = self._draw_gains(count)
        exposure = self._draw_exposures(count)
        linear = scene * torch.exp2(exposure).reshape(-1, 1, 1, 1)
        camera = torch.einsum("nij,njhw->nihw", torch.linalg.inv_ex(matrix).inverse, linear).clamp(min=0)
        x_trans = self._draw_x_trans(count, *scene.shape[2:]) if self.options.x_trans_share else None
        mosaic = self._expose(camera / gains[:, :, None, None], gains, x_trans)
        rgb = demosaic(mosaic, PATTERN).permute(0, 3, 1, 2)
        if x_trans is not None:
            rgb = torch.where(x_trans.any(1, keepdim=True), interpolate_x_trans(mosaic, x_trans), rgb)
        picture = encode(rgb.contiguous())
        return Pairs(picture, encode(camera.clamp(max=1.0)), target, matrix, exposure)

    def _draw_exposures(self, count: int) -> Tensor:
        mean, spread = self.options.usual_exposure
        usual = (mean + spread * self._normal(count)).clamp(*self.options.exposure)
        chosen = self._uniform(0, 1, count) < self.options.usual_share
        return torch.where(chosen, usual, self._uniform(*self.options.exposure, count))

    def _draw_matrices(self, count: int) -> Tensor:
        """A random blend of two cameras each, so that the network sees a continuum."""
        pick = torch.randint(len(self.matrices), (2, count), generator=self.generator, device=self.device)
        share = self._uniform(0, 1, count, 1, 1)
        return share * self.matrices[pick[0]] + (1 - share) * self.matrices[pick[1]]

    def _draw_gains(self, count: int) -> Tensor:
        """White-balance gains (N, 3) from shade (red scarce) to tungsten (blue scarce), the smallest 1."""
        warmth = self._uniform(0, 1, count)
        red, blue = (cold * (warm / cold) ** warmth for cold, warm in zip(SHADE, TUNGSTEN, strict=True))
        spread = torch.exp(self.options.white_balance_spread * self._normal(count, 2))
        gains = torch.stack([red * spread[:, 0], torch.ones_like(red), blue * spread[:, 1]], 1)
        return gains / gains.min(1, keepdim=True).values

    def _draw_x_trans(self, count: int, height: int, width: int) -> Tensor:
        """Where each colour is measured, (N, 3, H, W) bool; nowhere in frames with a Bayer mosaic."""
        start = torch.randint(SIDE, (2, count, 1), generator=self.generator, device=self.device)
        rows, columns = (
            (torch.arange(length, device=self.device) + first) % SIDE
            for length, first in zip((height, width), start, strict=True)
        )
        colours = self.x_trans[SIDE * rows[:, :, None] + columns[:, None, :]]
        chosen = self._uniform(0, 1, count, 1, 1) < self.options.x_trans_share
        return torch.stack([chosen & (colours == colour) for colour in range(3)], 1)

    def _invert_tone(self, linear: Tensor) -> Tensor:
        """Undo an S-curve such as cameras put on their pictures (Brooks et al.: a smoothstep of sRGB values;
        here a share of one): the inverse of `look.add_contrast`, the middle root of a cubic."""
        share = self._uniform(*self.options.inverse_tone, len(linear), 1, 1, 1)
        some = share.clamp(min=1e-4)  # of none the formula would be 0 times infinity
        place = (1 - 2 * srgb_encode(linear)) * 3 * (3 * some / (2 + some) ** 3).sqrt()
        angle = torch.asin(place.clamp(-1, 1))  # rounding may lead beyond
        flat = 0.5 - ((2 + some) / (3 * some)).sqrt() * torch.sin(angle / 3)
        return torch.where((share > 0) & (linear > 0) & (linear < 1), srgb_decode(flat), linear)

    def _tone(self, linear: Tensor) -> Tensor:
        """The tone curve that `_invert_tone` undoes, values in [0, 1]."""
        share = self._uniform(*self.options.inverse_tone, len(linear), 1, 1, 1)
        return torch.where(share > 0, srgb_decode(add_contrast(srgb_encode(linear), share)), linear)

    def _extend_highlights(self, linear: Tensor) -> Tensor:
        """Make what is almost white brighter than white in some frames.

        A photograph clips its highlights, a raw at -3 EV does not.
        """
        count = len(linear)
        chosen = self._uniform(0, 1, count, 1, 1, 1) < self.options.highlight_share
        gain = self.options.highlight_gain ** self._uniform(0, 1, count, 1, 1, 1)
        nearness = ((linear.amin(1, keepdim=True) - NEAR_WHITE) / (1 - NEAR_WHITE)).clamp(0, 1) ** 2
        return torch.where(chosen, linear * (1 + (gain - 1) * nearness), linear)

    def _expose(self, scene: Tensor, gains: Tensor, x_trans: Tensor | None = None) -> Tensor:
        """Camera RGB of the scene (N, 3, H, W), white level 1, to the white-balanced mosaic (N, H, W)."""
        count, _, height, width = scene.shape
        scene = sample_planes(scene, x_trans)
        options = self.options
        if options.dead_share:  # or the random numbers of older configurations would be others
            scene = scene * (self._uniform(0, 1, count, height, width) >= options.dead_share)
        shot = torch.exp(self._uniform(*np.log(options.shot_noise), count))
        read = options.read_slope * torch.log(shot) + options.read_offset
        read = torch.exp(read + options.read_spread * self._normal(count))
        variance = shot[:, None, None] * scene.clamp(0, 1) + read[:, None, None]
        noisy = scene + variance.sqrt() * self._normal(count, height, width)
        banding = self._uniform(0, options.row_noise, count) * read.sqrt()
        noisy += banding[:, None, None] * self._normal(count, height, 1)
        hot = self._uniform(0, 1, count, height, width) < options.hot_share
        noisy += hot * self._uniform(0, 1, count, height, width) ** 3

        low, high = options.bits
        bits = torch.randint(low, high + 1, (count,), generator=self.generator, device=self.device)
        full = (2.0**bits - 1).reshape(-1, 1, 1)
        black = torch.round(self._uniform(*options.black_share, count, 1, 1) * full)
        true_black = black + options.black_error * full * self._normal(count, 1, 1)
        counts = torch.round(noisy * (full - black) + true_black).clamp(min=0)
        counts = torch.minimum(counts, full)
        gain = sample_planes(gains[:, :, None, None].expand(-1, -1, height, width), x_trans)
        return normalise(counts, black, gain / (full - black))


def sample_planes(planes: Tensor, x_trans: Tensor | None = None) -> Tensor:
    """Sample (N, 3, H, W) planes in `PATTERN`, or where ``x_trans`` (N, 3, H, W) bool says: (N, H, W)."""
    mosaic = sample_mosaic(planes.permute(0, 2, 3, 1), PATTERN)
    return mosaic if x_trans is None else torch.where(x_trans.any(1), (planes * x_trans).sum(1), mosaic)


def interpolate_x_trans(mosaic: Tensor, masks: Tensor) -> Tensor:
    """`xtrans.interpolate` for mosaics (N, H, W), measured where ``masks`` (N, 3, H, W) bool say; NaN in
    frames without any."""
    return torch.stack(list(weighted_means(mosaic, masks.transpose(0, 1))), 1)
