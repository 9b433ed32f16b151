"""GLEE-Net against a PyTorch twin, its counts, and what its variants are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxau.models import describe, glee_net
from jaxau.models.glee_net import DetectionLoss, GLEENet, LocalBranch, TokenClassifier
from jaxau.models.pretraining import TripletLoss

SMALL = {"repeats": (0, 0, 0), "width": 0.0625, "part_side": 16}
AUS = (1, 4, 12)


def _image(n: int = 2, side: int = 80) -> jax.Array:
    blocks = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    return jnp.asarray(blocks.repeat(side // 8, 1).repeat(side // 8, 2))


def _expression(n: int = 2) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(np.random.default_rng(1).normal(0, 1, (n, 51)), jnp.float32), jnp.ones(n, bool)


def test_published_size() -> None:
    found = describe("glee_net", 12)
    assert abs(found["parameters"] / 56.67e6 - 1) < 0.001 and abs(found["macs"] / 8.720e9 - 1) < 0.001
    assert found["parameters"] - found["trainable_parameters"] == 23_482_624  # the frozen identity model


def test_sixteen_parts() -> None:
    side = 8
    found = [(r.start, r.stop, c.start, c.stop) for r, c in glee_net.parts(side)]
    assert found[:8] == [
        (0, 8, 0, 6), (0, 8, 2, 8), (0, 6, 0, 8), (2, 8, 0, 8),
        (0, 6, 0, 6), (0, 6, 2, 8), (2, 8, 0, 6), (2, 8, 2, 8),
    ]  # fmt: skip
    assert found[8:] == [
        (0, 8, 0, 4), (0, 8, 4, 8), (0, 4, 0, 8), (4, 8, 0, 8),
        (0, 4, 0, 4), (0, 4, 4, 8), (4, 8, 0, 4), (4, 8, 4, 8),
    ]  # fmt: skip


def test_expression_is_face_less_identity_and_the_identity_model_learns_nothing() -> None:
    network = GLEENet(AUS, branches="global", expression=False, **SMALL)
    variables = jax.jit(network.init)(jax.random.key(0), _image())
    same = {**variables["params"], "face": variables["params"]["identity"]}
    describe_faces, linear = jax.jit(network.apply), variables["params"]["global_fc"]
    outputs = describe_faces({**variables, "params": same}, _image())
    np.testing.assert_allclose(outputs["embedding"], np.broadcast_to(linear["bias"], (2, 16)), atol=1e-6)
    # A face vector that is the identity vector plus 1: Eq. 1 has a sign.
    norm = same["face"]["last_bn"]
    same["face"] = {**same["face"], "last_bn": {**norm, "bias": norm["bias"] + 1}}
    outputs = describe_faces({**variables, "params": same}, _image())
    np.testing.assert_allclose(
        outputs["embedding"], np.tile(linear["kernel"].sum(0) + linear["bias"], (2, 1)), atol=1e-4
    )

    def total(params: dict) -> jax.Array:
        found, _ = network.apply(
            {**variables, "params": params}, _image(), train=True, mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        )  # fmt: skip
        return (found["logits"] ** 2).sum()

    gradients = jax.jit(jax.grad(total))(variables["params"])
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradients["identity"]))
    assert any(leaf.any() for leaf in jax.tree.leaves(gradients["face"]))


def test_the_identity_models_statistics_stay() -> None:
    network = GLEENet(AUS, part="triplets", branches="global", **SMALL)
    variables = jax.jit(network.init)(jax.random.key(0), _image())
    train = jax.jit(lambda v: network.apply(v, _image(), train=True, mutable=["batch_stats"])[1])
    updated = train(variables)
    for part, changed in (("identity", False), ("face", True)):
        pairs = zip(
            jax.tree.leaves(variables["batch_stats"][part]),
            jax.tree.leaves(updated["batch_stats"][part]),
            strict=True,
        )
        assert any((old != new).any() for old, new in pairs) == changed


def test_fixed_branches_stay_what_they_are() -> None:
    network = GLEENet(AUS, branches="global", expression=False, fixed_branches=True, **SMALL)
    variables = jax.jit(network.init)(jax.random.key(0), _image())

    def total(params: dict) -> tuple[jax.Array, dict]:
        found, updated = network.apply(
            {**variables, "params": params}, _image(), train=True, mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        )  # fmt: skip
        return (found["logits"] ** 2).sum(), updated["batch_stats"]

    gradients, statistics = jax.jit(jax.grad(total, has_aux=True))(variables["params"])
    jax.tree.map(np.testing.assert_array_equal, statistics, variables["batch_stats"])
    for part, tree in gradients.items():
        assert any(leaf.any() for leaf in jax.tree.leaves(tree)) == (part == "classifier")


def test_absent_expressions_are_a_learned_vector_and_not_zeros() -> None:
    network = GLEENet(AUS, branches="none")
    expression, mask = _expression()
    variables = network.init(jax.random.key(0), _image(), expression, mask)
    learned = jnp.arange(51.0) / 51
    variables = {"params": {**variables["params"], "absent_expression": learned}}
    outputs = network.apply(variables, _image(), expression.at[1].set(0), jnp.array([True, False]))
    np.testing.assert_allclose(outputs["embedding"][0], expression[0])
    np.testing.assert_allclose(outputs["embedding"][1], learned)


@pytest.mark.parametrize(
    ("fields", "parts", "width"),
    [
        ({}, {"face", "identity", "global_fc", "local", "absent_expression", "classifier"}, 67),
        ({"branches": "global"}, {"face", "identity", "global_fc", "absent_expression", "classifier"}, 67),
        ({"branches": "resnet"}, {"resnet", "resnet_fc", "absent_expression", "classifier"}, 67),
        ({"branches": "none"}, {"absent_expression", "classifier"}, 51),
        ({"expression": False, "branches": "global"}, {"face", "identity", "global_fc", "classifier"}, 16),
    ],
)
def test_rows_of_table_v(fields: dict, parts: set, width: int) -> None:
    network = GLEENet(AUS, **{**SMALL, **fields})
    shapes = jax.eval_shape(network.init, jax.random.key(0), _image(), *_expression())
    assert set(shapes["params"]) == parts
    outputs = jax.eval_shape(network.apply, shapes, _image(), *_expression())
    assert outputs["logits"].shape == (2, 3) and outputs["embedding"].shape == (2, width)


def test_without_joint_layer_and_transformer() -> None:
    x = jax.random.normal(jax.random.key(0), (4, 67))
    for kind in ("transformer", "mlp"):
        network = TokenClassifier(3, kind, False, 32, 4, 64, 3, 0.1)
        variables = network.init(jax.random.key(1), x, train=False)
        initial, final = network.apply(variables, x, train=False)
        np.testing.assert_array_equal(initial, final)
        assert ("encoder_2" in variables["params"]) == (kind == "transformer")
        assert "joint" not in variables["params"]


def test_triplets_are_unit_vectors_whatever_the_order_of_faces() -> None:
    network = GLEENet(AUS, part="triplets", branches="global", **SMALL)
    image = _image(6).reshape(2, 3, 80, 80, 3)
    variables = jax.jit(network.init)(jax.random.key(0), image)
    describe_faces = jax.jit(network.apply)
    embedding = describe_faces(variables, image)["embedding"]
    np.testing.assert_allclose(jnp.linalg.norm(embedding, axis=-1), 1, atol=1e-5)
    turned = describe_faces(variables, image[:, ::-1])["embedding"]
    np.testing.assert_allclose(turned[:, ::-1], embedding, atol=1e-5)


def test_mined_triplets_count_by_the_anchor_and_while_they_are_semi_hard() -> None:
    """On the unit circle: anchor at 0 degrees, squared distances 2 - 2 cos."""

    def trio(positive: float, negative: float) -> np.ndarray:
        angle = np.radians([0.0, positive, negative])
        return np.stack([np.cos(angle), np.sin(angle)], 1)

    # Positive and negative; margin .1 of class 1, else .2.
    faces = [
        (60, 65),  # annotated: 1 - 1.1547 + .2 by the anchor, 1 - .0076 + .2 by the positive
        (60, 62),  # 1 - 1.0611 + .1: semi-hard
        (60, 65),  # 1 - 1.1547 + .1 < 0: learned
        (60, 65),  # as class 2 semi-hard, 1 - 1.1547 + .2
        (62, 60),  # the wrong way round: too hard
        (60, 62),  # padding
    ]
    embedding = jnp.asarray(np.stack([trio(*of) for of in faces]), jnp.float32)
    batch = {
        "triplet_class": np.array([2, 1, 1, 2, 2, 1]),
        "derived": np.array([False, True, True, True, True, True]),
        "mask": np.array([True, True, True, True, True, False]),
    }
    cos = {degrees: np.cos(np.radians(degrees)) for degrees in (5, 62, 65)}
    first = (1 - (2 - 2 * cos[65]) + 0.2) + (1 - (2 - 2 * cos[5]) + 0.2)
    mined = [1 - (2 - 2 * cos[62]) + 0.1, 1 - (2 - 2 * cos[65]) + 0.2]
    loss, terms, _ = TripletLoss()({"embedding": embedding}, batch, {})
    assert loss == pytest.approx((first + sum(mined)) / 3, rel=1e-5)
    assert terms["mined"] == pytest.approx(2 / 5) and terms["accuracy"] == 0  # of the annotated one

    def total(x: jax.Array) -> jax.Array:
        return TripletLoss()({"embedding": x}, batch, {})[0]

    moves = np.abs(jax.grad(total)(embedding)).max((1, 2)) > 0
    assert moves.tolist() == [True, True, False, True, False, False]


# ---- against PyTorch ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twin():
    torch = pytest.importorskip("torch", reason="pip install 'jaxau[parity]'")
    from torch_reference import glee_net as reference

    torch.manual_seed(0)
    return torch, reference


def _shaken(torch, module):
    """None of the values hides a mistake: no scale of 1, no bias of 0, no fresh statistics."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
        for name, buffer in module.named_buffers():
            if "running" in name:
                buffer += 0.3 * torch.rand_like(buffer)
    return module.double()


def _numpy(tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float32)


def _dense(layer) -> dict:
    return {"kernel": _numpy(layer.weight).T, "bias": _numpy(layer.bias)}


def _local_variables(reference) -> dict:
    own, params, stats = reference.extractors, {}, {}
    for i in range(4):
        params[f"conv{i + 1}"] = {
            "kernel": np.stack([_numpy(e.convs[i].weight).transpose(2, 3, 1, 0) for e in own]),
            "bias": np.stack([_numpy(e.convs[i].bias) for e in own]),
        }
        norms = [e.norms[i] for e in own]
        params[f"norm{i + 1}"] = {
            "norm": {
                "scale": np.stack([_numpy(n.weight) for n in norms]),
                "bias": np.stack([_numpy(n.bias) for n in norms]),
            }
        }
        stats[f"norm{i + 1}"] = {
            "norm": {
                "mean": np.stack([_numpy(n.running_mean) for n in norms]),
                "var": np.stack([_numpy(n.running_var) for n in norms]),
            }
        }
    attention = {"gamma": np.array([e.gamma.item() for e in own], np.float32)}
    for name in ("query", "key", "value"):
        layers = [getattr(e, name) for e in own]
        attention[f"{name}_kernel"] = np.stack([_numpy(layer.weight)[:, :, 0, 0].T for layer in layers])
        attention[f"{name}_bias"] = np.stack([_numpy(layer.bias) for layer in layers])
    params |= {"attention": attention, "fc1": _dense(reference.fc1), "fc2": _dense(reference.fc2)}
    return {"params": params, "batch_stats": stats}


@pytest.mark.parametrize("train", [False, True])
def test_local_branch_is_torchs(twin, train: bool) -> None:
    torch, reference = twin
    module = _shaken(torch, reference.Local((4, 8, 16, 32), 64, 24)).train(train)
    x = np.random.default_rng(3).normal(0, 1, (3, 48, 48, 3))
    variables = _local_variables(module)
    network = LocalBranch(0.125, 24, jnp.float32)
    with torch.no_grad():
        want = _numpy(module(torch.tensor(x.transpose(0, 3, 1, 2))))
    got, _ = network.apply(variables, jnp.asarray(x, jnp.float32), train, mutable=["batch_stats"])
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


def _classifier_params(module) -> dict:
    params: dict = {
        "tokens": {
            "kernel": np.concatenate([_numpy(layer.weight).T for layer in module.tokens], 1),
            "bias": np.concatenate([_numpy(layer.bias) for layer in module.tokens]),
        },
        "initial": {
            "weight": np.concatenate([_numpy(layer.weight) for layer in module.initial]),
            "bias": np.concatenate([_numpy(layer.bias) for layer in module.initial]),
        },
        "joint": _dense(module.joint),
    }
    for index, encoder in enumerate(module.encoders):
        attention, width = encoder.self_attn, encoder.linear1.in_features
        heads, size = attention.num_heads, width // attention.num_heads
        projected = {}
        weights, biases = _numpy(attention.in_proj_weight), _numpy(attention.in_proj_bias)
        for i, name in enumerate(("query", "key", "value")):
            rows = slice(i * width, (i + 1) * width)
            projected[name] = {
                "kernel": weights[rows].T.reshape(width, heads, size),
                "bias": biases[rows].reshape(heads, size),
            }
        out = {
            "kernel": _numpy(attention.out_proj.weight).T.reshape(heads, size, width),
            "bias": _numpy(attention.out_proj.bias),
        }
        params[f"encoder_{index}"] = {
            "attention": {**projected, "out": out},
            "linear1": _dense(encoder.linear1),
            "linear2": _dense(encoder.linear2),
            "norm1": {"scale": _numpy(encoder.norm1.weight), "bias": _numpy(encoder.norm1.bias)},
            "norm2": {"scale": _numpy(encoder.norm2.weight), "bias": _numpy(encoder.norm2.bias)},
        }
    return params


def test_classifier_loss_and_gradient_are_torchs(twin) -> None:
    torch, reference = twin
    module = _shaken(torch, reference.Classifier(67, 5, 32, 4, 64, 3))
    rng = np.random.default_rng(5)
    x, labels = rng.normal(0, 1, (7, 67)), rng.integers(0, 2, (7, 5))
    mask = rng.random((7, 5)) < 0.7
    weights = np.array([0.5, 1, 1, 2, 0.5])
    given = torch.tensor(x, requires_grad=True)
    initial, final = module(given)
    loss = reference.loss(
        initial, final, torch.tensor(labels, dtype=torch.double), torch.tensor(mask), torch.tensor(weights)
    )
    loss.backward()

    network = TokenClassifier(5, "transformer", True, 32, 4, 64, 3, 0.1)
    params = _classifier_params(module)
    batch = {"au": jnp.asarray(labels), "au_mask": jnp.asarray(mask), "mask": jnp.ones(7, bool)}

    def ours(params: dict, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        first, last = network.apply({"params": params}, x, train=False)
        state = {"weights": jnp.asarray(weights, jnp.float32)}
        value, _, _ = DetectionLoss()({"initial_logits": first, "logits": last}, batch, state)
        return value, (first, last)

    (value, logits), (by_params, by_x) = jax.jit(jax.value_and_grad(ours, (0, 1), has_aux=True))(
        params, jnp.asarray(x, jnp.float32)
    )
    for got, want in zip(logits, (initial, final), strict=True):
        np.testing.assert_allclose(got, _numpy(want), atol=1e-4)
    np.testing.assert_allclose(value, float(loss), rtol=1e-4)
    np.testing.assert_allclose(by_x, _numpy(given.grad), atol=1e-4 * float(given.grad.abs().max()))
    want = _numpy(module.encoders[0].self_attn.in_proj_weight.grad)[:32].T
    got = np.asarray(by_params["encoder_0"]["attention"]["query"]["kernel"]).reshape(32, 32)
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


def test_weights_of_the_loss_are_inverse_rates() -> None:
    statistics = {"n": 100, "n_occ": np.array([10, 40]), "n_coded": np.array([100, 80])}
    np.testing.assert_allclose(DetectionLoss().init(statistics)["weights"], np.array([10, 2]) * 2 / 12)
    with pytest.raises(ValueError, match="must not be negative"):
        DetectionLoss(initial=-1)
