"""GTLE-Net against an independent PyTorch twin with the same weights: outputs, losses, all gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxau.models import gtle_net
from jaxau.models.pretraining import TripletLoss

torch = pytest.importorskip("torch", reason="pip install 'jaxau[parity]'")
from torch_reference import gtle_net as twin_net  # noqa: E402  (needs torch)

AUS, SHARE, SIDE = (1, 12), 0.06, 64


def _shaken(module):
    """None of the values hides a mistake: no scale of 1, no bias of 0."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    return module.double()


def _arrays(values, gradients=False):
    return {name: (p.grad if gradients else p).detach().numpy() for name, p in values}


def _close(got, want, name):
    assert np.shape(got) == np.shape(want), name
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max(), err_msg=name)


def _compare_gradients(gradients, want):
    chex.assert_trees_all_equal_structs(gradients, want)
    largest = max(np.abs(value).max() for value in jax.tree.leaves(want))

    def close(path, got, want):
        assert got.shape == want.shape, path
        # A bias before a normalisation does nothing.
        assert np.abs(want).max() > 1e-7 * largest or "bias" in str(path), path
        atol = 1e-4 * max(np.abs(want).max(), 1e-2 * largest)
        np.testing.assert_allclose(got, want, rtol=0, atol=atol, err_msg=str(path))

    jax.tree_util.tree_map_with_path(close, gradients, want)


def _images(rng, lead):
    """Coarse blocks, or maps would be as good as constant."""
    blocks = rng.integers(0, 256, (*lead, 8, 8, 3), dtype=np.uint8)
    return blocks.repeat(SIDE // 8, -2).repeat(SIDE // 8, -3)


def _ours(twin, network, image):
    params = twin_net.in_jaxaus_layout(_arrays(twin.named_parameters()))
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    fresh = jax.eval_shape(network.init, jax.random.key(0), image)
    chex.assert_trees_all_equal_shapes(params, fresh["params"])
    return params, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), fresh["batch_stats"])


def test_detector():
    """Logits, masks, maps, Eq. 8 and every gradient; running means of BatchNorm."""
    twin = _shaken(twin_net.Detector(len(AUS), SHARE))
    network = gtle_net.GTLENet(AUS, blocks=1, width=SHARE)
    rng, b = np.random.default_rng(0), 6
    batch = {
        "image": _images(rng, (b,)),
        "au": rng.integers(0, 2, (b, len(AUS))),
        "au_mask": rng.random((b, len(AUS))) < 0.8,
        "mask": np.arange(b) < b - 1,
    }
    params, stats = _ours(twin, network, batch["image"])
    loss = gtle_net.DetectionLoss()

    @jax.jit
    def step(params, batch):
        def objective(params):
            outputs, new = network.apply(
                {"params": params, "batch_stats": stats}, batch["image"], train=True, mutable=["batch_stats"]
            )
            value, _, _ = loss(outputs, batch, loss.init({}))
            return value, (outputs, new["batch_stats"])

        return jax.value_and_grad(objective, has_aux=True)(params)

    (value, (outputs, new)), gradients = step(params, batch)
    theirs = twin(torch.as_tensor(batch["image"]))
    coded = torch.as_tensor(batch["au_mask"] & batch["mask"][:, None])
    total = twin_net.au_loss(theirs["logits"], torch.as_tensor(batch["au"]), coded)
    total.backward()
    assert set(outputs) == set(theirs)
    for name, tensor in theirs.items():
        _close(outputs[name], tensor.detach().numpy(), name)
        assert np.ptp(outputs[name]) > 0.05, name
    _close(value, total.item(), "loss")
    _compare_gradients(gradients, twin_net.in_jaxaus_layout(_arrays(twin.named_parameters(), True)))
    running = {name: value for name, value in _arrays(twin.named_buffers()).items() if "running_mean" in name}
    for path, value in jax.tree_util.tree_leaves_with_path(twin_net.in_jaxaus_layout(running, running=True)):
        got = new
        for key in path:
            got = got[key.key]
        _close(got, value, str(path))  # a tenth of the batch's mean, torch's momentum


def test_embedding():
    """Unit vectors, Eq. 1 with both margins, and every gradient."""
    twin = _shaken(twin_net.Embedder(SHARE))
    network = gtle_net.GTLENet(AUS, "triplets", blocks=1, width=SHARE, dropout=0.0)
    rng, b = np.random.default_rng(1), 6
    batch = {
        "image": _images(rng, (b, 3)),
        "triplet_class": np.array([1, 2, 3, 1, 2, 3]),
        "mask": np.ones(b, bool),
    }
    params, stats = _ours(twin, network, batch["image"])
    loss = TripletLoss()

    @jax.jit
    def step(params, batch):
        def objective(params):
            outputs, _ = network.apply(
                {"params": params, "batch_stats": stats}, batch["image"], train=True, mutable=["batch_stats"]
            )
            value, terms, _ = loss(outputs, batch, {})
            return value, (outputs["embedding"], terms["accuracy"])

        return jax.value_and_grad(objective, has_aux=True)(params)

    (value, (embedding, accuracy)), gradients = step(params, batch)
    theirs = twin(torch.as_tensor(batch["image"]))
    total = twin_net.triplet_loss(theirs, torch.as_tensor(batch["triplet_class"]))
    total.backward()
    _close(embedding, theirs.detach().numpy(), "embedding")
    _close(value, total.item(), "loss")
    _compare_gradients(gradients, twin_net.in_jaxaus_layout(_arrays(twin.named_parameters(), True)))
    distance = torch.cdist(theirs, theirs)
    right = (distance[:, 0, 1] < distance[:, 0, 2]) & (distance[:, 0, 1] < distance[:, 1, 2])
    assert accuracy == pytest.approx(right.double().mean().item()) and 0 < accuracy < 1


@pytest.mark.parametrize(("channels", "features", "doubled"), [(6, 6, False), (6, 4, True), (4, 6, False)])
def test_stargan_block_and_instance_norm(channels, features, doubled):
    """At the size that torch's modules have it: with and without a shortcut of its own, and enlarged."""
    x = np.random.default_rng(2).normal(1.0, 3.0, (2, 5, 7, channels)).astype(np.float32)
    theirs = _shaken(twin_net.ResidualBlock(channels, features, doubled))
    tensor = torch.as_tensor(x.transpose(0, 3, 1, 2)).double()
    params = twin_net.in_jaxaus_layout(_arrays(theirs.named_parameters()))
    got = gtle_net.InstanceNormResidualBlock(features, doubled, jnp.float32).apply({"params": params}, x)
    _close(got, theirs(tensor).detach().numpy().transpose(0, 2, 3, 1), "block")
    for scale in (1.0, 1e-3):  # so flat that epsilon counts
        want = theirs.norm1(scale * tensor).detach().numpy().transpose(0, 2, 3, 1)
        got = gtle_net.instance_norm("norm", jnp.float32).apply({"params": params["norm1"]}, scale * x)
        np.testing.assert_allclose(got, want, atol=1e-5)
