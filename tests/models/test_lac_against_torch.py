"""LAC against an independent PyTorch twin with the same weights: outputs, loss terms, gradients, weights."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxau import models
from jaxau.config import Config, DataConfig, Stage
from jaxau.train import TrainState, loss_and_gradients

torch = pytest.importorskip("torch", reason="pip install 'jaxau[parity]'")
from torch_reference import lac as twin_lac  # noqa: E402  (needs torch)

AUS = (1, 4, 6, 12, 25)
SMALL = dict(block="basic", stage_sizes=(1, 1), widths=(8, 12), stem="3x3", features=6)
SMALL_BOTTLENECK = dict(block="bottleneck", stage_sizes=(1, 2), widths=(4, 6), stem="7x7", features=10)
FULL = dict(
    block="bottleneck", stage_sizes=(3, 4, 6, 3), widths=(64, 128, 256, 512), stem="7x7", features=512
)
STATISTICS = {"n_occ": np.array([50, 25, 40, 10, 60]), "n_coded": np.full(5, 100)}


def _twins(network, temporal, kind, dtype):
    """The same weights in both, none at a value that would hide a mistake."""
    torch.manual_seed(0)
    twin = twin_lac.LAC(AUS, temporal, **network)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
        # Scores of both signs, without which the softmax does not see a node's own part of them.
        twin.reduce.weight *= 3 * twin.trunk.channels**0.5
        twin.gat.a.copy_(torch.randn_like(twin.gat.a) * (8 / len(twin.gat.a)) ** 0.5)
        if temporal:
            twin.lstm.bias_hh_l0.zero_()  # redundant beside bias_ih_l0
    twin = twin.to(getattr(torch, dtype))
    stage = Stage("clips" if temporal else "frames", 1, 2, loss={"classification": kind})
    data = DataConfig("synthetic", AUS, "synthetic-3fold")
    config = Config("lac", data, {stage.view: stage}, network, dtype=dtype)
    of_stage = models.create_loss(config, stage.view), stage, models.role(config, stage.view)
    ours = models.create(config, stage.view), *of_stage
    return twin, ours, twin_lac.Loss(kind, STATISTICS["n_occ"], STATISTICS["n_coded"])


def _batch(lead, side, seed):
    rng, k = np.random.default_rng(seed), len(AUS)
    batch = {
        # Black or white, so that normalising is exact in each precision.
        "image": rng.choice(np.array([0, 255], np.uint8), (*lead, side, side, 3)),
        "au": rng.integers(0, 2, (*lead, k)),
        "au_mask": rng.random((*lead, k)) < 0.9,
        "mask": np.ones(lead, bool),
        # Some regions reach over the border, far enough for points that count as 0.
        "au_centers": rng.uniform(-0.05 * side, 1.05 * side, (*lead, k, 2, 2)).astype(np.float32),
        "au_centers_mask": rng.random((*lead, k)) < 0.9,
    }
    batch["mask"].flat[-1] = False
    return batch


def _close(got, want, name):
    assert np.shape(got) == np.shape(want), name
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max(), err_msg=name)


def _compare(network, temporal, kind, lead, side, dtype="float32"):
    twin, (ours, loss, stage, role), twin_loss = _twins(network, temporal, kind, dtype)
    params = jax.tree.map(jnp.asarray, twin_lac.in_jaxaus_layout(twin, dict(twin.named_parameters())))
    image = jnp.zeros((1, *lead[1:], side, side, 3), jnp.uint8)
    fresh = jax.eval_shape(ours.init, jax.random.key(0), image)
    chex.assert_trees_all_equal_shapes(params, fresh["params"])
    stats = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), fresh["batch_stats"])
    state = TrainState(
        step=jnp.int32(0), params=params, batch_stats=stats, opt_state=(), ema_params={},
        loss_state=loss.init(STATISTICS), rng=jax.random.key(0),
    )  # fmt: skip
    step = jax.jit(partial(loss_and_gradients, ours, loss, stage, role))
    forward = jax.jit(partial(ours.apply, train=True, mutable=["batch_stats"]))
    for epoch in range(2):  # the second one under the weights that the first one's recall and rates give
        for seed in range(2):
            batch = _batch(lead, side, 10 * epoch + seed)
            outputs, _ = forward({"params": params, "batch_stats": stats}, batch["image"])
            gradients, terms, _, loss_state = step(state, batch)
            state = state.replace(loss_state=loss_state)
            twin.zero_grad()
            tensors = {name: torch.as_tensor(value) for name, value in batch.items()}
            their_outputs = twin(tensors["image"])
            total, their_terms = twin_loss(their_outputs, tensors)
            total.backward()
            for name, value in their_outputs.items():
                _close(outputs[name], value.detach().numpy(), name)
            for name, value in {"loss": total, **their_terms}.items():
                _close(terms[name], value.item(), name)
        gradient = {name: value.grad for name, value in twin.named_parameters()}
        want = twin_lac.in_jaxaus_layout(twin, gradient)
        chex.assert_trees_all_equal_structs(gradients, want)
        for path, value in jax.tree_util.tree_leaves_with_path(want):
            assert np.abs(value).max() > 1e-6, path
        jax.tree_util.tree_map_with_path(lambda path, g, w: _close(g, w, str(path)), gradients, want)
        state = state.replace(loss_state=loss.end_epoch(state.loss_state))
        twin_loss.end_epoch()
        if kind == "dwa":
            for name, value in (("difficulty", "w_diff"), ("distribution", "w_dist"), ("weights", "w")):
                _close(state.loss_state[name], getattr(twin_loss, value).numpy(), name)
    changed = np.abs(state.loss_state["weights"] - loss.init(STATISTICS)["weights"]).max()
    assert (changed > 0.02) == (kind == "dwa")


@pytest.mark.parametrize("kind", ["dwa", "wa", "ce"])
def test_stills(kind):
    _compare(SMALL, False, kind, (6,), 32)


@pytest.mark.parametrize("network", [SMALL, SMALL_BOTTLENECK])
def test_clips(network):
    _compare(network, True, "dwa", (2, 3), 48)


@pytest.mark.slow
def test_full_size():
    """In float64, since in float32 a rounding error switches some of a million ReLUs."""
    with jax.enable_x64(True):
        _compare(FULL, True, "dwa", (1, 4), 224, "float64")
