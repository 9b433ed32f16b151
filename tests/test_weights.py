"""Weights for a part of a network: what fits is taken, what does not is said whole."""

import dataclasses

import jax
import numpy as np
import pytest
from small_run import small_config

from jaxau import checkpoint, models, train, weights


def _fresh(stage="frames"):
    config = small_config()
    network = models.create(config, stage)
    return jax.jit(network.init)(jax.random.key(0), np.zeros((1, 32, 32, 3), np.uint8))


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """A folder as `jaxau import-weights` writes it, and what is in it: all ones, but for one too many."""
    fresh = _fresh()
    given = {name: jax.tree.map(np.ones_like, dict(tree["trunk"])) for name, tree in fresh.items()}
    given["params"]["fc"] = {"kernel": np.ones((12, 5), np.float32)}
    folder = tmp_path_factory.mktemp("weights") / "trunk"
    checkpoint.save_model(folder, given, {"kind": "resnet18", "licence": "BSD", "source": "r.pth", "n": 1})
    return folder


def _state(fresh, stage="frames"):
    return train.TrainState(0, fresh["params"], fresh["batch_stats"], (), {}, (), None)


def test_the_prefix_is_taken_and_the_rest_stays(trunk, tmp_path, capsys):
    fresh = _fresh()
    config = dataclasses.replace(small_config(), weights={"trunk": str(trunk)})
    weights.check(config)
    state = weights.into_state(_state(fresh), config, tmp_path)
    for name in ("params", "batch_stats"):
        got = getattr(state, name)
        assert all((leaf == 1).all() for leaf in jax.tree.leaves(got["trunk"]))
        rest = {key: value for key, value in got.items() if key != "trunk"}
        expected = {key: value for key, value in fresh[name].items() if key != "trunk"}
        jax.tree.map(np.testing.assert_array_equal, rest, expected)
    assert "params/fc/kernel" in capsys.readouterr().err
    assert (tmp_path / "weights.json").is_file()
    assert weights.provenance(config)["trunk"]["licence"] == "BSD"


def test_a_part_of_a_run_of_the_same_network(tmp_path, capsys):
    """What lies under the prefix there is taken, and nothing else is missed or said to be unused."""
    fresh = _fresh()
    ones = {name: jax.tree.map(np.ones_like, dict(tree)) for name, tree in fresh.items()}
    checkpoint.save_model(tmp_path / "run", ones, {"stage": "frames"})
    config = dataclasses.replace(small_config(), weights={"trunk": str(tmp_path / "run")})
    state = weights.into_state(_state(fresh), config, tmp_path)
    for name in ("params", "batch_stats"):
        for part, tree in getattr(state, name).items():
            want = ones if part == "trunk" else fresh
            jax.tree.map(np.testing.assert_array_equal, tree, want[name][part])
    assert "not used" not in capsys.readouterr().err


def test_all_that_does_not_fit_is_listed():
    fresh = _fresh()
    given = {name: dict(tree["trunk"]) for name, tree in fresh.items()}
    given["params"] = {**given["params"], "conv1": {"kernel": np.zeros((7, 7, 3, 8))}}
    del given["params"]["bn1"]
    with pytest.raises(ValueError) as error:
        weights.place(fresh, given, "trunk", "folder")
    said = str(error.value)
    assert "3 differences" in said and "params/conv1/kernel has shape (7, 7, 3, 8)" in said
    assert "params/bn1/bias is missing" in said and "params/bn1/scale is missing" in said


def test_a_prefix_or_folder_that_is_not_there(trunk, tmp_path):
    config = small_config()
    with pytest.raises(ValueError, match=r"config.weights.trunc: no stage's network .*'trunk'"):
        weights.check(dataclasses.replace(config, weights={"trunc": str(trunk)}))
    with pytest.raises(ValueError, match="no finished model"):
        weights.check(dataclasses.replace(config, weights={"trunk": str(tmp_path)}))
    assert weights.check(config) is None
