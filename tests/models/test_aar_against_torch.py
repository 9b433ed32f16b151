"""AAR against an independent PyTorch twin with the same weights: outputs, loss terms, all gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxau.models import aar

torch = pytest.importorskip("torch", reason="pip install 'jaxau[parity]'")
from torch_reference import aar as twin_aar  # noqa: E402  (needs torch)

AUS = (1, 4, 25)
STATISTICS = {"n": 100, "n_occ": np.array([50, 5, 40]), "n_coded": np.array([100, 50, 80])}


def _batch(lead, side, seed):
    rng, k = np.random.default_rng(seed), len(AUS)
    batch = {
        # Coarse blocks, or maps would be as good as constant; values that both normalise the same.
        "image": rng.choice(np.array([0, 255], np.uint8), (*lead, 8, 8, 3)).repeat(side // 8, -2),
        "au": rng.integers(0, 2, (*lead, k)),
        "au_mask": rng.random((*lead, k)) < 0.8,
        "mask": np.ones(lead, bool),
        "au_centers": rng.uniform(-0.05 * side, 1.05 * side, (*lead, k, 2, 2)).astype(np.float32),
        "au_centers_mask": rng.random((*lead, k)) < 0.8,
    }
    batch["image"] = batch["image"].repeat(side // 8, -3)
    batch["mask"].flat[-1] = False
    return batch


def _shaken(module):
    """None of the values hides a mistake: no scale of 1, no bias of 0."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    return module.double()


def _close(got, want, name):
    assert np.shape(got) == np.shape(want), name
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max(), err_msg=name)


def _numpy(values):
    return {name: value.detach().numpy() for name, value in values}


def _compare_gradients(gradients, want):
    chex.assert_trees_all_equal_structs(gradients, want)
    largest = max(np.abs(value).max() for value in jax.tree.leaves(want))
    for path, value in jax.tree_util.tree_leaves_with_path(want):
        # A bias before BatchNorm does nothing.
        assert np.abs(value).max() > 1e-6 * largest or "bias" in str(path), path

    def close(path, got, want):
        assert got.shape == want.shape, path
        atol = 1e-4 * max(np.abs(want).max(), 1e-3 * largest)
        np.testing.assert_allclose(got, want, rtol=0, atol=atol, err_msg=str(path))

    jax.tree_util.tree_map_with_path(close, gradients, want)


@pytest.mark.parametrize("attention", [True, False])
def test_attention_network(attention):
    """AA with its weighted loss; B-Net without maps or weights."""
    twin = _shaken(twin_aar.AttentionNetwork(len(AUS), 2, attention))
    lam = 2.0 if attention else 0.0
    their_loss = twin_aar.Loss(STATISTICS["n_occ"], STATISTICS["n_coded"], attention, lam)
    network = aar.AAR(AUS, temporal=False, attention=attention, width=2)
    loss = aar.AttentionLoss(weighted=attention, attention=lam)
    params = {"attention_network": twin_aar.attention_in_jaxaus_layout(_numpy(twin.named_parameters()))}
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    fresh = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3), jnp.uint8))
    chex.assert_trees_all_equal_shapes(params, fresh["params"])
    stats = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), fresh["batch_stats"])

    @jax.jit
    def step(params, batch):
        def objective(params):
            outputs, new = network.apply(
                {"params": params, "batch_stats": stats}, batch["image"], train=True, mutable=["batch_stats"]
            )
            value, terms, _ = loss(outputs, batch, loss.init(STATISTICS))
            return value, (terms, outputs, new["batch_stats"])

        return jax.value_and_grad(objective, has_aux=True)(params)

    batch = _batch((6,), 32, 0)
    (value, (terms, outputs, new)), gradients = step(params, batch)
    tensors = {name: torch.as_tensor(array) for name, array in batch.items()}
    their_outputs = twin(tensors["image"])
    total, their_terms = their_loss(their_outputs, tensors)
    total.backward()
    assert set(outputs) == set(their_outputs) and set(terms) == set(their_terms)
    assert ("attention" in outputs) == attention
    for name, tensor in their_outputs.items():
        _close(outputs[name], tensor.detach().numpy(), name)
    for name, tensor in {"loss": total, **their_terms}.items():
        _close({"loss": value, **terms}[name], tensor.item(), name)
    gradient = {name: parameter.grad.numpy() for name, parameter in twin.named_parameters()}
    _compare_gradients(gradients["attention_network"], twin_aar.attention_in_jaxaus_layout(gradient))
    # Means of the batch, of which a tenth entered the running mean (torch's variances divide by n - 1).
    running = twin_aar.attention_in_jaxaus_layout(
        _numpy(twin.named_buffers()), ("running_mean", "running_var")
    )
    for path, value in jax.tree_util.tree_leaves_with_path(running):
        if path[-1].key == "mean":
            got = new["attention_network"]
            for key in path:
                got = got[key.key]
            _close(got, value, str(path))


@pytest.mark.parametrize(
    ("graph", "time"),
    [
        ("specific", "gru"),
        ("shared", "gru"),
        ("specific", "none"),
        ("shared", "none"),
        ("specific", "average"),
    ],
)
def test_graph_network(graph, time):
    """Stage ``features``: logits, loss and gradients over 9 frames."""
    m, c = len(AUS), 2
    twin = _shaken(twin_aar.GraphNetwork(m, c, 4, graph, time))
    network = aar.AAR(AUS, graph=graph, time=time, width=c, pool=4)
    params = {"graph_network": twin_aar.graph_in_jaxaus_layout(_numpy(twin.named_parameters()))}
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    batch = {name: value for name, value in _batch((2, 9), 8, 1).items() if name != "image"}
    features = np.random.default_rng(2).normal(size=(2, 9, m, 12 * c)).astype(np.float32)
    fresh = jax.eval_shape(network.init, jax.random.key(0), features)
    chex.assert_trees_all_equal_shapes(params, fresh["params"])
    loss = aar.FeaturesLoss()

    @jax.jit
    def step(params):
        def objective(params):
            outputs = network.apply({"params": params}, features)
            value, terms, _ = loss(outputs, batch, loss.init(STATISTICS))
            return value, (terms, outputs["logits"])

        return jax.value_and_grad(objective, has_aux=True)(params)

    (value, (terms, logits)), gradients = step(params)
    tensors = {name: torch.as_tensor(array) for name, array in batch.items()}
    their_logits = twin(torch.as_tensor(features).double())
    their_loss = twin_aar.Loss(STATISTICS["n_occ"], STATISTICS["n_coded"])
    total = their_loss.detection(their_logits, tensors)
    total.backward()
    _close(logits, their_logits.detach().numpy(), "logits")
    _close(value, total.item(), "loss")
    _close(terms["detection"], total.item(), "detection")
    gradient = {name: parameter.grad.numpy() for name, parameter in twin.named_parameters()}
    _compare_gradients(gradients["graph_network"], twin_aar.graph_in_jaxaus_layout(gradient))


def test_without_relations_it_is_torchs_gru():
    """U = 0 leaves A = I, a Q of unit vectors gives each AU its own W.

    torch's cell applies the reset gate after the matrix that the paper applies it before: the same where
    that matrix is diagonal.
    """
    m, d, t = 3, 5, 7
    cells = [torch.nn.GRUCell(d, d, bias=False) for _ in range(m)]
    pools = {"reset": [], "update": [], "candidate": []}
    for cell in cells:
        with torch.no_grad():
            cell.weight_hh[2 * d :] = torch.diag(torch.randn(d))
        for index, pool in enumerate(pools.values()):  # torch's order of gates
            part = slice(index * d, (index + 1) * d)
            h, x = cell.weight_hh[part].detach().numpy(), cell.weight_ih[part].detach().numpy()
            pool.append(np.concatenate([h.T, x.T]))
    params = {name: np.stack(pool) for name, pool in pools.items()}
    params |= {"relations": np.zeros((m, m)), "disentanglement": np.eye(m)}
    f = np.random.default_rng(0).normal(size=(2, t, m, d)).astype(np.float32)
    start = np.random.default_rng(1).normal(size=(2, m, d)).astype(np.float32)
    got, last = aar.GraphLayer("specific", True, m).apply({"params": params}, f, start)
    for i, cell in enumerate(cells):
        h = torch.as_tensor(start[:, i])
        for step in range(t):
            h = cell(torch.as_tensor(f[:, step, i]), h)
            np.testing.assert_allclose(got[:, step, i], h.detach().numpy(), atol=1e-5)
        np.testing.assert_allclose(last[:, i], h.detach().numpy(), atol=1e-5)
