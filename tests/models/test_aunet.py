"""AUNet against the public PyTorch heads and auto-encoder (golden data), and what each variant looks at."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxau import complexity, facs
from jaxau.models import aunet, label_vae
from jaxau.models.aunet import AUNet
from jaxau.models.aunet_loss import AULoss

AUS = facs.CORPUS_AUS["bp4d"]


def _variables(weights, spec):
    """The public names and layouts as ours, straight from the golden data's rules."""
    found = {}
    for name, shape, rule in spec["parameters"]:
        value = weights.fill(name, tuple(shape), spec["seed"], rule, spec["gain"])
        if rule == "count":
            continue
        module, leaf = name.rsplit(".", 1)
        is_norm = (
            rule in ("mean", "var", "scale") or (module.split(".")[-1][:2] == "bn") or "predictor.1" in name
        )
        if module.split(".")[0] in ("ConvNet_1", "ConvNet_diff"):
            module = module.replace(".0", "", 1)  # the pooling behind it has no parameters
        path = module.lower().replace(".", "_").replace("_bn", "/bn").replace("_conv", "/conv").split("/")
        if leaf == "weight" and not is_norm:
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        kinds = {"running_mean": "mean", "running_var": "var", "bias": "bias"}
        room = "batch_stats" if leaf.startswith("running") else "params"
        found[room, *path, kinds.get(leaf, "scale" if is_norm else "kernel")] = jnp.asarray(value)
    return unflatten_dict(found)


def _inputs(weights, spec):
    return {
        name: weights.inputs(tuple(of["shape"]), spec["seed"], name, of["kind"])
        for name, of in spec["inputs"].items()
    }


def _close(weights, spec, want, key, got):
    got = np.asarray(got).transpose(0, 3, 1, 2) if np.ndim(got) == 4 else np.asarray(got)
    about = spec["outputs"][key]
    assert got.shape == tuple(about["shape"]), key
    np.testing.assert_allclose(
        weights.sample(got, about["step"]).reshape(-1), want[key].reshape(-1),
        rtol=0, atol=1e-5 * about["abs_max"], err_msg=key,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["aunet_predictor", "aufan_predictor"])
def test_head_equals_the_public_one(golden, name):
    weights, spec, want = golden(name)
    variables, given = _variables(weights, spec), _inputs(weights, spec)
    nhwc = {key: jnp.asarray(value.transpose(0, 2, 3, 1)) for key, value in given.items()}
    moves = name == "aunet_predictor"
    if moves:
        frames = jnp.stack([nhwc["x_minus"], nhwc["x"], nhwc["x_plus"]], 1)
        middle, motion = aunet.difference(frames.reshape(-1, *frames.shape[2:]))
        np.testing.assert_array_equal(middle, nhwc["x"])
        _close(weights, spec, want, "avg_diff", aunet._coarser(motion, 32))
    else:
        middle, motion = nhwc["x"], None

    head = aunet.Head(12, 256, 0.9, 0.1, jnp.float32)
    fresh = jax.eval_shape(lambda k: head.init(k, middle, motion, False), jax.random.key(0))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(lambda leaf: leaf.shape, fresh)
    assert sum(leaf.size for leaf in jax.tree.leaves(fresh["params"])) == spec["parameter_count"]
    shown = ("conv1x1", "conv1x1_diff", "predictor_0", "predictor_1")
    shown += ("convnet_0", "convnet_1", "convnet_diff", "convnet_2_4")
    logits, inner = jax.jit(
        lambda v: head.apply(
            v, middle, motion, False, capture_intermediates=lambda module, _: module.name in shown
        )
    )(variables)
    inner = {
        path[0]: value[0] for path, value in flatten_dict(inner["intermediates"]).items() if len(path) == 2
    }
    _close(weights, spec, want, "conv1x1", inner["conv1x1"])
    if moves:
        pooled = {key: inner[key] for key in ("convnet_1", "convnet_diff", "convnet_2_4")}
        names = {"convnet_1": "ConvNet_1", "convnet_diff": "ConvNet_diff", "convnet_2_4": "ConvNet_2"}
        for ours, theirs in names.items():
            _close(weights, spec, want, theirs, aunet.nn.max_pool(pooled[ours], (2, 2), (2, 2)))
        _close(weights, spec, want, "conv1x1_diff", inner["conv1x1_diff"])
    else:
        _close(weights, spec, want, "ConvNet.0", inner["convnet_0"])
    for layer in ("0", "1"):
        _close(weights, spec, want, f"predictor.{layer}", inner[f"predictor_{layer}"])
    _close(weights, spec, want, "logits", logits)


@pytest.mark.parametrize("name", ["aunet_vae_bp4d", "aunet_vae_disfa"])
def test_auto_encoder_equals_the_public_one(golden, name):
    weights, spec, want = golden(name)
    given, corpus = _inputs(weights, spec), name.removeprefix("aunet_vae_")
    variables = {"params": {corpus: _variables(weights, spec)["params"]}}
    network = label_vae.LabelVAEs((corpus,), 0)  # the paper's latent numbers
    labels, b = jnp.asarray(given["labels"]), len(given["labels"])
    mask, number = jnp.ones(labels.shape, bool), jnp.full(b, facs.corpus_number(corpus))
    fresh = jax.eval_shape(network.init, jax.random.key(0), labels, mask, number)
    assert sum(leaf.size for leaf in jax.tree.leaves(fresh)) == spec["parameter_count"]
    labelled = network.apply(variables, labels, mask, number)
    predicted = network.apply(variables, jax.nn.sigmoid(given["logits"]), mask, number)
    for key, value in {
        "labels_mu": labelled["mean"],
        "labels_logvar": labelled["log_variance"],
        "decoded_mu": labelled["decoded"],
        "prediction_mu": predicted["mean"],
        "prediction_std": jnp.exp(predicted["log_variance"] / 2),
    }.items():
        _close(weights, spec, want, key, value)
    one = label_vae.LabelVAE(labelled["mean"].shape[1])
    drawn = one.apply({"params": variables["params"][corpus]}, labels, given["epsilon"])
    _close(weights, spec, want, "decoded_sample", drawn["decoded"])
    batch = {"au": labels, "au_mask": mask, "mask": jnp.ones(b, bool)}
    _, terms, _ = label_vae.LabelLoss()({**labelled, "decoded": drawn["decoded"]}, batch, {})
    np.testing.assert_allclose(terms["reconstruction"] * b, want["bce_sum"], rtol=1e-5)
    np.testing.assert_allclose(terms["divergence"] * b, want["kl_sum"], rtol=1e-5)
    means = want["consistency_mean"]
    for form, key in (("paper", "consistency_std_paper_form"), ("released", "consistency_std_released")):
        got = label_vae.consistency_loss(predicted, labelled, mask, form)
        np.testing.assert_allclose(got, means + want[key], rtol=1e-5)


def _count(network, image, **targets):
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), image, **targets))
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(of)) for name, of in variables["params"].items()}
    return sizes, variables


def _targets(b, k, corpus="bp4d"):
    return {
        "au": jnp.arange(b * k).reshape(b, k) % 2,
        "au_mask": jnp.ones((b, k), bool),
        "corpus": jnp.full(b, facs.corpus_number(corpus), jnp.int32),
    }


def test_sizes_of_the_published_networks():
    """Table: 12.11 M frozen; 1.86 M and 2.66 M trained; multiply-accumulates within 1 %."""
    image, targets = jnp.zeros((1, 3, 256, 256, 3), jnp.uint8), _targets(1, 12)
    expected = {True: (2_657_036, 3.835e9), False: (1_857_164, 3.016e9)}
    for moves, (parameters, macs) in expected.items():
        network = AUNet(AUS, motion=moves)
        sizes, variables = _count(network, image, **targets)
        assert sizes == {"fan": 12_106_504, "head": parameters, "vae": 428}
        frames = 3 if moves else 1
        total = complexity.count_macs(network.apply, variables, image)
        assert total - frames * 13.92e9 == pytest.approx(macs, rel=0.01)
        both = complexity.count_macs(network.clone(flip=True).apply, variables, image)
        assert both == 2 * total
    sizes, variables = _count(AUNet(AUS, trunk="resnet18", motion=False, vae=False), image[:, 1])
    assert sizes["trunk"] == 11_176_512 and "vae" not in sizes


SMALL = (1, 4, 12)
TINY = {"width": 16, "hourglasses": 1}


def _faces(b, seed=0, side=64):
    blocks = np.random.default_rng(seed).integers(0, 256, (b, 3, 8, 8, 3), np.uint8)
    return jnp.asarray(blocks.repeat(side // 8, 2).repeat(side // 8, 3))


def _random(network, *inputs, **targets):
    """Variables of a network with statistics that are not 0 and 1; nothing is compiled for it."""
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs, **targets))
    rng = np.random.default_rng(1)

    def value(path, leaf):
        name, fan_in = path[-1].key, max(1, int(np.prod(leaf.shape[:-1])))
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        deviation = fan_in**-0.5 if name == "kernel" else 0.1
        return rng.normal(0, deviation, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(value, shapes)


def _still(image):
    """The middle frame stands in for both neighbours."""
    return jnp.repeat(image[:, 1:2], 3, 1)


def test_the_fan_is_frozen_and_the_encoder_lets_the_gradient_through():
    network, image, targets = AUNet(SMALL, **TINY), _faces(4), _targets(4, 3)
    variables = _random(network, image, **targets)
    batch = {**targets, "mask": jnp.ones(4, bool)}

    @jax.jit
    def gradients_and_statistics(params):
        def loss(params):
            outputs, new = network.apply(
                {**variables, "params": params}, image, **targets, train=True, mutable=["batch_stats"]
            )
            terms = AULoss()(outputs, batch, {"weights": jnp.ones(3)})[1]
            return terms["consistency"], new["batch_stats"]

        return jax.grad(loss, has_aux=True)(params)

    gradients, new = gradients_and_statistics(variables["params"])
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients["fan"]))
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(gradients["head"]["predictor_3"]))
    same = jax.tree.map(lambda a, b: (a == b).all(), new["fan"], variables["batch_stats"]["fan"])
    assert all(jax.tree.leaves(same))  # running statistics
    moved = jax.tree.map(lambda a, b: (a != b).any(), new["head"], variables["batch_stats"]["head"])
    assert all(jax.tree.leaves(moved))


def test_what_motion_sees():
    network, image = AUNet(SMALL, **TINY), _faces(2)
    variables = _random(network, image)
    detect = jax.jit(lambda image: network.apply(variables, image))
    logits = detect(image)["logits"]
    assert np.abs(logits - detect(_still(image))["logits"]).max() > 1e-3
    # Backwards the differences F - F_before, F_after - F become others: time has a direction.
    assert np.abs(logits - detect(image[:, ::-1])["logits"]).max() > 1e-4
    assert detect(image)["heatmaps"].shape == (2, 16, 16, 68)
    with pytest.raises(ValueError, match="image of 4 axes: motion is seen in three frames"):
        network.apply(variables, image[:, 1])


@pytest.mark.parametrize("part", ["tuples", "flow"])
def test_the_mean_over_a_picture_and_its_mirror_image(part):
    """Outside of training; flow from left to right becomes flow from right to left."""
    network, image = AUNet(SMALL, part=part, trunk="resnet18", vae=False, width=16), _faces(2)
    flow = jnp.asarray(np.random.default_rng(2).normal(0, 5, (2, 64, 64, 4)), jnp.float32)
    given = (image, flow) if part == "flow" else (image,)
    mirrored = (image[..., ::-1, :], flow[:, :, ::-1] * np.array([-1, 1, -1, 1]))[: len(given)]
    variables, both = _random(network, *given), network.clone(flip=True)
    once = jax.jit(lambda *given: network.apply(variables, *given)["logits"])
    twice = jax.jit(lambda *given: both.apply(variables, *given)["logits"])
    want = (once(*given) + once(*mirrored)) / 2
    assert np.abs(once(*given) - want).max() > 1e-3
    np.testing.assert_allclose(twice(*given), want, atol=1e-5)
    np.testing.assert_allclose(twice(*mirrored), want, atol=1e-5)
    if part == "flow":
        assert np.abs(want - twice(image, flow * 0)).max() > 1e-3
        assert variables["params"]["head"]["conv1x1_diff"]["kernel"].shape == (1, 1, 4, 4)


@pytest.mark.parametrize("moves", [False, True])
def test_resnet18(moves):
    network, image = AUNet(SMALL, trunk="resnet18", motion=moves, width=16), _faces(2)
    variables = _random(network, image, **_targets(2, 3))
    assert set(variables["params"]) == {"trunk", "head", "vae"}
    # The trunk's tree is that of a whole ResNet18, into which imported weights go.
    resnet = aunet.ResNet("basic", (2, 2, 2, 2), (4, 8, 16, 32))
    whole = jax.eval_shape(lambda: resnet.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), True))
    for room in ("params", "batch_stats"):
        got = jax.tree.map(jnp.shape, variables[room]["trunk"])
        assert got == jax.tree.map(lambda leaf: leaf.shape, whole[room])
    logits = jax.jit(lambda image: network.apply(variables, image)["logits"])
    changed = np.abs(logits(image) - logits(_still(image))).max()
    assert (changed > 1e-4) == moves
    if moves:
        return
    # A still is the middle frame alone; behind the whole trunk there are two layers.
    np.testing.assert_allclose(logits(image), logits(image[:, 1]), atol=1e-6)
    values = {room: variables[room]["trunk"] for room in ("params", "batch_stats")}
    x = aunet.layers.normalize(image[:, 1], aunet.layers.IMAGENET_MEAN, aunet.layers.IMAGENET_STD)
    features = jax.jit(lambda x: resnet.apply(values, x, True))(x).mean((1, 2))
    head, stats = variables["params"]["head"], variables["batch_stats"]["head"]["predictor_1"]
    y = features @ head["predictor_0"]["kernel"] + head["predictor_0"]["bias"]
    y = (y - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    y = np.maximum(y * head["predictor_1"]["scale"] + head["predictor_1"]["bias"], 0)
    y = y @ head["predictor_3"]["kernel"] + head["predictor_3"]["bias"]
    np.testing.assert_allclose(logits(image), y, atol=1e-4)


def test_windows_share_what_the_fan_sees():
    """Each frame's logits are those of its tuple, where that is in the window; else itself stands in."""
    network = AUNet(SMALL, part="windows", neighbor_distance=2, **TINY)
    image = jnp.concatenate([_faces(1, seed)[0] for seed in (3, 4)])[None, :5]  # (1, 5, h, w, 3)
    targets = {name: jnp.repeat(value[None], 5, 1) for name, value in _targets(1, 3).items()}
    variables = _random(network, image, **targets)
    found = jax.jit(lambda image: network.apply(variables, image, **targets))(image)
    assert found["complete"].tolist() == [[False, False, True, False, False]]
    assert found["logits"].shape == (1, 5, 3) and found["labelled_mean"].shape == (1, 5, 8)
    tuples = jnp.stack([image[0, jnp.array(rows)] for rows in ((0, 2, 4), (0, 0, 2), (1, 3, 3))])
    want = jax.jit(lambda image: network.clone(part="tuples").apply(variables, image))(tuples)
    np.testing.assert_allclose(found["logits"][0, jnp.array([2, 0, 3])], want["logits"], atol=1e-4)
    batch = {**targets, "mask": jnp.ones((1, 5), bool)}
    state = {"weights": jnp.ones(3)}
    value = AULoss()(found, batch, state)[0]
    others = batch["au"].at[:, jnp.array([0, 1, 3, 4])].set(0)
    assert value == AULoss()(found, {**batch, "au": others}, state)[0]
    assert value != AULoss()(found, {**batch, "au": 1 - batch["au"]}, state)[0]
    with pytest.raises(ValueError, match="clip_length=4: no frame has both neighbours at 2 frames"):
        network.apply(variables, image[:, :4])
    with pytest.raises(ValueError, match="trunk='resnet18' learns"):
        network.clone(trunk="resnet18").apply(variables, image)
