"""Schedules by hand; optimizers against PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxau import optim
from jaxau.config import Config, DataConfig, Optim, Stage, from_dict, to_dict


def test_schedule_in_steps():
    """AAR: 12 epochs of 5 steps, times .3 every 2 epochs."""
    rate = optim.make_schedule(Optim("sgd", 0.006, schedule="steps", decay=0.3, periods=6), total_steps=60)
    for step, power in {0: 0, 9: 0, 10: 1, 19: 1, 20: 2, 50: 5, 59: 5}.items():
        np.testing.assert_allclose(rate(step), 0.006 * 0.3**power, rtol=1e-6)
    # Parts that are no whole number of steps; after a warm-up, parts of what remains.
    rate = optim.make_schedule(Optim("sgd", 1.0, schedule="steps", decay=0.5, periods=4), total_steps=10)
    np.testing.assert_allclose(
        [rate(step) for step in range(10)], [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125]
    )
    warm = Optim("sgd", 1.0, schedule="steps", decay=0.5, periods=2, warmup_steps=4)
    rate = optim.make_schedule(warm, total_steps=10)
    np.testing.assert_allclose([rate(step) for step in (0, 4, 6, 7, 9)], [0.25, 1, 1, 0.5, 0.5])


def test_schedule_of_the_inverse_square_root():
    """GTLE-Net: lr min(s / w, (s / w)^-.5) at the s-th step; it needs a warm-up."""
    config = Optim("adam", 1e-5, schedule="inverse_sqrt", warmup_steps=1000)
    rate = optim.make_schedule(config, total_steps=50_000)
    for s in (1, 10, 999, 1000, 1001, 2000, 40_000):
        at = s - 1 if s <= 1000 else s  # the ramp's last step counts as its end
        want = 1e-5 * min(s / 1000, (s / 1000) ** -0.5)
        np.testing.assert_allclose(rate(at), want, rtol=1e-3)
    values = to_dict(Config("lac", DataConfig("synthetic", (1,), "all"), {"frames": Stage("frames", 1, 1)}))
    values["stages"]["frames"]["optim"]["schedule"] = "inverse_sqrt"
    with pytest.raises(ValueError, match="warmup_steps: 0 breaks the rule: at least 1, where the schedule"):
        from_dict(values)


@pytest.mark.parametrize(
    ("name", "nesterov"), [("sgd", True), ("sgd", False), ("adam", True), ("adamw", True)]
)
def test_updates_equal_torchs(name, nesterov):
    """Momentum, Nesterov's or not, L2 and decoupled decay; none for biases and scales, stacked or not."""
    torch = pytest.importorskip("torch", reason="pip install 'jaxau[parity]'")
    config = Optim(name, 0.05, 0.1, nesterov=nesterov, schedule="steps", decay=0.3, periods=2)
    optimizer = optim.make_optimizer(Stage("frames", 1, 1, optim=config), total_steps=6)
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 3, 3, 2, 2), "relations": (4, 2), "bias": (3, 2), "scale": (3, 2), "vector": (4,)}
    params = {key: jnp.asarray(rng.normal(size=shape), jnp.float32) for key, shape in shapes.items()}
    theirs = {key: torch.tensor(np.asarray(value), requires_grad=True) for key, value in params.items()}
    decayed = ("kernel", "relations")
    groups = [
        {"params": [theirs[key] for key in decayed], "weight_decay": 0.1},
        {"params": [theirs[key] for key in shapes if key not in decayed], "weight_decay": 0.0},
    ]
    if name == "sgd":
        reference = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=nesterov)
    else:
        reference = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name](groups, lr=0.05)
    schedule = torch.optim.lr_scheduler.StepLR(reference, step_size=3, gamma=0.3)
    state = optimizer.init(params)
    for _ in range(6):
        gradients = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, gradients), state, params)
        params = optax.apply_updates(params, updates)
        for key, gradient in gradients.items():
            theirs[key].grad = torch.tensor(gradient)
        reference.step()
        schedule.step()
        for key, value in params.items():
            np.testing.assert_allclose(value, theirs[key].detach().numpy(), atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_multipliers_are_torchs_groups_of_another_learning_rate(name):
    """The longest prefix counts, decay too is multiplied, and what is not trained stays."""
    torch = pytest.importorskip("torch", reason="pip install 'jaxau[parity]'")
    factors = {"mask_extractor": 0.5, "mask_extractor/norm": 3.0}
    config = Optim(name, 0.05, weight_decay=0.1, multipliers=factors)
    stage = Stage("frames", 1, 1, trainable=("mask_extractor", "trunk"), optim=config)
    optimizer = optim.make_optimizer(stage, total_steps=4)
    rng = np.random.default_rng(0)

    def draw():
        names = [("trunk", "conv"), ("mask_extractor", "conv"), ("mask_extractor", "norm"), ("rest", "conv")]
        arrays = {path: rng.normal(size=(3, 2)).astype(np.float32) for path in names}
        tree = {top: {} for top, _ in names}
        for (top, below), value in arrays.items():
            tree[top][below] = {"kernel": jnp.asarray(value)}
        return arrays, tree

    start, params = draw()
    theirs = {path: torch.tensor(value, requires_grad=True) for path, value in start.items()}
    rates = dict(zip(theirs, (0.05, 0.025, 0.15), strict=False))
    groups = [{"params": [theirs[path]], "lr": rate} for path, rate in rates.items()]
    if name == "sgd":
        reference = torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=0.1)
    else:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
        reference = kind(groups, weight_decay=0.1)
    state = optimizer.init(params)
    for _ in range(4):
        gradients, tree = draw()
        updates, state = optimizer.update(tree, state, params)
        params = optax.apply_updates(params, updates)
        for path, gradient in gradients.items():
            theirs[path].grad = torch.tensor(gradient)
        reference.step()
        for (top, below), value in theirs.items():
            np.testing.assert_allclose(params[top][below]["kernel"], value.detach().numpy(), atol=1e-5)
    np.testing.assert_array_equal(params["rest"]["conv"]["kernel"], start["rest", "conv"])


def test_a_multiplier_of_nothing_is_refused():
    params = {"trunk": {"kernel": jnp.ones((2, 2))}}
    stage = Stage("frames", 1, 1, optim=Optim(multipliers={"mask_extracter": 0.1}))
    optimizer = optim.make_optimizer(stage, total_steps=1)
    with pytest.raises(ValueError, match=r"multipliers: \['mask_extracter'\] names no parameter.*'trunk'"):
        optimizer.update(params, optimizer.init(params), params)
    values = to_dict(Config("lac", DataConfig("synthetic", (1,), "all"), {"frames": stage}))
    values["stages"]["frames"]["optim"]["multipliers"] = {"trunk": 0.0}
    with pytest.raises(ValueError, match="optim.multipliers.trunk: 0.0 breaks the rule: above 0 and finite"):
        from_dict(values)


@pytest.mark.parametrize(
    ("field", "value", "rule"), [("decay", 0.0, "above 0"), ("periods", 0, "at least 1")]
)
def test_values_of_a_schedule_are_checked(field, value, rule):
    stage = Stage("frames", 1, 1, optim=Optim(schedule="steps", **{field: value}))
    config = Config("aar", DataConfig("synthetic", (1, 2), "synthetic-3fold"), {"frames": stage})
    with pytest.raises(
        ValueError, match=f"config.stages.frames.optim.{field}: {value} breaks the rule: {rule}"
    ):
        from_dict(to_dict(config))
