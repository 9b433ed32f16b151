"""FAN: public outputs at every layer, size, landmark decoding, targets, loss, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxau import complexity, models
from jaxau.models import fan


def _flax_variables(state):
    """Torch's names to ours, written out here as an independent reading of the layout."""
    params, stats = {}, {}
    for name, value in state.items():
        *path, leaf = (
            name.replace("downsample.0", "downsample_bn")
            .replace("downsample.2", "downsample_conv")
            .split(".")
        )
        if leaf == "num_batches_tracked":
            continue
        if leaf == "weight":
            leaf, value = ("kernel", value.transpose(2, 3, 1, 0)) if value.ndim == 4 else ("scale", value)
        ours = {"running_mean": "mean", "running_var": "var"}.get(leaf, leaf)
        tree = stats if leaf.startswith("running") else params
        for key in path:
            tree = tree.setdefault(key, {})
        tree[ours] = jnp.asarray(value)
    return {"params": params, "batch_stats": stats}


def test_equals_ibugs_network_at_every_layer(golden):
    weights, spec, want = golden("fan_2dfan2")
    state = {n: weights.fill(n, tuple(s), spec["seed"], r, spec["gain"]) for n, s, r in spec["parameters"]}
    about = spec["inputs"]["x"]
    x = weights.inputs(tuple(about["shape"]), spec["seed"], "x", about["kind"]).transpose(0, 2, 3, 1)
    network, variables = fan.FAN(), _flax_variables(state)
    fresh = jax.eval_shape(network.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, variables)
    stored = set(spec["outputs"])
    outputs, inner = jax.jit(
        lambda v, x: network.apply(
            v,
            x * 255,
            capture_intermediates=lambda module, _: ".".join(module.path) in stored,
            mutable=["intermediates"],
        )
    )(variables, x)
    got = {
        ".".join(key.key for key in path[:-2]): value
        for path, value in jax.tree_util.tree_leaves_with_path(inner["intermediates"])
    }
    for i in range(2):
        got[f"heatmaps_{i}"] = outputs["heatmaps"][:, i]
        got[f"hourglass_feature_{i}"] = outputs["hourglass"][..., i * 256 : (i + 1) * 256]
    got["features"] = fan.assemble(outputs)
    np.testing.assert_array_equal(outputs["low"], got["conv4"])
    assert set(got) == stored == set(want)
    for key in spec["outputs"]:  # from the first layer on
        value = weights.sample(np.asarray(got[key]).transpose(0, 3, 1, 2), spec["outputs"][key]["step"])
        tolerance = 1e-5 * spec["outputs"][key]["abs_max"]
        np.testing.assert_allclose(value.ravel(), want[key].ravel(), rtol=0, atol=tolerance, err_msg=key)


@pytest.mark.parametrize(
    ("network", "parameters", "macs"),
    [(fan.FAN(), 12_106_504, 13.965e9), (fan.FAN(hourglasses=4, pool="average"), 23_820_176, 25.3e9)],
)
def test_full_size(network, parameters, macs):
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.uint8)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    assert complexity.count_macs(network.apply, variables, image) == pytest.approx(macs, rel=0.01)
    outputs = jax.eval_shape(network.apply, variables, image)
    n, c = network.hourglasses, network.width
    assert {key: value.shape for key, value in outputs.items()} == {
        "heatmaps": (1, n, 64, 64, 68),
        "low": (1, 64, 64, c),
        "hourglass": (1, 64, 64, n * c),
    }


@pytest.mark.parametrize(
    ("gamma", "radius", "suffix"), [(1.0, 0.1, ""), (2.0, 0.1, "_gamma2"), (1.0, 2.0, "_no_mask")]
)
def test_decodes_as_ibugs_predictor(golden, gamma, radius, suffix):
    weights, spec, want = golden("fan_landmark_decoding")
    heatmaps = weights.heatmaps(want["centres"], tuple(spec["size"]), spec["seed"])
    found, scores = fan.decode(jnp.asarray(heatmaps.transpose(0, 2, 3, 1)), radius, gamma)
    np.testing.assert_allclose(found, want[f"landmarks{suffix}"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(scores, want[f"scores{suffix}"], rtol=1e-6)


def _decode_one(heatmap: np.ndarray, radius: float, gamma: float) -> tuple[float, float]:
    """One map, cell by cell, in float64."""
    rows, columns = heatmap.shape
    peak = max(((i, j) for i in range(rows) for j in range(columns)), key=lambda at: heatmap[at])
    x = y = total = 0.0
    for i in range(rows):
        for j in range(columns):
            if np.hypot(i - peak[0], j - peak[1]) <= radius * np.sqrt(rows * columns) and heatmap[i, j] > 0:
                weight = float(heatmap[i, j]) ** gamma
                x, y, total = x + weight * (j + 0.5), y + weight * (i + 0.5), total + weight
    return (x / total, y / total) if total else (0.0, 0.0)


@pytest.mark.parametrize(("radius", "gamma"), [(0.1, 1.0), (0.25, 2.0)])
def test_decoding_equals_a_loop(radius, gamma):
    """Also of maps that are not square, at a border, and without any positive value."""
    heatmaps = np.random.default_rng(0).normal(size=(3, 12, 20, 5)).astype(np.float32)
    heatmaps[0, 0, 0, 0] = heatmaps[0, 11, 19, 1] = heatmaps[0, 0, 19, 2] = 5
    heatmaps[1, :, :, 3] = -1 - np.abs(heatmaps[1, :, :, 3])
    found, scores = jax.jit(fan.decode, static_argnums=(1, 2))(heatmaps, radius, gamma)
    for b in range(3):
        for p in range(5):
            want = _decode_one(heatmaps[b, :, :, p], radius, gamma)
            np.testing.assert_allclose(found[b, p], want, atol=1e-4)
            assert scores[b, p] == heatmaps[b, :, :, p].max()
