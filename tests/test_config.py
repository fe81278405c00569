"""Configurations of training: what makes no sense is refused, with its place."""

from dataclasses import asdict

import pytest

torch = pytest.importorskip("torch")


from runs import LOW_ONLY, ROOT, config

from deepisp_cli.errors import UsageError
from deepisp_cli.training.config import Stage, config_from_dict, load_config
from deepisp_cli.training.mosaics import MosaicOptions


def test_configurations_round_trip(folder):
    settings = config(folder)
    assert config_from_dict(asdict(settings)) == settings
    low = (Stage(1e-3, 1, 16, 1, parts="low"),)
    mosaic = config(folder, network=LOW_ONLY, mosaic=MosaicOptions(), stages=low)
    assert config_from_dict(asdict(mosaic)) == mosaic


def message_of(path, text):
    """What is said of a configuration that is refused."""
    path.write_text(text, "utf-8")
    with pytest.raises(UsageError) as error:
        load_config(path)
    return str(error.value)


NETWORK = "[network]\nfold = 2\n"
STAGE = "[[stages]]\nlearning_rate = 1e-3\nbatch = 1\ncrop = 32\nsteps = 9\nparts = 'low'\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{NETWORK}blocks = 3\n{STAGE}", "[network]: unknown key 'blocks'; known: fold, dilations, width, "),
        (
            f"{NETWORK}[synthesis]\niso = 3\n{STAGE}",
            "[synthesis]: unknown key 'iso'; known: exposure, usual_",
        ),
        (f"{NETWORK}[mosaic]\niso = 3\n{STAGE}", "[mosaic]: unknown key 'iso'; known: sigma, clean_share"),
        (f"{NETWORK}{STAGE}{STAGE}rate = 3\n", "stage 2: unknown key 'rate'; known: learning_rate, batch, "),
        (f"colour = 3\n{NETWORK}{STAGE}", "unknown key 'colour'; known: network, stages, photographs, "),
        (NETWORK + STAGE + STAGE.replace("learning_rate = 1e-3", ""), "stage 2: 'learning_rate' is missing"),
        (NETWORK, "'stages' is missing"),
        (f"{NETWORK}width = 3\n{STAGE}", "[network]: width must be above"),
        (f"{NETWORK}high_blocks = 6\n{STAGE}", "[network] has cells of 8192 pixels, a reach of "),
        (NETWORK + STAGE.replace("'low'", "'all'"), "stage 1: parts is one of"),
        (f"network = 3\n{STAGE}", "[network]: is a table of keys and values, got 3"),
        (NETWORK + STAGE.replace("[[stages]]", "[stages]"), "stages are tables in double brackets"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_said_with_its_place(tmp_path, text, message):
    path = tmp_path / "a.toml"
    assert message_of(path, text).startswith(f"{path}: {message}")


ALL = STAGE.replace("parts = 'low'\n", "")  # a stage that trains the high-level stage, too
HIGH = STAGE.replace("low", "high")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STAGE, "'network' is missing"),
        (f"{NETWORK}{ALL}blocks = 1\n", "goes with the parts 'low'"),
        (f"{NETWORK}{STAGE}blocks = 16\n", "more blocks than the network's 15"),
        (f"{NETWORK}{STAGE}blocks = 5\n{STAGE}blocks = 4\n", "a stage trains 4 blocks after one that"),
        (f"{NETWORK}{STAGE}{HIGH}{STAGE}blocks = 4\n", "a stage trains 4 blocks after one that trained 15"),
        (f"precision = 'half'\n{NETWORK}{ALL}", "precision is one of"),
        (f"picture_loss = 'luv'\n{NETWORK}{ALL}", "picture_loss is one of"),
        (f"restoration_norm = 'l2'\n{NETWORK}{ALL}", "restoration_norm is one of"),
        (f"picture_loss = 'lab'\n{NETWORK}{ALL}", "crops of 161 pixels"),
        (f"restoration_structure = 0.2\n{NETWORK}{ALL.replace('32', '10')}", "crops of 11 pixels"),
        (f"restoration_colour = 0.2\n{NETWORK}{ALL}", "crops of 64 pixels"),
        (f"{NETWORK}high_blocks = 0\n{ALL}", "'low' only"),
        (NETWORK + ALL.replace("steps = 9", ""), "needs steps or minutes"),
        (f"{NETWORK}{ALL}[mosaic]\n", "without high-level stage"),
        (f"{NETWORK}{ALL}", "crops of 128 pixels"),
        (f"{NETWORK.replace('2', '1')}high_blocks = 1\n{ALL.replace('32', '4')}", "crops of 8 pixels"),
        (NETWORK + ALL.replace("32", "129"), "even number"),
        (f"restoration_weight = 0.0\n{NETWORK}{STAGE}", "need a restoration loss"),
        (f"restoration_scales = []\n{NETWORK}{STAGE}", "need a restoration loss"),
        (f"restoration_scales = [1, 34]\n{NETWORK}{STAGE}", "smallest crop's 32 pixels"),
        ("[network", "a.toml"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, text, message):
    assert message in message_of(tmp_path / "a.toml", text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("learning_rate = 1e-3", "learning_rate = 'fast'", "stage 1: learning_rate is a number, got 'fast'"),
        ("learning_rate = 1e-3", "learning_rate = nan", "stage 1: learning_rate is a number, got nan"),
        ("learning_rate = 1e-3", "learning_rate = true", "stage 1: learning_rate is a number, got True"),
        (
            "learning_rate = 1e-3",
            "learning_rate = 0",
            "stage 1: learning_rate is above 0, at most 1e+37, got 0",
        ),
        ("1e-3", "1e300", "stage 1: learning_rate is above 0, at most 1e+37, got 1e+300"),
        ("batch = 1", "batch = 0", "stage 1: batch is 1 or more, at most 1000000000, got 0"),
        (
            "batch = 1",
            f"batch = {10**10}",
            "stage 1: batch is 1 or more, at most 1000000000, got 10000000000",
        ),
        ("batch = 1", "batch = 1.5", "stage 1: batch is a whole number, got 1.5"),
        ("batch = 1", "batch = true", "stage 1: batch is a whole number, got True"),
        ("steps = 9", "steps = -9", "stage 1: steps is 1 or more, at most 1000000000, got -9"),
        ("steps = 9", "minutes = 0", "stage 1: minutes is above 0, got 0"),
        ("crop = 32", "crop = 0", "stage 1: crop is 2 or more, at most 1000000000, got 0"),
        ("'low'", "1", "stage 1: parts is one of low, separate, joint, high, got 1"),
        ("[n", "photographs = 'photos'\n[n", "photographs is a list of texts, got 'photos'"),
        ("[n", "photographs = ['a', 1]\n[n", "photographs is a list of texts, got ('a', 1)"),
        ("[n", "shares = [1, 0]\n[n", "shares is a list of 3 numbers, got (1, 0)"),
        ("[n", "shares = [1, -1, 0]\n[n", "shares is 0 or more, got -1"),
        ("[n", "seed = -1\n[n", "seed is 0 or more, at most 9223372036854775807, got -1"),
        ("[n", "average_decay = 1.5\n[n", "average_decay is 0 or more, at most 1, got 1.5"),
        ("[n", "neutral_weight = -1\n[n", "neutral_weight is 0 or more, got -1"),
        ("[n", "restoration_colour = -1\n[n", "restoration_colour is 0 or more, got -1"),
        ("[n", "gradient_norm = 0\n[n", "gradient_norm is above 0, got 0"),
        ("[n", "restoration_scales = [0]\n[n", "restoration_scales is 1 or more, got 0"),
        ("[n", "reductions = []\n[n", "reductions is empty"),
        ("[n", "reductions = [0.5]\n[n", "reductions is 1 or more, at most 100, got 0.5"),
        ("[n", "reductions = [101]\n[n", "reductions is 1 or more, at most 100, got 101"),
        ("[n", f"seed = {'[' * 9999}{']' * 9999}\n[n", "is nested too deeply"),
        (
            "fold = 2",
            "dilations = [1, 1001]",
            "[network]: dilations are one or more of 1 to 1000, got (1, 1001)",
        ),
        ("fold = 2", "high_blocks = 7", "[network]: high_blocks is 0 to 6, got 7"),
        ("[n", "stages = []\n[n", "stages is empty"),
        ("fold = 2", "metered = 1", "[network]: metered is true or false, got 1"),
        ("fold = 2", "dilations = 3", "[network]: dilations is a list of whole numbers, got 3"),
        (
            "[[",
            "[synthesis]\nexposure = [0, -3]\n[[",
            "[synthesis]: exposure goes from low to high, got [0, -3]",
        ),
        ("[[", "[synthesis]\nshot_noise = [0, 1]\n[[", "[synthesis]: shot_noise is above 0, got 0"),
        ("[[", "[synthesis]\nhot_share = 2\n[[", "[synthesis]: hot_share is 0 or more, at most 1, got 2"),
        ("[[", "[synthesis]\nrow_noise = -1\n[[", "[synthesis]: row_noise is 0 or more, got -1"),
        ("[[", "[synthesis]\nbits = [12, 99]\n[[", "[synthesis]: bits is 1 or more, at most 16, got 99"),
        ("[[", "[synthesis]\nusual_exposure = [-2, -1]\n[[", "[synthesis]: usual_exposure is a mean and"),
        (
            "[[",
            "[synthesis]\nblack_share = [0, 1]\n[[",
            "[synthesis]: black_share is 0 or more, at most 0.9, got 1",
        ),
        ("[[", "[mosaic]\nsigma = [20, 0]\n[[", "[mosaic]: sigma goes from low to high, got [20, 0]"),
        ("[[", "[mosaic]\nsigma = [-1, 0]\n[[", "[mosaic]: sigma is 0 or more, got -1"),
        ("[[", "[mosaic]\nclean_share = 2\n[[", "[mosaic]: clean_share is 0 or more, at most 1, got 2"),
    ],
)
def test_values_of_another_kind_or_out_of_range_are_refused(tmp_path, old, new, message):
    text = NETWORK + STAGE
    if "stages = []" in new:
        text = NETWORK
    path = tmp_path / "a.toml"
    assert old in text
    assert message_of(path, text.replace(old, new)).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "models").glob("*/*.toml")), ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_shipped_configurations_are_repeatable(path):
    """Limited by steps alone; otherwise a resumed run would differ from an uninterrupted one."""
    settings = load_config(path)
    assert all(stage.steps and stage.minutes is None for stage in settings.stages)


@pytest.mark.parametrize("key", ["restoration_structure", "restoration_colour"])
def test_losses_on_raws_are_not_for_mosaics_of_finished_pictures(folder, key):
    settings = {"network": LOW_ONLY, "stages": (Stage(1e-3, 1, 64, 1, parts="low"),)}
    config(folder, **settings, **{key: 1.0})
    with pytest.raises(ValueError, match="are for raws, not for"):
        config(folder, mosaic=MosaicOptions(), **settings, **{key: 1.0})
