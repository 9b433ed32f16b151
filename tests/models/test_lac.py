"""LAC: size, shapes, each equation against float64 loops and hand-computed cases, learning."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxau import models
from jaxau.models import lac

SMALL = dict(block="basic", stage_sizes=(1, 1), widths=(8, 12), stem="3x3", features=6)
AUS = (1, 4, 6, 12, 25)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_full_size_is_the_papers():
    """Table VIII: 27.2 M parameters, 66.8 G multiply-accumulates for 16 frames."""
    info = models.describe("lac", 12)
    assert round(info["parameters"] / 1e6, 2) == 27.21
    assert info["macs"] == pytest.approx(66.5e9, rel=0.01)
    assert models.describe("lac", 8)["parameters"] < info["parameters"]


@pytest.mark.parametrize("temporal", [False, True])
def test_shapes(temporal):
    network = lac.LAC(AUS, temporal, **SMALL)
    time = (3,) if temporal else ()
    image = jnp.zeros((2, *time, 32, 32, 3), jnp.uint8)
    outputs, variables = network.init_with_output(jax.random.key(0), image)
    chex.assert_shape([outputs["logits"], outputs["lock_logits"]], (2, *time, 5))
    chex.assert_shape(outputs["attention"], (2, *time, 4, 4, 5))
    chex.assert_shape(outputs["feature_norm"], (2, *time, 4, 4))
    assert ("lstm" in variables["params"]) == temporal


@pytest.mark.parametrize("temporal", [False, True])
def test_what_checks_decides_what_is_there(temporal):
    image = jnp.zeros((1, 2, 32, 32, 3), jnp.uint8)
    found = {}
    for check in ("none", "linear", "spatial_temporal"):
        network = lac.LAC(AUS, temporal, check=check, **SMALL)
        outputs, variables = network.init_with_output(jax.random.key(0), image)
        found[check] = set(variables["params"])
        chex.assert_shape(outputs["logits"], (1, 2, 5))
        same = bool((outputs["logits"] == outputs["lock_logits"]).all())
        assert same == (check == "none")
    classifier, module = {"reduce", "classifier_weight", "classifier_bias"}, {"relations"}
    assert found["none"] == {"trunk", "au_weights"}
    assert found["linear"] == found["none"] | classifier
    assert found["spatial_temporal"] == found["linear"] | module | ({"lstm"} if temporal else set())


def test_stills_and_clips_agree_before_the_lstm():
    """The maps of a clip are those of its frames: only the LSTM looks across time."""
    network = lac.LAC(AUS, True, **SMALL)
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32, 3)), jnp.uint8)
    variables = network.init(jax.random.key(0), image)
    still = lac.LAC(AUS, False, **SMALL)
    params = {k: v for k, v in variables["params"].items() if k != "lstm"}
    clip_out = network.apply(variables, image)
    still_out = still.apply({**variables, "params": params}, image.reshape(6, 32, 32, 3))
    for key in ("attention", "lock_logits", "feature_norm"):
        got = clip_out[key].reshape(still_out[key].shape)
        np.testing.assert_allclose(got, still_out[key], atol=1e-5)


def test_equations_1_to_11_against_loops():
    """Everything behind the trunk, written out in float64 loops from the paper's equations."""
    network = lac.LAC(AUS, False, **SMALL)
    image = jnp.asarray(np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3)), jnp.uint8)
    variables = network.init(jax.random.key(3), image)
    outputs, inner = network.apply(
        variables, image, capture_intermediates=lambda m, _: m.name == "trunk", mutable=["intermediates"]
    )
    f = np.asarray(inner["intermediates"]["trunk"]["__call__"][0], np.float64)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    regions = ["upper", "upper", "middle", "lower", "lower"]
    b, height, width, _ = f.shape
    for n in range(b):
        y, vectors = [], []
        for w in p["au_weights"]:
            total, vector = 0.0, 0.0
            for i in range(height):
                for j in range(width):
                    cell = f[n, i, j]
                    norms = np.linalg.norm(w) * np.linalg.norm(cell)
                    cosine = w @ cell / norms if norms else 0.0
                    total += norms * cosine  # Eq. 3
                    vector = vector + cosine * cell
                    k = len(y)
                    np.testing.assert_allclose(outputs["attention"][n, i, j, k], cosine, atol=2e-5)
            y.append(total / (height * width))
            vectors.append(vector / (height * width) @ p["reduce"]["kernel"] + p["reduce"]["bias"])
        np.testing.assert_allclose(outputs["lock_logits"][n], y, atol=1e-5)
        gat, projected = p["relations"], [v @ p["relations"]["linear"]["kernel"] for v in vectors]
        for i in range(len(AUS)):
            neighbors = [j for j in range(len(AUS)) if i == j or regions[i] != regions[j]]
            scores = []
            for j in neighbors:  # Eq. 7
                e = (
                    projected[i] @ gat["score_self"]["kernel"]
                    + projected[j] @ gat["score_neighbor"]["kernel"]
                )
                scores.append(float(e[0]) if e[0] > 0 else 0.2 * float(e[0]))
            gamma = np.exp(scores) / np.exp(scores).sum()  # Eq. 8
            v = sum(g * projected[j] for g, j in zip(gamma, neighbors, strict=True))
            v = v + vectors[i] @ gat["residual"]["kernel"] + gat["bias"]
            related = np.where(v > 0, v, np.exp(np.minimum(v, 0)) - 1)  # Eq. 9
            alpha = abs(_sigmoid(y[i]) - 0.5) / 0.5  # Eq. 10
            updated = alpha * vectors[i] + (1 - alpha) * related  # Eq. 11
            logit = updated @ p["classifier_weight"][i] + p["classifier_bias"][i]
            np.testing.assert_allclose(outputs["logits"][n, i], logit, atol=1e-4)


def test_lock_by_hand():
    """Eqs. 1-3: two cells, two channels; AU weights along (3, 4) and along the second channel."""
    f = jnp.array([[[3.0, 4.0], [0.0, 2.0]]])  # norms 5 and 2
    w_c = jnp.array([[6.0, 8.0], [0.0, -1.0]])  # norms 10 and 1
    logits, attention, norm = lac.lock(f, w_c)
    np.testing.assert_allclose(norm, [[5.0, 2.0]], rtol=1e-6)
    np.testing.assert_allclose(attention, [[[1.0, -0.8], [0.8, -1.0]]], rtol=1e-6)
    # y' = mean of |w| |F| cos: (10 * 5 * 1 + 10 * 2 * .8) / 2 and (-5 * .8 - 2) / 2
    np.testing.assert_allclose(logits, [33.0, -3.0], rtol=1e-6)


def test_confidence_by_hand():
    """Eqs. 10, 11: p = .5 listens wholly, p = .75 by half, p = 1 not at all."""
    v, related = jnp.full((3, 2), 4.0), jnp.full((3, 2), -2.0)
    got = lac.keep_confident(v, related, jnp.array([0.0, np.log(3.0), 50.0]))
    np.testing.assert_allclose(got[:, 0], [-2.0, 1.0, 4.0], rtol=1e-5)


def test_neighbors_are_the_other_regions():
    """AUs 1 (upper), 6 (middle), 12 and 25 (lower), by hand."""
    assert lac.cross_region_neighbors((1, 6, 12, 25)) == (
        (True, True, True, True),
        (True, True, True, True),
        (True, True, True, False),
        (True, True, False, True),
    )


def test_region_losses_by_hand():
    """One AU, a 4 x 4 map, regions that are exactly its left and right upper quarters."""
    norm = np.ones((1, 4, 4))
    norm[0, :2], norm[0, 3, 3] = 3.0, 4.0  # the maximum is 4, so regions hold 3 / 4 of it
    attention = np.zeros((1, 4, 4, 1))
    attention[0, :2, :2], attention[0, :2, 2:] = 0.8, 0.4  # map mean (0.8 + 0.4) / 4 = 0.3
    centers = np.array([[[[0.25, 0.25], [0.75, 0.25]]]])
    arguments = (jnp.asarray(centers, jnp.float32), 0.25, 2)  # sampled well inside the quarters
    on, off, mask = jnp.ones((1, 1)), jnp.zeros((1, 1)), jnp.ones((1, 1), bool)
    terms = lac.region_losses(jnp.asarray(attention), jnp.asarray(norm), on, mask, *arguments)
    np.testing.assert_allclose(terms["localization"], -0.75, rtol=1e-5)  # Eq. 4
    np.testing.assert_allclose(terms["activation"], -0.6, rtol=1e-5)  # Eq. 5, positive
    np.testing.assert_allclose(terms["consistency"], (0.5**2 + 0.1**2) / 2, rtol=1e-5)  # Eq. 6
    terms = lac.region_losses(jnp.asarray(attention), jnp.asarray(norm), off, mask, *arguments)
    np.testing.assert_allclose(terms["activation"], 0.6, rtol=1e-5)  # Eq. 5, negative
    terms = lac.region_losses(jnp.asarray(attention), jnp.asarray(norm), on, ~mask, *arguments)
    assert all(value == 0 for value in terms.values())


def test_region_losses_against_loops():
    rng = np.random.default_rng(0)
    b, h, w, k, bins, size = 3, 6, 6, 4, 2, 0.3
    attention, norm = rng.uniform(-1, 1, (b, h, w, k)), rng.uniform(0.1, 2, (b, h, w))
    labels, mask = rng.integers(0, 2, (b, k)), rng.random((b, k)) < 0.8
    centers = rng.uniform(0.1, 0.9, (b, k, 2, 2))

    def pooled(image, center):  # RoIAlign, 2 x 2 samples a bin
        values = np.zeros((bins, bins))
        for p in range(bins):
            for q in range(bins):
                for sy in range(2):
                    for sx in range(2):
                        y = (center[1] - size / 2 + size * (p + (sy + 0.5) / 2) / bins) * h - 0.5
                        x = (center[0] - size / 2 + size * (q + (sx + 0.5) / 2) / bins) * w - 0.5
                        if not (-1 <= y <= h and -1 <= x <= w):
                            continue
                        y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
                        y0, x0 = min(int(y), h - 2), min(int(x), w - 2)
                        fy, fx = y - y0, x - x0
                        values[p, q] += (
                            (1 - fy) * ((1 - fx) * image[y0, x0] + fx * image[y0, x0 + 1])
                            + fy * ((1 - fx) * image[y0 + 1, x0] + fx * image[y0 + 1, x0 + 1])
                        ) / 4
        return values

    loc, pos, neg, l2g = [], [], [], []
    for n in range(b):
        for i in range(k):
            if not mask[n, i]:
                continue
            maps = [pooled(attention[n, :, :, i], c).mean() for c in centers[n, i]]
            norms = [pooled(norm[n] / norm[n].max(), c).mean() for c in centers[n, i]]
            loc.append(np.mean(norms))
            (pos if labels[n, i] else neg).append(np.mean(maps))
            l2g.append(sum((m - attention[n, :, :, i].mean()) ** 2 for m in maps) / 2)
    terms = lac.region_losses(
        *(jnp.asarray(v, jnp.float32) for v in (attention, norm, labels)),
        jnp.asarray(mask), jnp.asarray(centers, jnp.float32), size, bins,
    )  # fmt: skip
    np.testing.assert_allclose(terms["localization"], -np.mean(loc), rtol=1e-4)
    np.testing.assert_allclose(terms["activation"], np.mean(neg) - np.mean(pos), rtol=1e-4)
    np.testing.assert_allclose(terms["consistency"], np.mean(l2g), rtol=1e-4)


def _batch(image, labels, time=()):
    b, k = labels.shape[0], labels.shape[-1]
    lead = (b, *time)
    centers = np.broadcast_to(np.array([[12.0, 10.0], [20.0, 10.0]], np.float32), (*lead, k, 2, 2))
    return {
        "image": jnp.asarray(image),
        "au": jnp.asarray(labels),
        "au_mask": jnp.ones((*lead, k), bool),
        "mask": jnp.ones(lead, bool),
        "au_centers": jnp.asarray(centers),
        "au_centers_mask": jnp.ones((*lead, k), bool),
    }


def test_dynamic_weights_by_hand():
    """Eqs. 13-15 for two AUs with rates .5 and .25, of which 2 of 2 and 0 of 1 positives are found."""
    loss = lac.LACLoss()
    state = loss.init({"n_occ": np.array([50, 25]), "n_coded": np.array([100, 100])})
    start = np.array([2.0, 4.0]) / 6 * 2
    np.testing.assert_allclose(state["weights"], start, rtol=1e-6)
    outputs = {
        "logits": jnp.array([[3.0, -2.0], [1.0, -1.0], [-4.0, 2.0], [-1.0, -3.0]]),
        "lock_logits": jnp.zeros((4, 2)),
        "attention": jnp.zeros((4, 2, 2, 2)),
        "feature_norm": jnp.ones((4, 2, 2)),
    }
    batch = _batch(np.zeros((4, 32, 32, 3), np.uint8), np.array([[1, 0], [1, 1], [0, 0], [0, 0]]))
    _, _, state = loss(outputs, batch, state)
    np.testing.assert_array_equal(state["true_positives"], [2, 0])
    np.testing.assert_array_equal(state["positives"], [2, 1])
    logged = loss.epoch_metrics(state, (1, 12))
    assert {name: round(float(value), 5) for name, value in logged.items()} == {
        "distribution/AU01": 0.5, "distribution/AU12": 0.25, "recall/AU01": 1.0, "recall/AU12": 0.0,
        "weight/AU01": 0.66667, "weight/AU12": 1.33333,  # those of this epoch, so of the training split
        "difficulty_weight/AU01": 0.66667, "difficulty_weight/AU12": 1.33333,
        "distribution_weight/AU01": 0.66667, "distribution_weight/AU12": 1.33333,
    }  # fmt: skip
    state = loss.end_epoch(state)
    # Recall 1 and 0 (counts as .1): reciprocals 1 and 10; rates 1/2 and 1/4: 2 and 4; both scaled to sum 2.
    w_diff = 0.9 * start + 0.1 * np.array([1.0, 10.0]) / 11 * 2  # Eq. 13
    w_dist = 0.9 * start + 0.1 * np.array([2.0, 4.0]) / 6 * 2  # Eq. 14
    w = 0.5 * w_diff + 0.5 * w_dist  # Eq. 15
    np.testing.assert_allclose(state["difficulty"], w_diff, rtol=1e-5)
    np.testing.assert_allclose(state["distribution"], w_dist, rtol=1e-5)
    np.testing.assert_allclose(state["weights"], w, rtol=1e-5)
    np.testing.assert_array_equal(state["positives"], [0, 0])


@pytest.mark.parametrize("kind", ["wa", "ce"])
def test_fixed_weights_stay_and_counts_begin_anew(kind):
    loss = lac.LACLoss(classification=kind)
    state = loss.init({"n_occ": np.array([50, 25]), "n_coded": np.array([100, 100])})
    counts = {
        "true_positives": jnp.array([1.0, 2.0]),
        "positives": jnp.full(2, 4.0),
        "coded": jnp.full(2, 8.0),
    }
    assert set(loss.epoch_metrics({**state, **counts}, (1, 12))) == {
        f"{name}/AU{au}" for name in ("distribution", "recall") for au in ("01", "12")
    }
    chex.assert_trees_all_equal(loss.end_epoch({**state, **counts}), state)


def test_total_is_equation_17_and_dwa_uses_its_weights():
    loss = lac.LACLoss(localization=0.5, activation=0.5, consistency=0.01, lock=0.5, check=1.0)
    state = loss.init({"n_occ": np.array([50, 25]), "n_coded": np.array([100, 100])})
    state["weights"] = jnp.array([0.5, 1.5])
    rng = np.random.default_rng(0)
    logits, lock = rng.normal(size=(2, 3, 2))
    labels = np.array([[1, 0], [0, 1], [1, 1]])
    outputs = {
        "logits": jnp.asarray(logits),
        "lock_logits": jnp.asarray(lock),
        "attention": jnp.asarray(rng.uniform(-1, 1, (3, 4, 4, 2))),
        "feature_norm": jnp.asarray(rng.uniform(0, 1, (3, 4, 4))),
    }
    total, terms, _ = loss(outputs, _batch(np.zeros((3, 32, 32, 3), np.uint8), labels), state)

    def dwa(z):  # Eq. 16
        p = _sigmoid(z)
        return np.mean(-np.array([0.5, 1.5]) * (labels * np.log(p) + (1 - labels) * p * np.log(1 - p)))

    np.testing.assert_allclose(terms["lock"], dwa(lock), rtol=1e-5)
    np.testing.assert_allclose(terms["check"], dwa(logits), rtol=1e-5)
    expected = 0.5 * terms["localization"] + 0.5 * terms["activation"] + 0.01 * terms["consistency"]
    np.testing.assert_allclose(total, expected + 0.5 * dwa(lock) + dwa(logits), rtol=1e-5)


def test_padded_frames_and_uncoded_labels_change_nothing():
    loss = lac.LACLoss()
    state = loss.init({"n_occ": np.array([50, 25]), "n_coded": np.array([100, 100])})
    rng = np.random.default_rng(0)
    outputs = {
        "logits": jnp.asarray(rng.normal(size=(2, 3, 2))),
        "lock_logits": jnp.asarray(rng.normal(size=(2, 3, 2))),
        "attention": jnp.asarray(rng.uniform(-1, 1, (2, 3, 4, 4, 2))),
        "feature_norm": jnp.asarray(rng.uniform(0, 1, (2, 3, 4, 4))),
    }
    labels = rng.integers(0, 2, (2, 3, 2))
    batch = _batch(np.zeros((2, 3, 32, 32, 3), np.uint8), labels, time=(3,))
    batch["mask"] = jnp.array([[True, True, False], [True, True, True]])
    batch["au_mask"] = batch["au_mask"].at[1, 0, 1].set(False)
    first = loss(outputs, batch, state)
    batch["au"] = batch["au"].at[0, 2].set(1 - batch["au"][0, 2]).at[1, 0, 1].set(9)
    outputs["logits"] = outputs["logits"].at[0, 2].set(50.0)
    chex.assert_trees_all_equal(first, loss(outputs, batch, state))


@pytest.mark.parametrize("temporal", [False, True])
def test_a_small_network_learns(temporal):
    """It fits a few labelled noise images: the loss falls, and every label is right at the end."""
    rng = np.random.default_rng(0)
    time = (2,) if temporal else ()
    image = rng.integers(0, 256, (6, *time, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 2, (6, *time, 5))
    network, loss = lac.LAC(AUS, temporal, **SMALL), lac.LACLoss(classification="ce")
    variables = network.init(jax.random.key(0), jnp.asarray(image))
    params, stats, batch = variables["params"], variables["batch_stats"], _batch(image, labels, time)
    state, optimizer = loss.init({"n_occ": np.full(5, 50), "n_coded": np.full(5, 100)}), optax.adam(1e-2)
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, stats, opt_state):
        def objective(params):
            out, new = network.apply(
                {"params": params, "batch_stats": stats}, batch["image"], train=True, mutable=["batch_stats"]
            )
            return loss(out, batch, state)[0], (new["batch_stats"], out["logits"])

        (value, (stats_, logits)), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state_ = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), stats_, opt_state_, value, logits

    values = []
    for _ in range(120):
        params, stats, opt_state, value, logits = step(params, stats, opt_state)
        values.append(float(value))
    assert values[-1] < values[0] - 0.5
    np.testing.assert_array_equal(logits > 0, labels)


def test_unknown_fields_are_named():
    from jaxau.config import Config, DataConfig, Stage

    data = DataConfig("synthetic", (1, 2), "synthetic-3fold", image_size=32)
    config = Config("lac", data, {"frames": Stage("frames", 1, 2)}, network={"feature": 3})
    with pytest.raises(ValueError, match=r"config.network.feature: unknown field, did you mean 'features'"):
        models.create(config, "frames")
    config = Config("lac", data, {"frames": Stage("frames", 1, 2, loss={"chek": 1.0})})
    with pytest.raises(ValueError, match=r"config.stages.frames.loss.chek: unknown field, did you mean"):
        models.create_loss(config, "frames")


@pytest.mark.parametrize(
    ("network", "loss", "message"),
    [
        ({"stem": "9x9"}, {}, r"config.network.stem: '9x9' is not one of \['7x7', '3x3'\]"),
        ({"features": 3.5}, {}, r"config.network.features: expected int, got 3.5"),
        (
            {},
            {"classification": "focal"},
            r"loss.classification: 'focal' is not one of \['dwa', 'wa', 'ce'\]",
        ),
        ({}, {"difficulty_decay": 2.0}, r"loss.difficulty_decay: 2.0 must be in \[0, 1\]"),
        ({}, {"roi_bins": 0}, r"must be above 0"),
    ],
)
def test_values_are_checked_not_only_names(network, loss, message):
    """A mistyped ablation must not train something else."""
    from jaxau.config import Config, DataConfig, Stage

    data = DataConfig("synthetic", (1, 2), "synthetic-3fold", image_size=32)
    config = Config("lac", data, {"frames": Stage("frames", 1, 2, loss=loss)}, network=network)
    with pytest.raises(ValueError, match=message):
        models.create(config, "frames")
        models.create_loss(config, "frames")


def test_widths_must_match_the_stages():
    network = lac.LAC(AUS, False, **{**SMALL, "widths": (8, 12, 16)})
    with pytest.raises(ValueError, match=r"stage_sizes \(1, 1\) and widths \(8, 12, 16\): give one width"):
        network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3), jnp.uint8))
