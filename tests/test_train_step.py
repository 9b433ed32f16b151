"""One step: a batch in parts, half precision, full size, and how often it is compiled."""

import dataclasses
import itertools
from functools import partial
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import random_batch, small_config

from configs import lac
from data_pipelines.loader import make_data
from jaxau import evaluate, models, optim, sharding, train
from jaxau.config import Config, from_dict

STATISTICS = {"n_occ": np.array([30, 20, 40, 10]), "n_coded": np.full(4, 100)}


def _with(config: Config, name: str, **fields) -> Config:
    stages = {name: dataclasses.replace(config.stages[name], **fields)}
    return dataclasses.replace(config, stages=stages)


def _start(config: Config, name: str, statistics=STATISTICS):
    """(network, loss, stage), optimizer and first state of a stage."""
    network, loss = models.create(config, name), models.create_loss(config, name)
    stage, role = config.stages[name], models.role(config, name)
    optimizer = optim.make_optimizer(stage, 100)
    state = jax.jit(train._make_init(config, name, network, optimizer, loss.init(statistics)))()
    return (network, loss, stage, role), optimizer, state


def _train_step(parts, optimizer, state, mesh=None):
    placement = sharding.state_sharding(jax.eval_shape(lambda: state), mesh or sharding.make_mesh())
    return train.make_train_step(*parts, optimizer, placement), jax.device_put(state, placement)


def _close(got, want):
    def close(path, g, w):
        np.testing.assert_allclose(g, w, rtol=0, atol=1e-5 * np.abs(w).max() + 1e-12, err_msg=str(path))

    jax.tree_util.tree_map_with_path(close, got, want)


def test_two_parts_are_the_mean_of_two_halves():
    """Gradients and terms are means, counts add up, BatchNorm's averages move once for each part."""
    config = _with(small_config(), "frames", accumulate=2)
    parts, _, state = _start(config, "frames")
    batch = random_batch(np.random.default_rng(0), (8,), 32, 4)
    gradients, terms, stats, loss_state = jax.jit(partial(train.loss_and_gradients, *parts))(state, batch)
    one = dataclasses.replace(parts[2], accumulate=1)
    half = jax.jit(partial(train.loss_and_gradients, *parts[:2], one, parts[3]))
    found = []
    for i in range(2):
        found.append(half(state, {key: value[i::2] for key, value in batch.items()}))
        state = state.replace(batch_stats=found[-1][2], loss_state=found[-1][3])
    want = jax.tree.map(lambda a, b: (a + b) / 2, found[0][:2], found[1][:2])
    _close((gradients, terms), want)
    _close(stats, state.batch_stats)
    chex.assert_trees_all_equal(loss_state, state.loss_state)
    np.testing.assert_array_equal(loss_state["coded"], batch["au_mask"].sum(0))
    # The halves differ, so that a step which forgot one of them would be seen.
    assert abs(found[0][1]["loss"] - found[1][1]["loss"]) > 1e-3


@pytest.mark.parametrize("accumulate", [2, 4])
def test_parts_equal_the_whole_batch_where_batch_norm_is_frozen(accumulate):
    """And where each part has the same labels, since each of the loss's means is over a part."""
    config = _with(small_config(), "frames", freeze_batch_stats=True)
    parts, _, state = _start(config, "frames")
    batch = random_batch(np.random.default_rng(0), (8,), 32, 4)
    for key in ("au", "au_mask"):
        batch[key] = batch[key][:2].repeat(4, axis=0)
    whole = jax.jit(partial(train.loss_and_gradients, *parts))(state, batch)
    divided = dataclasses.replace(parts[2], accumulate=accumulate)
    _close(jax.jit(partial(train.loss_and_gradients, *parts[:2], divided, parts[3]))(state, batch), whole)
    chex.assert_trees_all_equal(whole[2], state.batch_stats)


def test_half_precision_trains_as_single():
    """Losses of 20 steps within 2 %; parameters, statistics, optimizer and outputs stay float32."""
    losses = {}
    for dtype in ("float32", "bfloat16"):
        config = dataclasses.replace(_with(small_config(), "frames"), dtype=dtype)
        parts, optimizer, state = _start(config, "frames")
        step, state = _train_step(parts, optimizer, state)
        rng, losses[dtype] = np.random.default_rng(0), []
        for _ in range(20):
            batch = random_batch(rng, (16,), 32, 4)
            # Something to learn: the first AU makes the left half of the picture bright.
            batch["image"][:, :, :16] = np.where(batch["au"][:, :1, None, None], 200, 60)
            state, terms = step(state, batch)
            losses[dtype].append({key: float(value) for key, value in terms.items()})
        floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
        assert {x.dtype for x in floats} == {np.dtype("float32")}
        outputs = parts[0].apply(state.variables, batch["image"])
        assert {x.dtype for x in outputs.values()} == {np.dtype("float32")}
    single, half = ([step["loss"] for step in losses[dtype]] for dtype in ("float32", "bfloat16"))
    np.testing.assert_allclose(half, single, rtol=0.02)
    assert single[-1] < single[0]
    assert half[0] != single[0]


def test_training_and_evaluation_compile_once(tiny_faces):
    """Also over batches that span two epochs, and over a last batch that is filled up."""
    name = "clips"
    config = _with(small_config(), name, batch_size=5)
    data = make_data(config, tiny_faces)
    (network, loss, stage, role), optimizer, state = _start(config, name, data.statistics)
    examples = data.num_examples(name)
    assert examples % stage.batch_size
    batches = list(itertools.islice(data.train(name, 0), examples // stage.batch_size + 2))
    mesh = sharding.make_mesh()
    # Of what is traced, a step calls the loss once, and evaluation the network.
    loss_once = chex.assert_max_traces(lambda *arguments: loss(*arguments), n=1)
    step, state = _train_step((network, loss_once, stage, role), optimizer, state, mesh)
    for batch in batches:
        state, _ = step(state, sharding.shard_batch(batch, mesh))
    apply_once = chex.assert_max_traces(
        lambda *arguments, **options: network.apply(*arguments, **options), n=1
    )
    eval_step = evaluate.make_eval_step(SimpleNamespace(apply=apply_once))
    batches = list(data.evaluate(name, "inner", stage.batch_size))
    assert not batches[-1]["mask"][-1].any()
    found = evaluate.predict(eval_step, state.variables, batches, mesh)
    assert len(found["record"]) == sum(batch["mask"].sum() for batch in batches)


@pytest.mark.slow
def test_full_size_runs_and_trains():
    """One clip of 4 frames through the paper's network, forward and one step."""
    config = from_dict(lac.get_config("bp4d").to_dict())
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, clip_length=4))
    config = dataclasses.replace(_with(config, "clips", start_from=""), dtype="float32")
    statistics = {"n_occ": np.full(12, 30), "n_coded": np.full(12, 100)}
    parts, optimizer, state = _start(config, "clips", statistics)
    batch = random_batch(np.random.default_rng(0), (1, 4), 224, 12)
    outputs = jax.jit(parts[0].apply)(state.variables, batch["image"])
    chex.assert_shape(outputs["logits"], (1, 4, 12))
    chex.assert_shape(outputs["attention"], (1, 4, 7, 7, 12))
    before = jax.device_get(state.params)
    step, state = _train_step(parts, optimizer, state)
    state, terms = step(state, batch)
    chex.assert_tree_all_finite((outputs, terms, state.params, state.batch_stats))
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, jax.device_get(state.params))
    assert all(jax.tree.leaves(moved))
