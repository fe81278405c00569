"""Kernels for NVIDIA GPUs, in Triton: a low-level block and all that follows it, in one pass over memory.

Between two convolutions lie bias, ReLU, tanh, padding and the running image. One operation at a time, they
take longer than the convolutions. Tensors are contiguous with channels last; a stem's channels are the
features, then the image. Imported only where there is Triton, which torch for CUDA on Linux brings along.
With ``TRITON_INTERPRET=1`` in the environment all of it runs on the CPU, slowly, for tests.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from deepisp_cli.joining import RESIDUAL_LIMIT

LEAST_INPUTS = 16  # channels that a matrix product takes
LAST_OUTPUTS = 16  # channels of a block, the image's among them, that get more than a ReLU
# of one program of `convolve`; the stages are taps in flight. The fastest of those tried on an H200, 64 wide
PIXELS, WARPS, STAGES = 128, 4, 3
JOIN_PIXELS = 32  # of one program of the training kernels


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    return 1 - 2 / (tl.exp(2 * x) + 1)


@triton.jit(do_not_specialize=["width_in", "width", "size", "dilation"])
def _convolve(  # type: ignore[no-untyped-def]
    stem, filters, bias, image, next_stem, next_image, width_in, width, size, dilation, limit: tl.constexpr,
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, IMAGE: tl.constexpr, HALVINGS: tl.constexpr,
    PIXELS: tl.constexpr,
):  # fmt: skip
    """`PIXELS` of one block's ``size`` output pixels: a matrix product for each tap of the filter."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = (pixel < size)[:, None]
    corner = (pixel // width * width_in + pixel % width).to(tl.int64)  # upper left one of the filter
    inputs = tl.arange(0, INPUTS)
    outputs = tl.arange(0, OUTPUTS)
    values = stem + corner[:, None] * INPUTS + inputs[None, :]
    weights = filters + inputs[:, None] * OUTPUTS + outputs[None, :]
    total = tl.zeros((PIXELS, OUTPUTS), tl.float32)
    for tap in range(9):
        offset = (tap // 3 * width_in + tap % 3) * dilation * INPUTS
        part = tl.load(values + offset, mask=inside, other=0.0)
        total = tl.dot(part, tl.load(weights + tap * INPUTS * OUTPUTS), total)
    total += tl.load(bias + outputs)[None, :]

    position = pixel.to(tl.int64)[:, None]
    for _ in tl.static_range(HALVINGS):  # tanh is expensive: halves that are features alone do without
        features, total = _halve(total)
        first = OUTPUTS - 2 * features.shape[1]
        places = next_stem + position * OUTPUTS + first + tl.arange(0, features.shape[1])[None, :]
        tl.store(places, tl.maximum(features, 0.0).to(next_stem.dtype.element_ty), inside)

    last: tl.constexpr = total.shape[1]
    outputs = tl.arange(0, last)[None, :]
    channel = outputs - (last - IMAGE)  # of the image; negative for features
    ours = inside & (channel >= 0)
    centre = corner + (width_in + 1) * dilation
    old = tl.load(image + centre[:, None] * IMAGE + channel, mask=ours, other=0.0)
    new = old + limit * _tanh(total)
    joined = tl.where(channel >= 0, new, tl.maximum(total, 0.0))
    places = next_stem + position * OUTPUTS + OUTPUTS - last + outputs
    tl.store(places, joined.to(next_stem.dtype.element_ty), inside)
    tl.store(next_image + position * IMAGE + channel, new, ours)


@triton.jit
def _halve(values):  # type: ignore[no-untyped-def]
    """The first and the second half of the columns."""
    half: tl.constexpr = values.shape[1] // 2
    return tl.split(tl.permute(tl.reshape(values, (values.shape[0], 2, half)), (0, 2, 1)))


def arrange(weight: Tensor) -> Tensor:
    """The filters (outputs, inputs, 3, 3) of a block as `convolve` takes them: (9, inputs, outputs), float16.
    Inputs below `LEAST_INPUTS` are filled up with zeros."""
    taps = weight.detach().permute(2, 3, 1, 0).flatten(0, 1)
    missing = max(0, LEAST_INPUTS - taps.shape[1])
    return torch.nn.functional.pad(taps, (0, 0, 0, missing)).to(torch.float16).contiguous()


def convolve(
    stem: Tensor, filters: Tensor, bias: Tensor, image: Tensor, dilation: int
) -> tuple[Tensor, Tensor]:
    """One low-level block without padding: convolution and `joining.join`.

    Parameters
    ----------
    stem : (H, W, inputs) float16.
    filters : (9, inputs, outputs) float16, from `arrange`; outputs a power of two, at least `LAST_OUTPUTS`.
    bias : (outputs,) float32.
    image : (H, W, I) float32, the running image; I at most `LAST_OUTPUTS`.
    dilation : pixels between the taps of a filter.

    Returns
    -------
    stem : (H - 2 dilation, W - 2 dilation, outputs) float16, the next block's.
    image : (H - 2 dilation, W - 2 dilation, I) float32, corrected.
    """
    height, width = stem.shape[0] - 2 * dilation, stem.shape[1] - 2 * dilation
    inputs, outputs = filters.shape[1:]
    next_stem = stem.new_empty(height, width, outputs)
    next_image = image.new_empty(height, width, image.shape[2])
    halvings = (outputs // LAST_OUTPUTS).bit_length() - 1
    with torch.cuda.device_of(stem):  # where Triton starts its kernels
        _convolve[(triton.cdiv(height * width, PIXELS),)](
            stem, filters, bias, image, next_stem, next_image, stem.shape[1], width, height * width, dilation,
            RESIDUAL_LIMIT, inputs, outputs, image.shape[2], halvings, PIXELS,
            num_warps=WARPS if outputs <= 64 else 2 * WARPS,  # as fits the registers
            num_stages=STAGES if outputs <= 64 else 2,  # and the shared memory
        )  # fmt: skip
    return next_stem, next_image


@triton.jit(do_not_specialize=["height", "width", "size", "padding"])
def _join(  # type: ignore[no-untyped-def]
    output, image, stem, next_image, residual, height, width, size, padding, limit: tl.constexpr,
    CHANNELS: tl.constexpr, IMAGE: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """`PIXELS` of the padded stem's ``size``."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = (pixel < size)[:, None]
    wide, high = width + 2 * padding, height + 2 * padding
    line = pixel // wide
    row = tl.minimum(tl.maximum(line % high - padding, 0), height - 1)
    column = tl.minimum(tl.maximum(pixel % wide - padding, 0), width - 1)
    source = ((line // high * height + row) * width + column).to(tl.int64)[:, None]
    channels = tl.arange(0, CHANNELS)[None, :]
    channel = channels - (CHANNELS - IMAGE)
    values = tl.load(output + source * CHANNELS + channels, mask=inside, other=0.0).to(tl.float32)
    ours = inside & (channel >= 0)
    bent = _tanh(values)
    new = tl.load(image + source * IMAGE + channel, mask=ours, other=0.0) + limit * bent
    joined = tl.where(channel >= 0, new, tl.maximum(values, 0.0))
    position = pixel.to(tl.int64)[:, None] * CHANNELS + channels
    tl.store(stem + position, joined.to(stem.dtype.element_ty), inside)
    tl.store(next_image + source * IMAGE + channel, new, ours)  # copies store the same once more
    tl.store(residual + source * IMAGE + channel, bent.to(residual.dtype.element_ty), ours)


def padded_join(output: Tensor, image: Tensor, padding: int) -> tuple[Tensor, Tensor, Tensor]:
    """`joining.padded_join`, C a power of two."""
    (batch, channels, height, width), count = output.shape, image.shape[1]
    output, image = _last(output), _last(image)
    stem = _empty(output, batch, channels, height + 2 * padding, width + 2 * padding)
    next_image = _empty(image, *image.shape)
    residual = _empty(output, *image.shape)
    size = stem.numel() // channels
    with torch.cuda.device_of(output):  # where Triton starts its kernels
        _join[(triton.cdiv(size, JOIN_PIXELS),)](
            output, image, stem, next_image, residual, height, width, size, padding, RESIDUAL_LIMIT,
            channels, count, JOIN_PIXELS,
        )  # fmt: skip
    return stem, next_image, residual


@triton.jit(do_not_specialize=["height", "width", "size"])
def _join_backward(  # type: ignore[no-untyped-def]
    stem, residual, stem_gradient, image_gradient, result, next_gradient, height, width, size,
    padding: tl.constexpr, limit: tl.constexpr, CHANNELS: tl.constexpr, IMAGE: tl.constexpr,
    PIXELS: tl.constexpr,
):  # fmt: skip
    """`PIXELS` of the ``size`` pixels before padding. A pixel at the border gathers the gradients of its
    copies."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = pixel < size
    column, line = pixel % width, pixel // width
    row = line % height
    wide = width + 2 * padding
    centre = (line // height * (height + 2 * padding) + row + padding) * wide + column + padding
    centre = centre.to(tl.int64)[:, None]
    channels = tl.arange(0, CHANNELS)[None, :]
    channel = channels - (CHANNELS - IMAGE)
    source = stem_gradient + centre * CHANNELS + channels
    gradient = tl.load(source, mask=inside[:, None], other=0.0).to(tl.float32)
    # the sides on which each pixel has copies: -1, 1, or 0 for none
    down = tl.where(row == height - 1, 1, tl.where(row == 0, -1, 0))
    right = tl.where(column == width - 1, 1, tl.where(column == 0, -1, 0))
    upright = inside & (down != 0)
    if tl.max(upright.to(tl.int32), 0) > 0:
        for k in range(1, padding + 1):
            offset = (down * k * wide).to(tl.int64)[:, None] * CHANNELS
            gradient += tl.load(source + offset, mask=upright[:, None], other=0.0).to(tl.float32)
    sideways = inside & (right != 0)
    if tl.max(sideways.to(tl.int32), 0) > 0:
        for k in range(1, padding + 1):
            offset = (right * k).to(tl.int64)[:, None] * CHANNELS
            gradient += tl.load(source + offset, mask=sideways[:, None], other=0.0).to(tl.float32)
    both = upright & sideways
    if tl.max(both.to(tl.int32), 0) > 0:
        for k in range(padding * padding):
            offset = down * (k // padding + 1) * wide + right * (k % padding + 1)
            offset = offset.to(tl.int64)[:, None] * CHANNELS
            gradient += tl.load(source + offset, mask=both[:, None], other=0.0).to(tl.float32)

    ours = inside[:, None] & (channel >= 0)
    place = pixel.to(tl.int64)[:, None]
    total = tl.load(image_gradient + place * IMAGE + channel, mask=ours, other=0.0) + gradient
    bent = tl.load(residual + place * IMAGE + channel, mask=ours, other=0.0).to(tl.float32)
    on = tl.load(stem + centre * CHANNELS + channels, mask=inside[:, None], other=0.0) > 0
    both_parts = tl.where(channel >= 0, total * limit * (1 - bent * bent), tl.where(on, gradient, 0.0))
    tl.store(result + place * CHANNELS + channels, both_parts.to(result.dtype.element_ty), inside[:, None])
    tl.store(next_gradient + place * IMAGE + channel, total, ours)


def padded_join_backward(
    stem: Tensor, residual: Tensor, stem_gradient: Tensor, image_gradient: Tensor, padding: int
) -> tuple[Tensor, Tensor]:
    """`joining.padded_join_backward`."""
    batch, channels, high, wide = stem.shape
    height, width = high - 2 * padding, wide - 2 * padding
    residual, stem_gradient = _last(residual), _last(stem_gradient)
    image_gradient = _last(image_gradient)
    result = _empty(stem, batch, channels, height, width)
    next_gradient = _empty(image_gradient, *image_gradient.shape)
    size = batch * height * width
    with torch.cuda.device_of(stem):  # where Triton starts its kernels
        _join_backward[(triton.cdiv(size, JOIN_PIXELS),)](
            stem, residual, stem_gradient, image_gradient, result, next_gradient, height, width, size,
            padding, RESIDUAL_LIMIT, channels, residual.shape[1], JOIN_PIXELS,
        )  # fmt: skip
    return result, next_gradient


def _last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _empty(like: Tensor, *size: int) -> Tensor:
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
