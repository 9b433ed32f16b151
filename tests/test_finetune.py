"""Starting from a checkpoint with other AUs: matched by number, the rest fresh and named."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import small_aar_config, small_config

from jaxau import checkpoint, finetune, models
from jaxau import config as config_lib

AUS = (1, 4, 12, 25)


def config_of(aus, **changes):
    config = small_config()
    return dataclasses.replace(config, data=dataclasses.replace(config.data, aus=tuple(aus)), **changes)


def variables_of(config, seed, stage="frames"):
    network = models.create(config, stage)
    side = config.data.image_size
    time = () if stage == "frames" else (config.data.clip_length,)
    variables = network.init(jax.random.key(seed), jnp.zeros((1, *time, side, side, 3), jnp.uint8))
    noise = np.random.default_rng(seed)  # no parameter may be equal by its initialiser
    return network, jax.tree.map(
        lambda leaf: leaf + noise.uniform(0.01, 0.2, leaf.shape).astype(leaf.dtype), variables
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = config_of(AUS)
    network, variables = variables_of(config, 1)
    info = {
        "network": config.name,
        "stage": "frames",
        "aus": list(AUS),
        "image_size": config.data.image_size,
        "clip_length": 0,
        "config": config_lib.to_dict(config),
    }
    checkpoint.save_model(folder / "model", variables, info)
    return folder, network, variables


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def leaves(variables):
    found = jax.tree_util.tree_leaves_with_path(variables)
    return {"/".join(str(key.key) for key in path): np.asarray(leaf) for path, leaf in found}


def test_the_same_aus_in_another_order_give_the_same_answers_in_that_order(trained, images):
    """What a permutation of AUs does to a network is known without looking at any parameter."""
    folder, network, variables = trained
    order = (25, 1, 12, 4)
    config = config_of(order)
    other, fresh = variables_of(config, 2)
    started, report = finetune.start(config, "frames", fresh, folder)
    assert (report.kept_aus, report.new_aus, report.unused_aus) == (order, (), ())
    assert report.fresh == () and report.unused == ()
    before, after = network.apply(variables, images), other.apply(started, images)
    columns = [AUS.index(au) for au in order]
    np.testing.assert_allclose(after["logits"], before["logits"][..., columns], rtol=1e-4, atol=1e-4)
    assert np.abs(after["logits"] - before["logits"]).max() > 1e-2


def test_known_heads_are_taken_and_new_ones_stay_fresh(trained):
    folder, _, variables = trained
    config = config_of((12, 9, 4, 26, 17))
    _, fresh = variables_of(config, 2)
    started, report = finetune.start(config, "frames", fresh, folder)
    assert (report.kept_aus, report.new_aus, report.unused_aus) == ((12, 4), (9, 26, 17), (1, 25))
    assert report.fresh == () and report.unused == ()
    assert "new heads of AU [9, 26, 17]" in str(report) and "not used: AU [1, 25]" in str(report)
    old, begun, was = leaves(variables), leaves(started), leaves(fresh)
    per_au = {name for name in old if old[name].shape != begun[name].shape}
    assert 3 <= len(per_au) < len(old)
    for name, value in begun.items():
        if name not in per_au:
            np.testing.assert_array_equal(value, old[name])
            continue
        (axis,) = [i for i, (a, b) in enumerate(zip(old[name].shape, value.shape, strict=True)) if a != b]
        assert (old[name].shape[axis], value.shape[axis]) == (4, 5)

        def row(array, i, axis=axis):
            return np.take(array, i, axis)

        np.testing.assert_array_equal(row(value, 0), row(old[name], AUS.index(12)))
        np.testing.assert_array_equal(row(value, 2), row(old[name], AUS.index(4)))
        for i in (1, 3, 4):
            np.testing.assert_array_equal(row(value, i), row(was[name], i))


def test_parameters_that_the_checkpoint_lacks_are_named(trained):
    folder, _, variables = trained
    config = config_of(AUS)
    _, fresh = variables_of(config, 2, "clips")
    started, report = finetune.start(config, "clips", fresh, folder)
    assert report.fresh and all("lstm" in name for name in report.fresh)
    begun, was = leaves(started), leaves(fresh)
    for name in report.fresh:
        np.testing.assert_array_equal(begun[name], was[name])
    narrow = config_of(AUS, network={**small_config().network, "widths": (8, 16)})
    _, fresh = variables_of(narrow, 2)
    _, report = finetune.start(narrow, "frames", fresh, folder)
    assert any("trunk" in name for name in report.fresh) and "fresh: " in str(report)


def test_another_network_is_refused(trained, tmp_path):
    folder, _, _ = trained
    config = config_of(AUS)
    with pytest.raises(ValueError, match="no finished model"):
        finetune.start(config, "frames", {}, tmp_path)
    with pytest.raises(ValueError, match="a checkpoint of 'lac', the run trains 'aar'"):
        finetune.start(dataclasses.replace(config, name="aar"), "frames", {}, folder)
    _, fresh = variables_of(config, 2)
    other = jax.tree.map(lambda leaf: jnp.zeros((*leaf.shape, 1)), fresh)
    with pytest.raises(ValueError, match="no parameter of its trunk fits"):
        finetune.start(config, "frames", other, folder)


@pytest.mark.parametrize("stage", ["frames", "features"])
def test_aars_branches_and_relations_follow_their_aus(stage, images, tmp_path):
    """DISFA from BP4D: branches, rows of U and Q and classifiers are each AU's own; permuting shows it."""

    def variables(aus, seed):
        base = small_aar_config()
        config = dataclasses.replace(base, data=dataclasses.replace(base.data, aus=aus))
        network = models.create(config, stage)
        time = () if stage == "frames" else (2,)
        made = jax.jit(network.init)(jax.random.key(seed), jnp.zeros((1, *time, 32, 32, 3), jnp.uint8))
        return config, network, made

    order = (25, 1, 12, 4)
    config, network, old = variables(AUS, 1)
    info = {
        "network": "aar", "stage": stage, "aus": list(AUS), "image_size": 32,
        "clip_length": 0 if stage == "frames" else 2, "config": config_lib.to_dict(config),
    }  # fmt: skip
    checkpoint.save_model(tmp_path / "model", old, info)
    config, other, fresh = variables(order, 2)
    started, report = finetune.start(config, stage, fresh, tmp_path)
    assert report.fresh == () and report.unused == () and report.kept_aus == order
    x = images if stage == "frames" else images[None, :2]
    before, after = (jax.jit(n.apply)(v, x)["logits"] for n, v in ((network, old), (other, started)))
    np.testing.assert_allclose(after, before[..., [AUS.index(au) for au in order]], rtol=1e-4, atol=1e-5)
    assert np.ptp(before, axis=-1).max() > 1e-3
