"""What is said of steps agrees with itself, with PyTorch, and with what can be counted by hand."""

import contextlib
import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.tables import PAPERS
from jaxau import models
from jaxau.benchmark import machine, steps
from jaxau.config import from_dict

MODES = ("inference", "training")


SIZES = {"frames": 3, "clips": 2}


@pytest.fixture(scope="module")
def compiled(tiny):
    """Both stages. With the compilation cache, for the sake of time; what is cold has a test of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "cold_compilation", contextlib.nullcontext)
        return {name: steps.CompiledStage(tiny, name, size) for name, size in SIZES.items()}


@pytest.fixture(scope="module")
def section(tiny, compiled):
    """What is measured without PyTorch, under a round number as roof; and what was said meanwhile."""
    said = []

    def made(config, name, size):
        assert config is tiny and size == SIZES[name]
        return compiled[name]

    roofs = iter([1e12, 5e11])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "measure_roof", lambda: {"product": "2^3", "flops_per_second": next(roofs)})
        patch.setattr(steps, "CompiledStage", made)
        return steps.measure_network(tiny, SIZES, 1, 3, None, turn=1, say=said.append), said


def test_a_row_for_inference_and_training_of_each_stage(section):
    found, said = section
    assert [(row["stage"], row["mode"]) for row in found["rows"]] == [
        (stage, mode) for stage in ("frames", "clips") for mode in MODES
    ]
    assert found["network"] == "lac" and found["dtype"] == "float32" and "against" not in found
    assert any("clips" in line for line in said)


def test_numbers_of_a_row_agree(section):
    for row in section[0]["rows"]:
        clip = 4 if row["stage"] == "clips" else 1
        assert row["batch_size"] == SIZES[row["stage"]]
        assert row["frames"] == clip * row["batch_size"]
        seconds = row["step_seconds"]
        assert seconds["n"] == 3 and 0 < seconds["q1"] <= seconds["median"] <= seconds["q3"]
        assert row["samples_per_second"] == pytest.approx(row["batch_size"] / seconds["median"])
        assert row["frames_per_second"] == pytest.approx(clip * row["samples_per_second"])
        assert row["share_of_roof"] == pytest.approx(2 * row["macs"] / seconds["median"] / 1e12)
        assert row["first_step_seconds"] > row["compile_seconds"] > 0
        assert row["host_peak_bytes"] > row["planned_memory_bytes"] > 4 * row["parameters"]
        assert row["parameters"] == row["trainable_parameters"]


def test_training_plans_with_the_optimizers_moments_and_multiplies_three_times(section):
    rows = {(row["stage"], row["mode"]): row for row in section[0]["rows"]}
    for stage in ("frames", "clips"):
        inference, training = (rows[stage, mode] for mode in MODES)
        assert training["planned_memory_bytes"] > 3 * 4 * training["parameters"]
        # Gradients of input and kernel each repeat the forward pass, but for the picture, which has none.
        assert 2 < training["macs"] / inference["macs"] < 3.1
    # First convolution, by hand: 16 x 16 outputs of 8 channels, 3 x 3 x 3 each; there must be more.
    assert rows["frames", "inference"]["macs"] > 3 * 16 * 16 * 8 * 27


def test_what_a_stage_does_not_train_is_not_counted_as_trainable(tiny):
    stage = dataclasses.replace(tiny.stages["frames"], trainable=("classifier",))
    params = {
        "trunk": jnp.zeros((3, 5)),
        "classifier_weight": jnp.zeros((4, 8)),
        "classifier_bias": jnp.zeros(4),
    }
    found = steps.count_parameters(stage, params)
    assert found == {"parameters": 15 + 36, "trainable_parameters": 36}


def test_the_batch_must_fit_the_devices(tiny, monkeypatch):
    def refuse(stage, mesh, path):
        raise ValueError(f"{path}.batch_size: {stage.batch_size}")

    monkeypatch.setattr(steps.sharding, "check_batch_size", refuse)
    with pytest.raises(ValueError, match="config.stages.frames.batch_size: 5"):
        steps.CompiledStage(tiny, "frames", 5)


@pytest.mark.parametrize("name", sorted(PAPERS))
def test_batches_of_noise_are_what_each_network_and_its_loss_ask_for(name):
    """As shapes: the stages that ``launch.bench`` times, of the configuration for synthetic faces."""
    config = from_dict(PAPERS[name].get_config("synthetic").to_dict())
    stages = steps.timed_stages(config)
    assert stages, name
    for stage in stages:
        network, loss = models.create(config, stage), models.create_loss(config, stage)
        batch = {field: value[:1] for field, value in steps.noise_batch(config, stage).items()}
        given, named = models.arguments(models.role(config, stage), batch, train=True)

        def run(batch=batch, network=network, loss=loss, given=given, named=named):
            keys = {key: jax.random.key(0) for key in ("params", "dropout", "noise")}
            outputs, _ = network.init_with_output(keys, *given, train=True, **named)
            return loss(outputs, batch, loss.init(steps.noise_statistics(len(config.data.aus))))[0]

        chex.assert_shape(jax.eval_shape(run), ())


def test_steps_really_train(compiled):
    stage = compiled["frames"]
    before, step = stage.infer(), int(stage._state.step)
    params = jax.tree.map(np.array, stage._state.params)
    stage.train()
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max() > 0, params, stage._state.params)
    assert all(jax.tree.leaves(moved)) and int(stage._state.step) == step + 1
    np.testing.assert_array_equal(stage.infer(), before)  # inference keeps the weights that it has


def test_compilation_is_cold_inside_and_cached_again_outside(tmp_path, monkeypatch):
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    for name, value in zip(names, (str(tmp_path), 0.0), strict=True):
        jax.config.update(name, value)
    steps.compilation_cache.reset_cache()
    try:
        with steps.cold_compilation():
            jax.jit(lambda x: jnp.sin(x) * 3).lower(jnp.ones(7)).compile()
            assert not list(tmp_path.iterdir())
        jax.jit(lambda x: jnp.cos(x) * 3).lower(jnp.ones(7)).compile()
        assert list(tmp_path.iterdir())
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        steps.compilation_cache.reset_cache()


# ---- against PyTorch -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def make_twin():
    pytest.importorskip("torch", reason="pip install 'jaxau[parity]'")
    from torch_reference import lac_speed

    return lac_speed.Twin


@pytest.fixture(scope="module", params=["frames", "clips"])
def stage_and_twin(request, tiny, compiled, make_twin):
    stage = compiled[request.param]
    return stage, make_twin(tiny, request.param, stage.batch, steps.noise_statistics(4))


def test_the_twin_is_timed_with_the_same_weights(stage_and_twin):
    stage, twin = stage_and_twin
    rows = steps.measure_against(stage, twin, warmup=1, rounds=2, turn=1)
    assert [row["mode"] for row in rows] == list(MODES)
    for row in rows:
        assert row["logit_difference"] < 1e-5 and row["loss_difference"] < 1e-4
        assert row["speed_ratio"]["n"] == 2 and row["speed_ratio"]["median"] > 0
        assert "channels_last" in row["torch_form"]
    theirs = sum(p.numel() for name, p in twin.twin.named_parameters() if name != "lstm.bias_hh_l0")
    assert stage.programs["inference"]["parameters"] == theirs


def test_features_are_alive_in_the_comparison(stage_and_twin):
    """Logits that were all biases would agree whatever the trunk does."""
    stage, twin = stage_and_twin
    stage.take(twin.variables())
    logits, _ = stage.in_float32()
    flat = logits.reshape(-1, logits.shape[-1])
    assert (flat.std(0) > 1e-3 * np.abs(flat).max()).all()


def test_nothing_is_timed_if_weights_differ(stage_and_twin, monkeypatch):
    stage, twin = stage_and_twin

    def perturbed():
        variables = twin.variables()
        kernel = variables["params"]["trunk"]["layer2_0"]["conv2"]["kernel"]
        variables["params"]["trunk"]["layer2_0"]["conv2"]["kernel"] = kernel * 1.05
        return variables

    class Perturbed:
        form = twin.form
        variables = staticmethod(perturbed)
        in_float32 = staticmethod(twin.in_float32)

        def infer(self):
            raise AssertionError("timed")

        train = infer

    with pytest.raises(
        ValueError, match="logits of jaxau and of its PyTorch twin differ by .* nothing is timed"
    ):
        steps.measure_against(stage, Perturbed(), 1, 1, 1)


@pytest.mark.parametrize("theirs", [1.0002, np.nan, -1.0])
def test_parity_refuses(theirs):
    with pytest.raises(ValueError, match="allowed are 0.0001"):
        steps.check_parity("logits", [0.5, 1.0], [0.5, theirs], steps.LOGIT_TOLERANCE)


def test_parity_is_a_share_of_the_largest_value():
    assert steps.check_parity("logits", [0.0, 200.0], [0.01, 200.0], 1e-4) == pytest.approx(0.01 / 200)


def test_the_twin_refuses_training_that_it_does_not_do(tiny, make_twin):
    for change in ({"trainable": ("lstm",)}, {"freeze_batch_stats": True}):
        stage = dataclasses.replace(tiny.stages["clips"], **change)
        config = dataclasses.replace(tiny, stages={"clips": stage})
        with pytest.raises(ValueError, match="config.stages.clips: the PyTorch twin"):
            make_twin(config, "clips", {}, steps.noise_statistics(4))


def test_one_update_is_the_same_in_both(tiny, compiled, make_twin):
    """Adam's first: the learning rate, in the direction of the gradient's sign; kernels decay besides."""
    stage = compiled["frames"]
    twin = make_twin(tiny, "frames", stage.batch, steps.noise_statistics(4))
    start = jax.tree.map(np.array, twin.variables())
    stage.take(start)
    stage._state = stage._state.replace(opt_state=jax.tree.map(jnp.zeros_like, stage._state.opt_state))
    stage.train()
    twin.train()
    ours, theirs = stage._state.params, twin.variables()["params"]
    for params in (ours, theirs):
        params["relations"].pop("score_self")  # no gradient, but rounding, while these weights are 0
    wrong = total = 0
    for path, want in jax.tree_util.tree_leaves_with_path(theirs):
        got, before = ours, start["params"]
        for key in path:
            got, before = got[key.key], before[key.key]
        assert np.abs(want - before).max() > 0.5e-3, path
        wrong, total = wrong + (np.abs(np.asarray(got) - want) > 2e-5).sum(), total + want.size
    assert wrong < 0.02 * total  # where a gradient is nearly 0, rounding decides its sign


def test_rows_are_json(section):
    assert json.loads(json.dumps(section[0])) == section[0]
    assert machine.spread([1.0])["n"] == 1
