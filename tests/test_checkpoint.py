"""Checkpoints: what continues a run or begins another, and what damaged ones tell."""

import os
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")


from runs import CPU, LOW_ONLY, TINY, config, new_trainer

from deepisp_cli.errors import ModelError, OutputError
from deepisp_cli.training.config import Stage
from deepisp_cli.training.export import export_checkpoint
from deepisp_cli.training.train import train


def test_a_killed_save_leaves_the_old_checkpoint(folder, tmp_path, monkeypatch):
    trainer = new_trainer(config(folder))
    path = tmp_path / "checkpoint.pt"
    trainer.save(path)
    before = path.read_bytes()

    for failure, expected in ((KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "full"), OutputError)):

        def die(_, failure=failure):  # what was written is there, but not all of it
            raise failure

        monkeypatch.setattr(os, "fsync", die)
        trainer.train_step()
        with pytest.raises(expected) as caught:
            trainer.save(path)
        assert path.read_bytes() == before
        assert list(tmp_path.glob("*.p*")) == [path]
    assert "checkpoint.pt: cannot be written (full); free some space" in str(caught.value)


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(folder, tmp_path):
    trainer = new_trainer(config(folder))
    path = tmp_path / "checkpoint.pt"
    trainer.save(path)
    before = path.read_bytes()
    diverged = replace(trainer.config, stages=(Stage(1e37, 4, 32, steps=20),))
    trainer = new_trainer(diverged)
    for _ in range(20):
        trainer.train_step()
    with pytest.raises(ModelError, match=r"checkpoint\.pt: the run has diverged"):
        trainer.save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", ["stages", "parts", "device"])
def test_a_run_of_other_stages_or_another_device_is_not_resumed(folder, tmp_path, change):
    two = config(folder, stages=(Stage(1e-3, 2, 32, 2), Stage(1e-3, 2, 32, 4)))
    path = train(two, tmp_path / "run", device=CPU, steps=3)
    other = two
    if change == "stages":
        other = replace(two, stages=two.stages[:1])
    elif change == "parts":
        other = replace(two, stages=tuple(replace(stage, parts="high") for stage in two.stages))
    else:  # a GPU's generator has a state of a different size
        state = torch.load(path, weights_only=True)
        torch.save({**state, "generator": torch.zeros(16, dtype=torch.uint8)}, path)
    with pytest.raises(ModelError, match=r"--initial .*checkpoint\.pt"):
        train(other, tmp_path / "run", device=CPU, resume=True)


def test_a_run_can_begin_with_the_weights_of_a_model_folder_or_a_checkpoint(folder, tmp_path):
    checkpoint = train(config(folder), tmp_path / "run", device=CPU, steps=2)
    expected = torch.load(checkpoint, weights_only=True)["average"]
    for initial in (checkpoint, export_checkpoint([checkpoint], tmp_path / "model").parent):
        trainer = new_trainer(config(folder))
        trainer.start_from(initial)
        for network in (trainer.network, trainer.average):
            for name, value in network.state_dict().items():
                assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("average", {}),
        ("average", {"low.0.weight": 3}),
        ("average", 3),
        ("config", {}),
        ("config", None),
        ("position", [0, 1, 2.0]),
        ("position", [0, 1, 2.0, "x"]),
        ("history", 3),
        ("network", {}),
        ("network", None),
        ("rng", {}),
        ("generator", 3),
        ("optimisers", [{}, {}]),
        ("optimisers", 3),
    ],
)
def test_damaged_checkpoints_are_told(folder, tmp_path, part, value):
    """What only a resumed run needs may be missing elsewhere."""
    checkpoint = train(config(folder), tmp_path / "run", device=CPU, steps=1)
    state = torch.load(checkpoint, weights_only=True)
    torch.save(state | {part: value}, checkpoint)
    told = (
        r"checkpoint\.pt: (is not a checkpoint|holds a network that|its weights are not|does not go on with)"
    )
    with pytest.raises(ModelError, match=told):
        train(config(folder), tmp_path / "run", device=CPU, resume=True)
    if part in ("average", "config", "position", "history"):
        with pytest.raises(ModelError, match=told):
            export_checkpoint([checkpoint], tmp_path / "model")
        with pytest.raises(ModelError, match=told):
            new_trainer(config(folder)).start_from(checkpoint)
    else:
        export_checkpoint([checkpoint], tmp_path / "model")
        new_trainer(config(folder)).start_from(checkpoint)


@pytest.mark.parametrize("other", [LOW_ONLY, replace(TINY, metered=True)])
def test_a_run_can_begin_with_the_stages_of_another_transform(folder, tmp_path, other):
    stages = (Stage(2e-3, 4, 32, 3, parts="joint" if other.high_blocks else "low"),)
    checkpoint = train(config(folder, network=other, stages=stages), tmp_path / "run", device=CPU)
    trainer = new_trainer(config(folder))
    trainer.start_from(checkpoint)
    theirs = torch.load(checkpoint, weights_only=True)["average"]
    for name, value in trainer.average.state_dict().items():
        if name.startswith("low.") or (name.startswith("high.") and other.high_blocks):
            assert torch.equal(value, theirs[name]), name
    assert torch.equal(trainer.network.head.bias, torch.zeros(30))
    assert not torch.equal(trainer.network.w0.reshape(3, 10)[:, :3], torch.eye(3))  # of these pictures


def test_a_run_without_transform_can_begin_with_a_network_that_has_one(folder, tmp_path):
    checkpoint = train(config(folder), tmp_path / "run", device=CPU, steps=2)
    stages = (Stage(2e-3, 4, 32, 3, parts="low"),)
    trainer = new_trainer(config(folder, network=LOW_ONLY, stages=stages))
    trainer.start_from(checkpoint)
    theirs = torch.load(checkpoint, weights_only=True)["average"]
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, theirs[name]), name


def test_a_run_can_begin_with_a_network_of_fewer_blocks(folder, tmp_path):
    checkpoint = train(config(folder), tmp_path / "run", device=CPU, steps=2)
    theirs = torch.load(checkpoint, weights_only=True)["average"]
    trainer = new_trainer(config(folder, network=replace(TINY, dilations=(1, 4, 1, 2))))
    trainer.start_from(checkpoint)
    for network in (trainer.network, trainer.average):
        assert torch.equal(network.low[3].weight, theirs["low.1.weight"])
        assert torch.equal(network.head.weight, theirs["head.weight"])
        assert torch.equal(network.w0, theirs["w0"])
