"""GTLE-Net: size, shapes of every part and trunk, what a step keeps in memory, losses against loops."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxau import facs, models
from jaxau.config import Config, DataConfig, Stage
from jaxau.models.gtle_net import DetectionLoss, GTLENet, landmark_maps
from jaxau.models.pretraining import ClassLoss, TripletLoss

AUS = (1, 12)
TINY = {"blocks": 1, "width": 0.03}
FULL = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.uint8)


def _shapes(image=FULL, **fields):
    network = GTLENet(fields.pop("aus", facs.CORPUS_AUS["bp4d"]), **fields)
    return jax.eval_shape(network.init_with_output, jax.random.key(0), image)


def _size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_full_size():
    """ablations: 64.55 M parameters, 59.7 G multiply-accumulates; each part as the layer table has it."""
    info = models.describe("gtle_net", 12)
    assert info["parameters"] == info["trainable_parameters"] == pytest.approx(64.55e6, rel=1e-3)
    assert info["macs"] == pytest.approx(59.7e9, rel=0.01) and info["input"] == [1, 256, 256, 3]
    outputs, variables = _shapes()
    params = variables["params"]
    for name, million in (("trunk", 9.61), ("map_extractor", 18.9), ("mask_extractor", 10.4)):
        assert _size(params[name]) == pytest.approx(1e6 * million, rel=0.002), name
    assert _size(params["classifiers"]) / 12 == pytest.approx(2.137e6, rel=5e-4)
    chex.assert_shape(
        [outputs[name] for name in ("logits", "features", "maps", "attention")],
        [(1, 12), (1, 12, 256), (1, 256, 256, 12, 3), (1, 256, 256, 12)],
    )
    # RAF-AU's 13 AUs: one classifier and one channel of each head more.
    _, more = _shapes(aus=facs.CORPUS_AUS["raf_au"])
    grown = _size(more["params"]) - _size(params)
    assert grown == _size(params["classifiers"]) // 12 + 64 * 3 + 3 + 64 + 1


def test_table_10_variants():
    """What each variant has to learn; a trunk's last maps are a sixteenth of the image's side."""
    _, variables = _shapes(extractors="maps")
    assert set(variables["params"]) == {"trunk", "map_extractor", "classifiers"}
    outputs, variables = _shapes(extractors="none")
    assert set(variables["params"]) == {"trunk", "classifiers"} and set(outputs) == {"logits", "features"}
    assert variables["params"]["classifiers"]["conv1"]["kernel"].shape == (12, 7, 7, 896, 16)
    channels = {"inception_resnet": 896, "vgg16": 512, "resnet50": 1024, "repvgg_a2": 384}
    for trunk, c in channels.items():
        _, variables = _shapes(trunk=trunk, extractors="none")
        assert variables["params"]["classifiers"]["conv1"]["kernel"].shape[3] == c, trunk
        outputs, variables = _shapes(trunk=trunk)
        assert outputs["attention"].shape == (1, 256, 256, 12)
        # Of the whole trunk, the detector has the first part under the same names.
        _, whole = _shapes(trunk=trunk, part="triplets")
        own, of_all = (_names(v["params"]["trunk"]) for v in (variables, whole))
        assert own.items() <= of_all.items() and (len(own) < len(of_all)) == (trunk != "vgg16")


def _names(tree):
    return {
        jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def test_pretraining_parts():
    faces = jax.ShapeDtypeStruct((2, 3, 64, 64, 3), jnp.uint8)
    outputs, variables = _shapes(faces, part="triplets")
    assert outputs["embedding"].shape == (2, 3, 16) and set(variables["params"]) == {"trunk", "embedding"}
    assert _size(variables["params"]) == 23_482_624 + 512 * 16 + 16
    outputs, variables = _shapes(jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.uint8), part="emotions")
    assert outputs["class_logits"].shape == (2, 7) and outputs["embedding"].shape == (2, 512)
    assert set(variables["params"]) == {"trunk", "emotions"}


def test_what_a_step_of_64_pictures_keeps():
    """In bfloat16 at 256 px, between the forward and the backward pass, before XLA drops anything."""

    def kept(remat):
        network, b = GTLENet(facs.CORPUS_AUS["bp4d"], remat=remat, dtype=jnp.bfloat16), 64
        variables = jax.eval_shape(network.init, jax.random.key(0), FULL)
        shape = jax.ShapeDtypeStruct
        image = shape((b, 256, 256, 3), jnp.uint8)
        batch = {"au": shape((b, 12), jnp.int32), "au_mask": shape((b, 12), bool), "mask": shape((b,), bool)}

        def backward(params, stats, image, batch):
            def objective(params):
                outputs, new = network.apply(
                    {"params": params, "batch_stats": stats}, image, train=True, mutable=["batch_stats"]
                )
                return DetectionLoss()(outputs, batch, {})[0], new

            return jax.vjp(objective, params, has_aux=True)[1]  # holds the residuals

        leaves = jax.tree.leaves(
            jax.eval_shape(backward, variables["params"], variables["batch_stats"], image, batch)
        )
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)

    with_remat, without = kept(True), kept(False)
    assert with_remat <= 30e9, f"{with_remat / 1e9:.1f} GB"
    assert without > 1.3 * with_remat


@pytest.fixture(scope="module")
def tiny():
    """A small detector, two faces, and its outputs."""
    network = GTLENet(AUS, **TINY)
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3)), jnp.uint8)
    variables = jax.jit(network.init)(jax.random.key(0), image)
    return network, variables, image, jax.jit(network.apply)(variables, image)


def test_outputs(tiny):
    network, variables, image, outputs = tiny
    chex.assert_tree_all_finite(outputs)
    assert outputs["maps"].shape == (2, 32, 48, 2, 3) and outputs["attention"].shape == (2, 32, 48, 2)
    for name in ("maps", "attention"):
        assert outputs[name].min() > 0 and outputs[name].max() < 1
    # Every AU has its own classifier, head and mask.
    moved = jax.tree.map(jnp.copy, variables)
    for name in ("map_extractor", "mask_extractor"):
        moved["params"][name]["bias"] = moved["params"][name]["bias"].at[1].add(2.0)
    after = jax.jit(network.apply)(moved, image)
    np.testing.assert_allclose(after["logits"][:, 0], outputs["logits"][:, 0], atol=1e-6)
    assert np.abs(after["logits"][:, 1] - outputs["logits"][:, 1]).max() > 1e-4
    with pytest.raises(ValueError, match="40 x 48 pixels: sides must be multiples of 16"):
        network.apply(variables, jnp.zeros((1, 40, 48, 3), jnp.uint8))


def test_remat_changes_nothing_and_a_fixed_encoder_has_no_gradient(tiny):
    network, variables, image, outputs = tiny
    again = network.clone(remat=True, fixed_encoder=True)
    fresh = jax.eval_shape(again.init, jax.random.key(0), image)
    chex.assert_trees_all_equal_shapes(fresh, jax.eval_shape(lambda: variables))

    @jax.jit
    def step(params):
        def objective(params):
            found, new = again.apply(
                {**variables, "params": params}, image, train=True, mutable=["batch_stats"]
            )
            return (found["logits"] ** 2).sum(), new["batch_stats"]

        return jax.grad(objective, has_aux=True)(params), again.apply(variables, image)

    (gradients, stats), found = step(variables["params"])
    chex.assert_trees_all_close(found, outputs, atol=1e-4)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients["trunk"]))
    assert all(np.any(gradients[name]["kernel"]) for name in ("map_extractor", "mask_extractor"))
    chex.assert_trees_all_equal(stats["trunk"], variables["batch_stats"]["trunk"])
    assert np.any(stats["classifiers"]["norm1"]["norm"]["mean"])


def _statistics():
    return {"n": 100, "n_occ": np.array([50, 5]), "n_coded": np.array([100, 50])}


def test_detection_loss_against_loops():
    """Eq. 8: the sum over AUs, mean over faces; of AUs that are not coded, the mean of the others stands."""
    rng, b, k = np.random.default_rng(0), 5, 2
    logits = rng.normal(size=(b, k))
    batch = {"au": rng.integers(0, 2, (b, k)), "au_mask": np.ones((b, k), bool), "mask": np.ones(b, bool)}
    loss = DetectionLoss()
    state = loss.init(_statistics())
    total = 0.0
    for i, j in np.ndindex(b, k):
        p = 1 / (1 + np.exp(-logits[i, j]))
        total -= np.log(p if batch["au"][i, j] else 1 - p)
    value, terms, after = loss({"logits": jnp.asarray(logits, jnp.float32)}, batch, state)
    assert value == terms["detection"] == pytest.approx(total / b, rel=1e-5) and after == state == {}
    assert loss.end_epoch(state) == state and loss.epoch_metrics(state, AUS) == {}
    # A face that only fills the batch up, and a label that nobody coded, weigh nothing.
    batch["mask"][4], batch["au_mask"][3, 1] = False, False
    value, *_ = loss({"logits": jnp.asarray(logits, jnp.float32)}, batch, state)
    rows = [(i, j) for i, j in np.ndindex(b, k) if i < 4 and (i, j) != (3, 1)]
    each = [np.log1p(np.exp(-logits[i, j] if batch["au"][i, j] else logits[i, j])) for i, j in rows]
    assert value == pytest.approx(k * np.mean(each), rel=1e-5)


def test_landmark_maps_against_jaa_nets_loops():
    """The published loops over a square around each of two centres, in a map of 52 cells as there."""
    cells, side = 52, 176
    centers = np.random.default_rng(0).uniform(-10, 186, (2, 3, 2, 2)).astype(np.float32)
    got = np.asarray(landmark_maps(jnp.asarray(centers), side, cells))
    want = np.zeros((2, cells, cells, 3))
    reach = round((cells - 1) / 2 * 0.14)
    for n, j in np.ndindex(2, 3):
        for x, y in centers[n, j]:
            column, row = round(x / side * cells), round(y / side * cells)
            for h in range(max(row - reach, 0), min(row + reach, cells - 1) + 1):
                for w in range(max(column - reach, 0), min(column + reach, cells - 1) + 1):
                    value = 1 - (abs(h - row) + abs(w - column)) * 0.56 / (cells * 0.14)
                    want[n, h, w, j] = max(want[n, h, w, j], value)
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert 0 < (want > 0).mean() < 0.1


def test_supervised_attention():
    """Mean squared error of the masks of coded AUs whose place is known, times the AUs."""
    rng, b, k, cells = np.random.default_rng(1), 3, 2, 16
    masks = rng.random((b, cells, cells, k)).astype(np.float32)
    batch = {
        "image": np.zeros((b, 32, 32, 3), np.uint8),
        "au": np.zeros((b, k), int),
        "au_mask": np.array([[True, True], [True, False], [True, True]]),
        "mask": np.ones(b, bool),
        "au_centers": rng.uniform(4, 28, (b, k, 2, 2)).astype(np.float32),
        "au_centers_mask": np.array([[True, True], [True, True], [False, True]]),
    }
    outputs = {"logits": jnp.zeros((b, k)), "attention": jnp.asarray(masks)}
    value, terms, _ = DetectionLoss(attention=0.5)(outputs, batch, {})
    wanted = np.asarray(landmark_maps(jnp.asarray(batch["au_centers"]), 32, cells))
    known = [(0, 0), (0, 1), (1, 0), (2, 1)]
    mean = np.mean([((masks[n, ..., j] - wanted[n, ..., j]) ** 2).mean() for n, j in known])
    assert terms["attention"] == pytest.approx(k * mean, rel=1e-5)
    assert value == pytest.approx(float(terms["detection"] + 0.5 * terms["attention"]), rel=1e-6)
    with pytest.raises(ValueError, match="the network has no masks"):
        DetectionLoss(attention=0.5)({"logits": outputs["logits"]}, batch, {})
    with pytest.raises(ValueError, match="must not be negative"):
        DetectionLoss(attention=-1.0)


def test_triplets_by_hand():
    """On the unit circle, at 0, 60 and 90 degrees: squared distances 1, 2 and 4 sin^2(15) = .268."""
    angle = np.radians([0.0, 60.0, 90.0])
    face = np.stack([np.cos(angle), np.sin(angle)], 1)
    trios = np.stack([face, face[[1, 2, 0]], face])  # the first and third wrong, the second right
    batch = {"triplet_class": np.array([1, 3, 2]), "mask": np.array([True, True, False])}
    near = 2 - np.sqrt(3)
    wrong = (1 - 2 + 0.1 if 1 - 2 + 0.1 > 0 else 0) + (1 - near + 0.1)
    loss, terms, _ = TripletLoss()({"embedding": jnp.asarray(trios, jnp.float32)}, batch, {})
    assert loss == pytest.approx((wrong + 0) / 2, rel=1e-5) and terms["accuracy"] == 0.5
    batch["mask"] = np.array([False, False, True])
    loss, terms, _ = TripletLoss()({"embedding": jnp.asarray(trios, jnp.float32)}, batch, {})
    assert loss == pytest.approx(1 - near + 0.2, rel=1e-5) and terms["accuracy"] == 0
    with pytest.raises(ValueError, match="margin_more: 0.1, 9.0 must be in"):
        TripletLoss(margin_more=9.0)


def test_emotions_by_hand():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]))
    batch = {"emotion": np.array([0, 1, -1]), "mask": np.ones(3, bool)}
    loss, terms, _ = ClassLoss()({"class_logits": jnp.asarray(logits, jnp.float32)}, batch, {})
    assert loss == pytest.approx(-(np.log(0.7) + np.log(0.3)) / 2, rel=1e-5) and terms["accuracy"] == 0.5


def test_stages_decide_the_part():
    stage = Stage("triplets", 1, 1)
    stages = {"triplets": stage, "frames": Stage("frames", 1, 1)}
    config = Config("gtle_net", DataConfig("synthetic", AUS, "synthetic-3fold"), stages, dict(TINY))
    assert models.create(config, "triplets") == GTLENet(AUS, "triplets", **TINY)
    assert models.create(config, "frames") == GTLENet(AUS, "frames", **TINY)
    assert models.first_batch(config, "triplets")["image"].shape == (1, 3, 224, 224, 3)
    assert models.role(config, "triplets").selects == "accuracy"
    assert isinstance(models.create_loss(config, "frames"), DetectionLoss)
