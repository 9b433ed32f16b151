"""Shared blocks against public PyTorch outputs, PyTorch's own modules, and cases computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxau.models import layers


def roi_align(features, boxes, scale, output_size):
    """RoIAlign of maps (n, h, w, c) in boxes (n, r, 4) of image pixels, by its two matrices."""
    x1, y1, x2, y2 = jnp.moveaxis(boxes * scale - 0.5, -1, 0)
    rows = layers.roi_weights(y1, y2, features.shape[1], output_size[0])
    columns = layers.roi_weights(x1, x2, features.shape[2], output_size[1])
    return jnp.einsum("nrph,nhwc,nrqw->nrpqc", rows, features, columns)


@pytest.mark.parametrize("case", ["stride32", "stride32_3x3", "stride16_wide", "stride1"])
def test_roi_align_equals_the_compiled_operator(golden, case):
    weights, spec, want = golden("roi_align")
    about = spec["inputs"][f"roi_{case}"]
    maps = weights.inputs(tuple(about["shape"]), spec["seed"], f"roi_{case}", about["kind"])
    for box, expected in zip(want[f"boxes_{case}"], want[f"output_{case}"], strict=True):
        features = maps[int(box[0])].transpose(1, 2, 0)[None]
        got = roi_align(features, box[None, None, 1:], about["spatial_scale"], about["output_size"])
        np.testing.assert_allclose(got[0, 0].transpose(2, 0, 1), expected, atol=1e-5)


def test_roi_align_by_hand():
    # A ramp along x: the mean of a bin is the ramp at the bin's centre, minus half a cell (aligned).
    ramp = jnp.tile(jnp.arange(8.0), (8, 1))[None, :, :, None]
    got = roi_align(ramp, jnp.array([[[2.0, 2.0, 6.0, 6.0]]]), 1.0, (1, 2))
    np.testing.assert_allclose(got[0, 0, 0, :, 0], [2.5, 4.5], atol=1e-6)


@pytest.mark.parametrize(("corpus", "k"), [("bp4d", 12), ("disfa", 8)])
def test_graph_attention_equals_mdhr(golden, corpus, k):
    """MDHR's public layer has the identity as residual at equal widths; ours projects, so project by 1."""
    weights, spec, want = golden("mdhr_gat")
    state = {n: weights.fill(n, tuple(s), spec["seed"], r, spec["gain"]) for n, s, r in spec["parameters"]}
    x = weights.inputs((3, k, 512), spec["seed"], f"x_{corpus}", "normal")
    adjacency = tuple(map(tuple, want[f"{corpus}_all_active_adjacency"][0] > 0))
    params = {
        "linear": {"kernel": state[f"{corpus}.linear.weight"].T},
        "residual": {"kernel": np.eye(512, dtype=np.float32)},
        # MDHR adds its source score along rows and its target score along columns.
        "score_self": {"kernel": state[f"{corpus}.scoring_fn_source"][0].T},
        "score_neighbor": {"kernel": state[f"{corpus}.scoring_fn_target"][0].T},
        "bias": state[f"{corpus}.bias"],
    }
    got = layers.GraphAttention(512, adjacency).apply({"params": params}, x)
    expected = want[f"{corpus}_all_active_output"]
    got = weights.sample(np.asarray(got), spec["outputs"][f"{corpus}_all_active_output"]["step"])
    np.testing.assert_allclose(got, expected.reshape(-1), atol=1e-5 * np.abs(expected).max())


def test_graph_attention_by_hand():
    """Two nodes that see only each other: the attention is 1, whatever the scores (Eqs. 7-9)."""
    x = jnp.array([[1.0, 2.0], [3.0, -4.0]])
    layer = layers.GraphAttention(2, ((False, True), (True, False)))
    params = {
        "linear": {"kernel": jnp.eye(2)},
        "residual": {"kernel": jnp.zeros((2, 2))},
        "score_self": {"kernel": jnp.ones((2, 1))},
        "score_neighbor": {"kernel": jnp.ones((2, 1))},
        "bias": jnp.zeros(2),
    }
    got = layer.apply({"params": params}, x)
    np.testing.assert_allclose(got, [[3.0, np.exp(-4.0) - 1], [1.0, 2.0]], rtol=1e-6)
    # All see all: scores 3 and -1 from the sources; node 1's own part 3 gives 6 and 2 before the softmax.
    layer = layers.GraphAttention(2, ((True, True), (True, True)))
    weights = np.exp([6.0, 2.0]) / np.exp([6.0, 2.0]).sum()
    expected = weights[0] * np.array([1.0, 2.0]) + weights[1] * np.array([3.0, -4.0])
    np.testing.assert_allclose(layer.apply({"params": params}, x)[0], expected, rtol=1e-5)


def _torch_lstm(torch, features, inputs):
    module = torch.nn.LSTM(inputs, features, batch_first=True)
    state = {name: value.detach().numpy() for name, value in module.named_parameters()}
    params = {
        "kernel": state["weight_ih_l0"].T,
        "recurrent": state["weight_hh_l0"].T,
        "bias": state["bias_ih_l0"] + state["bias_hh_l0"],
    }
    return module, {"params": params}


def test_lstm_equals_pytorch():
    torch = pytest.importorskip("torch", reason="pip install 'jaxau[parity]'")
    torch.manual_seed(0)
    module, variables = _torch_lstm(torch, features=8, inputs=5)
    x = np.random.default_rng(0).normal(size=(3, 11, 5)).astype(np.float32)
    inputs = torch.from_numpy(x).requires_grad_()
    output = module(inputs)[0]
    (output**2).sum().backward()

    def objective(x):
        return (layers.LSTM(8).apply(variables, x) ** 2).sum()

    np.testing.assert_allclose(layers.LSTM(8).apply(variables, x), output.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(jax.grad(objective)(x), inputs.grad.numpy(), atol=1e-5)


def test_lstm_by_hand():
    """One unit, two steps: gates in the order input, forget, cell, output."""
    params = {
        "kernel": jnp.array([[0.5, -1.0, 2.0, 0.25]]),
        "recurrent": jnp.array([[0.1, 0.2, 0.3, 0.4]]),
        "bias": jnp.array([0.0, 1.0, 0.0, -0.5]),
    }
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    hidden = cell = 0.0
    expected = []
    for x in (1.0, -2.0):
        i, f = sigmoid(0.5 * x + 0.1 * hidden), sigmoid(-x + 0.2 * hidden + 1)
        g, o = np.tanh(2 * x + 0.3 * hidden), sigmoid(0.25 * x + 0.4 * hidden - 0.5)
        cell = f * cell + i * g
        hidden = o * np.tanh(cell)
        expected.append(hidden)
    got = layers.LSTM(1).apply({"params": params}, jnp.array([[[1.0], [-2.0]]]))
    np.testing.assert_allclose(got[0, :, 0], expected, rtol=1e-6)


def test_lstm_sees_only_the_past():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(1, 6, 3)), jnp.float32)
    variables = layers.LSTM(4).init(jax.random.key(0), x)
    changed = x.at[0, 4].add(1.0)
    a, b = layers.LSTM(4).apply(variables, x), layers.LSTM(4).apply(variables, changed)
    np.testing.assert_array_equal(a[0, :4], b[0, :4])
    assert np.abs(a[0, 4:] - b[0, 4:]).min() > 0
