"""AAR: size, shapes, region layers against public outputs, equations against loops, streaming, losses."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxau import complexity, facs, models
from jaxau.models import aar

AUS = (1, 4, 25)
STATISTICS = {"n": 100, "n_occ": np.array([50, 20, 40]), "n_coded": np.array([100, 100, 80])}


def _sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def _sizes(params):
    return {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in params.items()}


def test_full_size():
    """facts: 6.29 M (8 AUs: 4.73 M) and .886 M parameters, 9.57 G multiply-accumulates a frame."""
    clip = jax.ShapeDtypeStruct((1, 1, 176, 176, 3), jnp.uint8)
    for corpus, million in (("bp4d", 6.29), ("disfa", 4.73)):
        network = aar.AAR(facs.CORPUS_AUS[corpus])
        variables = jax.eval_shape(network.init, jax.random.key(0), clip)
        sizes = _sizes(variables["params"])
        assert round(sizes["attention_network"] / 1e6, 2) == million
        assert round(sizes["graph_network"] / 1e6, 3) == 0.886
        if corpus == "bp4d":
            still = jax.ShapeDtypeStruct((1, 176, 176, 3), jnp.uint8)
            alone = aar.AAR(network.aus, temporal=False)
            assert complexity.count_macs(alone.apply, variables, still) == pytest.approx(9.57e9, rel=0.002)
            assert complexity.count_macs(network.apply, variables, clip) == pytest.approx(9.57e9, rel=0.01)
    info = models.describe("aar", 12)
    assert info["parameters"] == pytest.approx(6.29e6 + 0.886e6, rel=1e-3)
    assert info["macs"] == pytest.approx(9.57e9, rel=0.01)


def test_stills_clips_and_features_agree():
    """A clip is its frames' features and the graph network on them; each network has its own prefix."""
    network, stills = aar.AAR(AUS, width=1), aar.AAR(AUS, temporal=False, width=1)
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 2, 32, 48, 3)), jnp.uint8)
    variables = jax.jit(network.init)(jax.random.key(0), image)
    params = variables["params"]
    assert set(params) == {"attention_network", "graph_network"}
    assert set(variables["batch_stats"]) == {"attention_network"}
    one = {
        "params": {"attention_network": params["attention_network"]},
        "batch_stats": variables["batch_stats"],
    }
    frames = stills.apply(one, image.reshape(4, 32, 48, 3))  # op by op: compiled, it takes longer
    chex.assert_shape(
        [frames["logits"], frames["attention"], frames["features"]], [(4, 3), (4, 8, 12, 3), (4, 3, 12)]
    )
    assert frames["attention"].min() > 0 and frames["attention"].max() < 1
    clip = network.apply(variables, image)
    chex.assert_shape(
        [clip["logits"], clip["attention"], clip["features"]], [(2, 2, 3), (2, 2, 8, 12, 3), (2, 2, 3, 12)]
    )
    for name in ("attention", "features"):
        np.testing.assert_allclose(clip[name].reshape(frames[name].shape), frames[name], atol=1e-5)
    graph = network.apply({"params": {"graph_network": params["graph_network"]}}, clip["features"])
    assert set(graph) == {"logits", "state"}
    chex.assert_trees_all_close(graph, {name: clip[name] for name in graph}, atol=1e-5)
    chex.assert_shape(graph["state"], (2, 3, 12))


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, {"relations", "disentanglement", "update", "reset", "candidate"}),
        ({"graph": "shared"}, {"relations", "update", "reset", "candidate"}),
        ({"graph": "specific", "time": "none"}, {"relations", "disentanglement", "candidate"}),
        ({"graph": "shared", "time": "average"}, {"relations", "candidate"}),
    ],
)
def test_variants_of_the_graph_network(fields, names):
    """Table VI: what each variant has to learn."""
    features = jnp.zeros((2, 4, 3, 24))
    outputs, variables = aar.AAR(AUS, width=2, **fields).init_with_output(jax.random.key(0), features)
    chex.assert_shape(outputs["logits"], (2, 4, 3))
    assert len(outputs["state"]) == (2 if "update" in names else 0)
    graph = variables["params"]["graph_network"]
    assert set(graph) == {"layer1", "layer2", "classifier"}
    assert set(graph["layer1"]) == set(graph["layer2"]) == names


def test_without_attention_there_are_no_maps():
    network, image = aar.AAR(AUS, False, attention=False, width=1), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    outputs, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), image)
    assert set(outputs) == {"logits", "features"}
    assert "attention" not in variables["params"]["attention_network"]


def test_bfloat16_ends_in_float32():
    network = aar.AAR(AUS, width=1, dtype=jnp.bfloat16)
    image = jnp.zeros((1, 2, 32, 32, 3), jnp.uint8)
    outputs, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), image)
    assert {leaf.dtype for leaf in jax.tree.leaves((outputs, variables))} == {jnp.dtype("float32")}


def test_region_layers_equal_jaanets(golden):
    """Public layers with 32 channels at 176 and 64 at 88: each level, the sums, the pooled maps."""
    weights, spec, want = golden("jaanet_region_learning")
    state = {n: weights.fill(n, tuple(s), spec["seed"], r, spec["gain"]) for n, s, r in spec["parameters"]}
    about = spec["inputs"]["x"]
    x = weights.inputs(tuple(about["shape"]), spec["seed"], "x", about["kind"]).transpose(0, 2, 3, 1)

    @jax.jit
    def run(params, stats, x):
        levels = {}
        for index, (at, features) in enumerate((("0", 32), ("2", 64))):
            layer, name = aar.RegionLayer(features, jnp.float32), f"multiscale_feat.{at}"
            y, inner = layer.apply(
                {"params": params[at], "batch_stats": stats[at]},
                x,
                False,
                capture_intermediates=lambda module, _: (
                    module.name in ("conv", "patches8", "patches4", "patches2")
                ),
                mutable=["intermediates"],
            )
            inner = inner["intermediates"]
            levels[f"{name}.conv"], levels[name] = inner["conv"]["__call__"][0], y
            for branch, grid in enumerate((8, 4, 2), start=1):
                levels[f"{name}.local_conv_branch{branch}"] = inner[f"patches{grid}"]["__call__"][0]
            x = nn.max_pool(y, (2, 2), (2, 2))
            levels[f"multiscale_feat.{2 * index + 1}"] = x
        return levels

    got = run(*_region_variables(state), x)
    assert set(got) == set(spec["outputs"])
    for key, value in got.items():
        value = weights.sample(np.asarray(value).transpose(0, 3, 1, 2), spec["outputs"][key]["step"])
        atol = 1e-5 * spec["outputs"][key]["abs_max"]
        np.testing.assert_allclose(value.reshape(-1), want[key].reshape(-1), rtol=0, atol=atol, err_msg=key)


def _region_variables(state):
    """The parameters and statistics of JAA-Net's two region layers, by their index in its names."""
    params, stats = {}, {}

    def norm(names):
        both = []
        for scale, bias in (("weight", "bias"), ("running_mean", "running_var")):
            keys = ("scale", "bias") if scale == "weight" else ("mean", "var")
            both.append(
                {
                    key: np.stack([state[f"{n}.{of}"] for n in names])
                    for key, of in zip(keys, (scale, bias), strict=True)
                }
            )
        return both

    def conv(names):
        kernels = np.stack([state[f"{n}.weight"].transpose(2, 3, 1, 0) for n in names])
        return {"kernel": kernels, "bias": np.stack([state[f"{n}.bias"] for n in names])}

    for at in ("0", "2"):
        name = f"multiscale_feat.{at}"
        scales, means = jax.tree.map(lambda leaf: leaf[0], norm([f"{name}.bn"]))
        params[at] = {"conv": jax.tree.map(lambda leaf: leaf[0], conv([f"{name}.conv"])), "norm": scales}
        stats[at] = {"norm": means}
        for branch, grid in enumerate((8, 4, 2), start=1):
            own = [f"{name}.local_conv_branch{branch}.{{}}.{k}" for k in range(grid * grid)]
            scales, means = norm([n.format("bns") for n in own])
            params[at][f"patches{grid}"] = {
                "conv": conv([n.format("convs") for n in own]),
                "norm": {"norm": scales},
            }
            stats[at][f"patches{grid}"] = {"norm": {"norm": means}}
    return params, stats


def _conv_loops(x, relations, q, pool):
    """Eq. 11 for one frame, x (k, c): every sum written out, in float64."""
    k, e = relations.shape
    related, total = np.zeros((k, k)), 0.0
    for i in range(k):
        for j in range(k):
            for n in range(e):
                related[i, j] += relations[i, n] * relations[j, n]
            related[i, j] = max(related[i, j], 0.0)
            total += related[i, j]
    a = np.eye(k)
    for i in range(k):
        for j in range(k):
            a[i, j] += related[i, j] / total
    out = np.zeros((k, pool.shape[-1]))
    for i in range(k):
        mixed = sum(a[i, j] * x[j] for j in range(k))
        for n in range(e):
            out[i] += q[i, n] * (mixed @ pool[n])
    return out, a


@pytest.mark.parametrize("recurrent", [True, False])
def test_equations_10_to_13_against_loops(recurrent):
    b, t, k, d, e = 2, 5, 4, 3, 6
    rng = np.random.default_rng(0)
    f, h = rng.normal(size=(b, t, k, d)), rng.normal(size=(b, k, d))
    layer = aar.GraphLayer("specific", recurrent, e)
    start = h if recurrent else None
    variables = layer.init(jax.random.key(1), jnp.asarray(f, jnp.float32), start)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    got, last = layer.apply(variables, jnp.asarray(f, jnp.float32), start)
    u, q = p["relations"], p["disentanglement"]
    _, a = _conv_loops(f[0, 0], u, q, p["candidate"][:, :d])
    assert (a == np.eye(k)).sum() < a.size - 2  # there are relations
    np.testing.assert_allclose(aar.adjacency(jnp.asarray(u, jnp.float32)), a, atol=1e-6)
    np.testing.assert_allclose((aar.adjacency(u) - np.eye(k)).sum(), 1.0, rtol=1e-6)  # N: all entries
    for n in range(b):
        state = h[n]
        for tau in range(t):
            x = f[n, tau]
            if not recurrent:
                np.testing.assert_allclose(
                    got[n, tau], np.tanh(_conv_loops(x, u, q, p["candidate"])[0]), atol=1e-5
                )
                continue
            both = np.concatenate([state, x], -1)  # C(h, F)
            z = _sigmoid(_conv_loops(both, u, q, p["update"])[0])  # Eq. 13a
            r = _sigmoid(_conv_loops(both, u, q, p["reset"])[0])  # Eq. 13b
            both = np.concatenate([r * state, x], -1)
            candidate = np.tanh(_conv_loops(both, u, q, p["candidate"])[0])  # Eq. 13c
            state = z * state + (1 - z) * candidate  # Eq. 13d
            np.testing.assert_allclose(got[n, tau], state, atol=1e-5)
        if recurrent:
            np.testing.assert_allclose(last[n], state, atol=1e-5)


def test_adjacency_by_hand():
    """U U^T = [[5, -1], [-1, 2]]: ReLU leaves 5 and 2 of 7. Without relations there is only the identity."""
    got = aar.adjacency(jnp.array([[1.0, 2.0], [1.0, -1.0]]))
    np.testing.assert_allclose(got, [[1 + 5 / 7, 0], [0, 1 + 2 / 7]], rtol=1e-6)
    np.testing.assert_array_equal(aar.adjacency(jnp.zeros((2, 3))), np.eye(2))


@pytest.mark.parametrize("parts", [(7, 41), (1,) * 48])
def test_streaming_equals_the_whole_sequence(parts):
    network, rng = aar.AAR(AUS, width=2), np.random.default_rng(0)
    features = jnp.asarray(rng.normal(size=(2, sum(parts), 3, 24)), jnp.float32)
    variables = network.init(jax.random.key(0), features)
    apply = jax.jit(network.apply)
    whole = apply(variables, features)
    found, state, first = [], None, 0
    for length in parts:
        outputs = apply(variables, features[:, first : first + length], state=state)
        state, first = outputs["state"], first + length
        found.append(_sigmoid(outputs["logits"]))
    np.testing.assert_allclose(np.concatenate(found, 1), _sigmoid(whole["logits"]), rtol=0, atol=1e-5)
    chex.assert_trees_all_close(state, whole["state"], atol=1e-5)
    again = apply(variables, features[:, -parts[-1] :])  # it is the state that makes them equal
    assert np.abs(_sigmoid(again["logits"]) - found[-1]).max() > 1e-3


def test_average_prediction_over_frames():
    """T_avg: the mean of AA + G_sp's probabilities, also where one is 0 or 1; never while training."""
    features = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3, 24)), jnp.float32)
    plain, average = (aar.AAR(AUS, width=2, time=time) for time in ("none", "average"))
    variables = plain.init(jax.random.key(0), features)
    graph = variables["params"]["graph_network"]
    graph["classifier"]["bias"] = jnp.array([0.0, 60.0, -60.0])
    each = plain.apply(variables, features)["logits"]
    got = average.apply(variables, features)["logits"]
    want = np.broadcast_to(_sigmoid(each).mean(1, keepdims=True), each.shape)
    np.testing.assert_allclose(_sigmoid(got), want, rtol=1e-5)
    assert np.isfinite(got).all() and np.ptp(each[..., 0]) > 0.1
    np.testing.assert_array_equal(average.apply(variables, features, train=True)["logits"], each)


def test_targets_by_hand():
    """Eqs. 1, 2 on the paper's map: centres at cells (22, 11) and (26, 11), delta 3."""
    centers = jnp.array([[[88.0, 44.0], [104.0, 44.0]]])  # of one AU in 176 pixels
    maps = np.asarray(aar.attention_target(centers, 176, 44, 3.0))
    chex.assert_shape(maps, (44, 44, 1))
    for (row, column), squared in {(11, 22): 0, (11, 26): 0, (11, 24): 4, (14, 21): 10, (8, 28): 13}.items():
        np.testing.assert_allclose(maps[row, column, 0], np.exp(-squared / 18), rtol=1e-6)
    # Halves go up: 2 px are half a cell, 6 px one and a half.
    maps = np.asarray(aar.attention_target(jnp.array([[[2.0, 6.0], [1.9, 6.0]]]), 176, 44, 1.0))
    assert maps[2, 1, 0] == maps[2, 0, 0] == 1 and (maps == 1).sum() == 2
    # In a map of 16 cells delta is 3 * 16 / 44; a centre beyond the border still shines in.
    maps = np.asarray(aar.attention_target(jnp.array([[[32.0, 68.0], [32.0, 68.0]]]), 64, 16, 3.0))
    np.testing.assert_allclose(maps[15, 8, 0], np.exp(-4 / (2 * (48 / 44) ** 2)), rtol=1e-5)


def test_targets_of_many_aus_against_loops():
    rng = np.random.default_rng(0)
    centers = rng.uniform(0, 64, (2, 3, 2, 2)).astype(np.float32)
    maps = aar.attention_target(jnp.asarray(centers), 64, 16, 3.0)
    chex.assert_shape(maps, (2, 16, 16, 3))
    for n, row, column, j in np.ndindex(2, 16, 16, 3):
        values = []
        for x, y in centers[n, j]:
            squared = (column - np.floor(x / 4 + 0.5)) ** 2 + (row - np.floor(y / 4 + 0.5)) ** 2
            values.append(np.exp(-squared / (2 * (3 * 16 / 44) ** 2)))
        np.testing.assert_allclose(maps[n, row, column, j], max(values), rtol=1e-5, atol=1e-7)


def test_weights_are_equation_5s(golden):
    """Against the public functions' values: weights that sum to m, and p_n_weight."""
    _, _, want = golden("losses")
    coded = np.full(12, 500)
    state = aar.FeaturesLoss().init({"n_occ": want["positives"], "n_coded": coded})
    np.testing.assert_allclose(state["weights"], want["au_weights"], rtol=1e-6)
    np.testing.assert_allclose(state["positive_weights"], want["negatives_per_positive"], rtol=1e-6)
    plain = aar.FeaturesLoss(weighted=False).init({"n_occ": want["positives"], "n_coded": coded})
    for value in plain.values():
        np.testing.assert_array_equal(value, np.ones(12))


def test_detection_loss_equals_public_cross_entropy(golden):
    """Where every v is 1, it is AU-Net's criterion."""
    weights, spec, want = golden("losses")
    logits, labels = (
        weights.inputs((64, 12), spec["seed"], name, spec["inputs"][name]["kind"])
        for name in ("logits", "labels")
    )
    logits, w = logits * spec["inputs"]["logits"]["times"], jnp.asarray(want["au_weights"], jnp.float32)
    arguments = (jnp.asarray(labels), jnp.ones((64, 12), bool), w, jnp.ones(12))
    value, gradient = jax.value_and_grad(aar.detection_loss)(jnp.asarray(logits), *arguments)
    np.testing.assert_allclose(value, want["bce_with_logits_weighted"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(gradient, want["bce_with_logits_weighted_gradient"], rtol=0, atol=1e-7)


def _batch(lead, side, labels=None, seed=0):
    rng, k = np.random.default_rng(seed), len(AUS)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (*lead, side, side, 3)), jnp.uint8),
        "au": jnp.asarray(rng.integers(0, 2, (*lead, k)) if labels is None else labels),
        "au_mask": jnp.ones((*lead, k), bool),
        "mask": jnp.ones(lead, bool),
        "au_centers": jnp.asarray(rng.uniform(0.2 * side, 0.8 * side, (*lead, k, 2, 2)), jnp.float32),
        "au_centers_mask": jnp.ones((*lead, k), bool),
    }


def test_losses_by_hand():
    """Two frames, three AUs with rates .5, .2, .5: w = 2/9, 5/9, 2/9 and v = 1, 4, 1."""
    logits = np.array([[0.0, np.log(3.0), -np.log(3.0)], [np.log(3.0), -np.log(3.0), 0.0]])
    batch = _batch((2,), 64, np.array([[1, 1, 0], [0, 1, 0]]))
    # -log p or -log(1-p), times w and v: half of the sum over two frames.
    w, v = np.array([2, 5, 2]) / 9, np.array([1, 4, 1])
    first = w[0] * v[0] * np.log(2) + w[1] * v[1] * np.log(4 / 3) + w[2] * np.log(4 / 3)
    second = w[0] * np.log(4) + w[1] * v[1] * np.log(4) + w[2] * np.log(2)
    detection = (first + second) / 2
    outputs = {"logits": jnp.asarray(logits)}
    features = aar.FeaturesLoss()
    state = features.init(STATISTICS)
    value, terms, after = features(outputs, batch, state)
    np.testing.assert_allclose([value, terms["detection"]], detection, rtol=1e-6)
    assert after is state and features.end_epoch(state) is state and features.epoch_metrics(state, AUS) == {}
    # Without W^au: w = 1 / m, v = 1.
    plain = aar.FeaturesLoss(weighted=False)
    value, *_ = plain(outputs, batch, plain.init(STATISTICS))
    np.testing.assert_allclose(value, np.log([2, 4 / 3, 4 / 3, 4, 4, 2]).sum() / 2 / 3, rtol=1e-6)
    # Maps a quarter above what is wanted: L_a = 1 / 16.
    wanted = aar.attention_target(batch["au_centers"], 64, 16, 3.0)
    loss = aar.AttentionLoss()
    value, terms, _ = loss({**outputs, "attention": wanted + 0.25}, batch, loss.init(STATISTICS))
    np.testing.assert_allclose(terms["attention"], 1 / 16, rtol=1e-5)
    np.testing.assert_allclose(value, detection + 2 / 16, rtol=1e-5)  # Eq. 6


def test_what_is_masked_has_no_part():
    """A label that is not coded, a place that is unknown, a padded frame: no loss, no gradient."""
    batch, rng = _batch((3,), 64), np.random.default_rng(1)
    batch["au_mask"] = batch["au_mask"].at[0, 1].set(False)
    batch["au_centers_mask"] = batch["au_centers_mask"].at[1, 2].set(False)
    batch["mask"] = batch["mask"].at[2].set(False)
    logits, maps = jnp.asarray(rng.normal(size=(3, 3))), jnp.asarray(rng.uniform(0, 1, (3, 16, 16, 3)))
    loss = aar.AttentionLoss()
    state = loss.init(STATISTICS)

    def objective(logits, maps, batch):
        return loss({"logits": logits, "attention": maps}, batch, state)[0]

    value, (of_logits, of_maps) = jax.value_and_grad(objective, (0, 1))(logits, maps, batch)
    detected = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 0]], bool)
    located = detected & np.array([[1, 1, 1], [1, 1, 0], [1, 1, 1]], bool)
    np.testing.assert_array_equal(np.asarray(of_logits) != 0, detected)
    np.testing.assert_array_equal(np.abs(np.asarray(of_maps)).max((1, 2)) != 0, located)
    other = {
        **batch,
        "au": jnp.where(detected, batch["au"], 1 - batch["au"]),
        "au_centers": jnp.where(located[..., None, None], batch["au_centers"], -1000.0),
    }
    assert objective(logits, maps, other) == value
    w, v = np.asarray(state["weights"]), np.asarray(state["positive_weights"])
    p, y = _sigmoid(logits), np.asarray(batch["au"])
    each = -w * (v * y * np.log(p) + (1 - y) * np.log(1 - p))
    squares = np.square(maps - aar.attention_target(batch["au_centers"], 64, 16, 3.0)).mean((1, 2))
    np.testing.assert_allclose(value, each[detected].mean() + 2 * squares[located].mean(), rtol=1e-5)


def _trained(objective, params, steps, rate):
    """First and last loss of ``steps`` updates, compiled once, and the parameters after them."""
    optimizer = optax.adam(rate)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(params, opt_state):
        value, gradients = jax.value_and_grad(objective)(params)
        updates, opt_state = optimizer.update(gradients, opt_state)
        return optax.apply_updates(params, updates), opt_state, value

    chex.clear_trace_counter()  # it counts by the function's name
    values, opt_state = [], optimizer.init(params)
    for _ in range(steps):
        params, opt_state, value = step(params, opt_state)
        values.append(float(value))
    return values[0], values[-1], params


def test_the_attention_network_learns_a_batch():
    network, loss, batch = aar.AAR(AUS, False, width=1), aar.AttentionLoss(), _batch((8,), 32)
    variables = jax.jit(network.init)(jax.random.key(0), batch["image"])
    state = loss.init(STATISTICS)

    def objective(params):
        arguments = ({**variables, "params": params}, batch["image"])
        outputs, _ = network.apply(*arguments, train=True, mutable=["batch_stats"])
        return loss(outputs, batch, state)[0]

    first, last, _ = _trained(objective, variables["params"], 30, 2e-2)
    assert last < 0.5 * first


def test_the_graph_network_learns_what_one_frame_does_not_show():
    """Every label is the sign of a feature that only the first AU has, one frame before."""

    def sequences(seed):
        features = np.random.default_rng(seed).normal(size=(160, 8, 3, 12)).astype(np.float32)
        features[..., 1:] *= 0.1
        features[:, :, 1:, 0] = 0
        labels = np.zeros((160, 8, 3), int)
        labels[:, 1:] = features[:, :-1, :1, 0] > 0
        batch = _batch((160, 8), 8, labels)
        return jnp.asarray(features), {**batch, "mask": batch["mask"].at[:, 0].set(False)}

    seen, unseen, right = sequences(0), sequences(1), {}
    loss = aar.FeaturesLoss(weighted=False)
    state = loss.init(STATISTICS)
    for time in ("gru", "none"):
        network = aar.AAR(AUS, width=1, time=time)
        params = network.init(jax.random.key(0), seen[0])["params"]

        def objective(params, network=network):
            return loss(network.apply({"params": params}, seen[0], train=True), seen[1], state)[0]

        first, last, params = _trained(objective, params, 100, 2e-2)
        assert last < (0.5 if time == "gru" else 0.99) * first
        found = network.apply({"params": params}, unseen[0])["logits"] > 0
        right[time] = float((found == unseen[1]["au"])[:, 1:].mean())
    assert right["none"] < 0.6 < 0.8 < right["gru"], right


def test_mistakes_are_told():
    network, key = aar.AAR(AUS, False, width=1), jax.random.key(0)
    message = r"image of 60 x 64 pixels: sides must be multiples of 16, .* choose e.g. 64, 96 or 176"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(network.init, key, jnp.zeros((1, 60, 64, 3), jnp.uint8))
    image = jnp.zeros((1, 32, 32, 3), jnp.uint8)
    with pytest.raises(ValueError, match="state: stills have none"):
        jax.eval_shape(lambda: network.init(key, image, state=()))
    with pytest.raises(AssertionError):  # features are for temporal=True
        jax.eval_shape(network.init, key, jnp.zeros((1, 4, 3, 12)))
    temporal, state = aar.AAR(AUS, width=1), (jnp.zeros((2, 3, 12)),) * 2
    with pytest.raises(
        ValueError, match=r"state: shapes \[\(2, 3, 12\), \(2, 3, 12\)\] for \(1, 4, 3, 12\), expected"
    ):
        temporal.init(key, jnp.zeros((1, 4, 3, 12)), state=state)
    loss, batch = aar.AttentionLoss(), _batch((2,), 32)
    with pytest.raises(ValueError, match=r"loss.attention: 2.0, but the network has no attention maps"):
        loss({"logits": jnp.zeros((2, 3))}, batch, loss.init(STATISTICS))
    with pytest.raises(ValueError, match=r"AU columns \[1\] have no positive label"):
        loss.init({**STATISTICS, "n_occ": np.array([5, 0, 5])})
    for options in ({"attention": -1.0}, {"delta": 0.0}):
        with pytest.raises(ValueError, match=r"loss.attention, loss.delta: .* must be"):
            aar.AttentionLoss(**options)
