"""Muon, the optimiser of the filters."""

import pytest

torch = pytest.importorskip("torch")


from deepisp_cli.training.optimiser import Muon, orthogonalise


def test_muons_step_moves_all_directions_alike():
    torch.manual_seed(0)
    common = torch.ones(8, 1) @ torch.randn(1, 36)  # what would dominate for Adam
    gradient = (20 * common + torch.randn(8, 36)).reshape(8, 4, 3, 3)
    for steps in orthogonalise(torch.stack([gradient, 100 * gradient.flip(0)])):  # each on its own
        values = torch.linalg.svdvals(steps.flatten(1))
        assert values.max() < 1.3
        assert values.min() > 0.3
    weight = torch.zeros(8, 4, 3, 3, requires_grad=True)
    weight.grad = gradient
    Muon([weight], lr=0.01).step()
    assert weight.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.3)
    assert (weight.detach() * gradient).sum() < 0  # downhill


def test_muons_steps_do_not_shrink_with_the_gradients():
    gradient = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    steps = orthogonalise(torch.stack([gradient, 1e-3 * gradient]))
    torch.testing.assert_close(steps[1], steps[0], atol=1e-3, rtol=0)


def test_muon_remembers_twenty_steps():
    """Its usual momentum, Jordan's."""
    assert Muon([torch.zeros(4, 4)], lr=0.01).defaults["momentum"] == 0.95


def test_muons_second_step_remembers_the_first():
    """With Nesterov momentum; the step size does not depend on the gradient's."""
    first, second = torch.randn(2, 8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    weight = torch.zeros(8, 4, 3, 3, requires_grad=True)
    optimiser = Muon([weight], lr=0.01, momentum=0.9)
    weight.grad = first
    optimiser.step()
    before = weight.detach().clone()
    weight.grad = second
    optimiser.step()
    momentum = 0.9 * (0.1 * first) + 0.1 * second
    expected = orthogonalise((0.9 * momentum + 0.1 * second)[None])[0]
    step = 0.01 * 0.2 * 6 * expected
    torch.testing.assert_close(before - weight.detach(), step, atol=1e-5, rtol=1e-3)
