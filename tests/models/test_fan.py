"""FAN: public outputs at every layer, size, landmark decoding, targets, loss, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxau import complexity
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


def test_targets_lie_between_cells_and_are_found_again():
    """Pixels to cells and back, off the cells' centres, within a hundredth of a cell."""
    landmarks = np.random.default_rng(1).uniform(40, 210, (2, 68, 2)).astype(np.float32)
    maps, found = jax.jit(lambda x: (y := fan.gaussians(x, 64, 48, 1.0), fan.to_pixels(fan.decode(y)[0])))(
        landmarks
    )
    assert maps.shape == (2, 64, 48, 68)
    inside = landmarks[..., 0] < 150  # of 192 pixels
    b, p = np.argwhere(inside)[0]
    x, y = landmarks[b, p]
    for i, j in ((0, 0), (-2, 1), (1, 2)):  # the centre of a cell, in pixels, is at 4 j + 1.5
        i, j = int(y / 4) + i, int(x / 4) + j
        want = np.exp(-((4 * j + 1.5 - x) ** 2 + (4 * i + 1.5 - y) ** 2) / (2 * 4**2))
        assert maps[b, i, j, p] == pytest.approx(want, rel=1e-3)
    np.testing.assert_allclose(found[inside], landmarks[inside], atol=0.04)


def _faces(points: int, corners: tuple[int, int]):
    """Landmarks of three faces, with the distance of their outer eye corners: the last has none."""
    landmarks = np.random.default_rng(2).uniform(8, 56, (3, points, 2)).astype(np.float32)
    landmarks[:, corners[0]], landmarks[:, corners[1]] = (10, 20), (40, 60)  # 50 pixels
    landmarks[2] = np.nan
    return landmarks


@pytest.mark.parametrize(("points", "corners"), [(68, (36, 45)), (98, (60, 72))])
def test_the_loss_is_that_of_loops(points, corners):
    landmarks, mask = _faces(points, corners), np.array([True, False, True])
    rng = np.random.default_rng(3)
    heatmaps = rng.uniform(0, 0.1, (3, 2, 16, 16, points)).astype(np.float32)
    for p in range(points):  # peaks of the last hourglass, 3 cells wide
        i, j = rng.integers(2, 14, 2)
        heatmaps[0, 1, i - 1 : i + 2, j - 1 : j + 2, p] += 1
    batch = {"landmarks": jnp.asarray(landmarks), "mask": jnp.asarray(mask)}
    loss = fan.LandmarksLoss(sigma=1.5)

    def objective(heatmaps):
        value, terms, state = loss({"heatmaps": heatmaps}, batch, loss.init({}))
        assert state == {} and set(terms) == {"heatmaps", "nme"}
        return value, terms

    (value, terms), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(jnp.asarray(heatmaps))
    squared, distance = 0.0, 0.0
    for p in range(points):  # of the first face alone: the second is padding, the third has no landmarks
        centre = (landmarks[0, p].astype(np.float64) - 1.5) / 4
        j, i = np.meshgrid(np.arange(16), np.arange(16))
        wanted = np.exp(-((j - centre[0]) ** 2 + (i - centre[1]) ** 2) / (2 * 1.5**2))
        for n in range(2):
            squared += ((heatmaps[0, n, :, :, p] - wanted) ** 2).sum() / (2 * points)
        found = 4 * np.array(_decode_one(heatmaps[0, 1, :, :, p], 0.1, 1.0)) - 0.5
        distance += np.hypot(*(found - landmarks[0, p])) / points
    assert value == terms["heatmaps"] == pytest.approx(squared, rel=1e-5)
    assert terms["nme"] == pytest.approx(distance / 50, rel=1e-4)
    assert np.isfinite(gradient).all() and not gradient[1:].any() and gradient[0].any()


def test_what_does_not_fit_is_told():
    landmarks = jnp.zeros((1, 98, 2))
    batch = {"landmarks": landmarks, "mask": jnp.ones(1, bool)}
    with pytest.raises(ValueError, match=r"config.network.points: 68, but the corpus has 98 landmarks"):
        fan.LandmarksLoss()({"heatmaps": jnp.zeros((1, 2, 16, 16, 68))}, batch, {})
    with pytest.raises(ValueError, match=r"49 landmarks: an error is measured on 68 or 98"):
        fan.normalized_error(landmarks[:, :49], landmarks[:, :49])
    with pytest.raises(ValueError, match=r"loss.sigma: 0 must be above 0"):
        fan.LandmarksLoss(sigma=0)
    for network, side, message in (
        (fan.FAN(width=16), 96, r"image of 96 x 96 pixels: sides must be multiples of 64"),
        (fan.FAN(width=24), 64, r"width 24: must be a multiple of 16"),
    ):
        image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(network.init, jax.random.key(0), image)
