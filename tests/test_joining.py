"""The operations between two blocks: ReLU, tanh, concatenation and padding, with their gradients."""

import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional as F

from deepisp_cli.joining import PLAIN, RESIDUAL_LIMIT, PaddedJoin, join

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def plain(output, image, padding):
    count = output.shape[1] - image.shape[1]
    image = image + RESIDUAL_LIMIT * torch.tanh(output[:, count:])
    stem = torch.cat([F.relu(output[:, :count]), image], 1)
    return F.pad(stem, (padding,) * 4, mode="replicate"), image


def draw(height, width, layout, dtype=torch.float64):
    torch.manual_seed(0)
    output = torch.randn(2, 7, height, width, dtype=dtype).contiguous(memory_format=layout)
    return output.requires_grad_(), torch.randn(2, 3, height, width, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("height, width, padding", [(5, 6, 1), (4, 3, 2), (3, 7, 5), (1, 2, 3)])
def test_one_pass_is_the_plain_steps(height, width, padding, layout):
    output, image = draw(height, width, layout)
    expected = plain(output, image, padding)
    found = PaddedJoin.apply(output, image, padding, PLAIN)
    towards = [torch.randn_like(value) for value in expected]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    gradients = torch.autograd.grad(found, [output, image], towards)
    for a, b in zip(gradients, torch.autograd.grad(expected, [output, image], towards), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_is_kept(layout):
    """Convolutions on a GPU want channels last; each layer that loses that order costs two copies."""
    output, image = draw(5, 6, layout, torch.bfloat16)
    stem, _ = PaddedJoin.apply(output, image.float(), 2, PLAIN)
    gradient, *_ = torch.autograd.grad(stem.float().square().sum(), [output])
    for tensor in (stem, gradient):
        assert tensor.dtype == torch.bfloat16
        assert tensor.is_contiguous(memory_format=layout)


def test_in_place_takes_no_memory():
    output, image = (tensor.detach() for tensor in draw(5, 6, torch.channels_last))
    expected, corrected = plain(output.clone(), image, 0)
    stem, found = join(output, image)
    assert stem.data_ptr() == output.data_ptr()
    torch.testing.assert_close(stem, expected)
    torch.testing.assert_close(found, corrected)
