"""Checkpoints: what is kept, and what an ill-fitting one is told."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import small_config

from jaxau import checkpoint, files, models
from jaxau.config import to_dict


def _abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def test_keeps_the_latest_and_the_best(tmp_path):
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest is None and checkpoints.best is None
        for step, f1 in [(1, 0.3), (2, 0.9), (3, 0.5), (4, None), (5, 0.6)]:
            checkpoints.save(step, {"w": jnp.full(3, step)}, f1)
        checkpoints.wait()
        assert checkpoints.latest == 5 and checkpoints.best == 2
        assert sorted(int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()) == [2, 5]
    with checkpoint.Checkpoints(tmp_path) as checkpoints:  # as another process would see it
        assert checkpoints.latest == 5 and checkpoints.best == 2
        restored = checkpoints.restore(2, _abstract({"w": jnp.zeros(3, jnp.int32)}))
        np.testing.assert_array_equal(restored["w"], [2, 2, 2])


def test_random_keys_survive(tmp_path):
    state = {"rng": jax.random.key(7)}
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        checkpoints.wait()
        restored = checkpoints.restore(1, _abstract(state))
    assert jax.random.uniform(restored["rng"]) == jax.random.uniform(state["rng"])


def test_all_differences_are_listed(tmp_path):
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": jnp.zeros(3), "b": jnp.zeros(2), "c": jnp.zeros(1)})
        checkpoints.wait()
        with pytest.raises(ValueError, match="3 differences") as error:
            checkpoints.restore(1, _abstract({"a": jnp.zeros(4), "b": jnp.zeros(2), "d": jnp.zeros(1)}))
    for line in ("missing state/d", "unexpected state/c", "a has shape (3,), the network needs (4,)"):
        assert line.replace("state/", "") in str(error.value)


@pytest.fixture
def saved(tmp_path):
    config = small_config()
    network = models.create(config, "frames")
    variables = network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3), jnp.uint8))
    info = {
        "network": "lac", "stage": "frames", "aus": list(config.data.aus), "clip_length": 0, "image_size": 32,
        "config": to_dict(config),
    }  # fmt: skip
    checkpoint.save_model(tmp_path / "frames" / "model", variables, info)
    files.write_json(tmp_path / "config.json", to_dict(config))
    return tmp_path, variables, info


def test_a_model_comes_back_from_each_of_its_names(saved):
    path, variables, info = saved
    for name in (path, path / "frames", path / "frames" / "model"):
        model = checkpoint.load_model(name)
        for got, want in zip(jax.tree.leaves(model.variables), jax.tree.leaves(variables), strict=True):
            np.testing.assert_array_equal(got, want)
        assert model.info["aus"] == [1, 4, 12, 25] and len(model.info["hash"]) == 64


def test_a_model_of_another_au_set_is_refused(saved):
    path, _, _ = saved
    file = path / "frames" / "model" / "model.json"
    info = json.loads(file.read_text())
    other = small_config()
    other = dataclasses.replace(other, data=dataclasses.replace(other.data, aus=(1, 4, 12, 25, 26)))
    file.write_text(json.dumps({**info, "config": to_dict(other)}))
    with pytest.raises(ValueError, match="another AU list") as error:
        checkpoint.load_model(path)
    assert "au_weights has shape (4, 12), the network needs (5, 12)" in str(error.value)


def test_no_model_yet(tmp_path):
    with pytest.raises(ValueError, match=r"no finished model \(model.json\) there; give a run directory"):
        checkpoint.load_model(tmp_path)


def test_damaged_or_exchanged_variables_are_refused(saved):
    path, variables, info = saved
    other = jax.tree.map(lambda leaf: leaf + 1e-3, variables)
    checkpoint.save_model(path / "other", other, info)
    shutil.rmtree(path / "frames" / "model" / "variables")
    shutil.copytree(path / "other" / "variables", path / "frames" / "model" / "variables")
    with pytest.raises(ValueError, match=r"not those that model.json describes .*copy the run again"):
        checkpoint.load_model(path)
    for file in (path / "frames" / "model" / "variables").rglob("*"):
        if file.is_file() and file.stat().st_size > 50:
            file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"cannot be read.*copy the run again"):
        checkpoint.load_model(path)


def test_thresholds_are_part_of_what_the_hash_says(saved):
    path, variables, info = saved
    hashes = set()
    for thresholds in ([0.5] * 4, [0.4] * 4):
        checkpoint.save_model(path / "frames" / "model", variables, {**info, "thresholds": thresholds})
        hashes.add(checkpoint.read_info(path)["hash"])
    assert len(hashes) == 2
