"""The auto-encoder of labels against torch's own modules and losses; masks, corpora, noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxau import facs, losses
from jaxau.models import label_vae
from jaxau.models.aunet_loss import AULoss
from jaxau.models.label_vae import LabelLoss, LabelVAE, LabelVAEs, consistency_loss

torch = pytest.importorskip("torch", reason="pip install 'jaxau[parity]'")
F = torch.nn.functional

K, B = 6, 9


class Twin(torch.nn.Module):
    """Torch's own linear layers, in float64."""

    def __init__(self, latent, k=K):
        super().__init__()
        sizes = {"fc1": (k, latent), "fc21": (latent,) * 2, "fc22": (latent,) * 2, "fc3": (latent,) * 2,
                 "fc4": (latent, k)}  # fmt: skip
        for name, (n, m) in sizes.items():
            setattr(self, name, torch.nn.Linear(n, m))
        self.double()

    def encode(self, labels):
        hidden = torch.relu(self.fc1(labels))
        return self.fc21(hidden), self.fc22(hidden)

    def decode(self, z):
        return self.fc4(torch.relu(self.fc3(z)))

    def params(self):
        return {
            name: {
                "kernel": jnp.asarray(layer.weight.detach().numpy().T, jnp.float32),
                "bias": jnp.asarray(layer.bias.detach().numpy(), jnp.float32),
            }
            for name, layer in self.named_children()
        }

    def gradients(self):
        return {
            name: {"kernel": layer.weight.grad.numpy().T, "bias": layer.bias.grad.numpy()}
            for name, layer in self.named_children()
        }


def _labels(seed=0, b=B, k=K):
    return np.random.default_rng(seed).integers(0, 2, (b, k)).astype(np.float32)


def _close(got, want):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-6, atol=1e-6), got, want)


def test_training_step_equals_torch():
    """L_vae with noise drawn for both, and all its gradients."""
    torch.manual_seed(0)
    twin, rng = Twin(4), np.random.default_rng(1)
    labels, noise = _labels(), rng.normal(size=(B, 4)).astype(np.float32)
    noisy = labels + rng.uniform(-0.2, 0.2, labels.shape).astype(np.float32)

    def ours(params):
        outputs = LabelVAE(4).apply({"params": params}, noisy, noise)
        outputs["latent_mask"] = jnp.ones((B, 4), bool)
        batch = {"au": labels.astype(int), "au_mask": jnp.ones((B, K), bool), "mask": jnp.ones(B, bool)}
        value, terms, _ = LabelLoss(0.3)(outputs, batch, {})
        return value, terms

    (value, terms), gradients = jax.value_and_grad(ours, has_aux=True)(twin.params())
    mean, log_variance = twin.encode(torch.tensor(noisy).double())
    posterior = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    decoded = twin.decode(mean + posterior.stddev * torch.tensor(noise).double())
    bce = F.binary_cross_entropy_with_logits(decoded, torch.tensor(labels).double(), reduction="sum")
    kl = torch.distributions.kl_divergence(posterior, prior).sum()
    total = (bce + 0.3 * kl) / B
    total.backward()
    _close(terms, {"reconstruction": bce.item() / B, "divergence": kl.item() / B})
    _close(value, total.item())
    _close(gradients, twin.gradients())


@pytest.mark.parametrize("form", ["paper", "released", "label_space"])
def test_losses_of_the_detector_equal_torch(form):
    """L_cls + gamma L_cons and its gradient with respect to the logits, the encoder frozen."""
    torch.manual_seed(1)
    twin, rng = Twin(5), np.random.default_rng(2)
    labels, logits = _labels(3), rng.normal(size=(B, K)).astype(np.float32)
    occurrences, coded = np.array([10, 20, 30, 5, 50, 60]), np.full(K, 100)
    mask, corpus = jnp.ones((B, K), bool), jnp.full(B, facs.corpus_number("bp4d"))
    encode = LabelVAEs(("bp4d",), 5)
    batch = {"au": labels.astype(int), "au_mask": mask, "mask": jnp.ones(B, bool)}
    loss = AULoss(form, gamma=0.7)
    state = loss.init({"n_occ": occurrences, "n_coded": coded})

    def ours(logits):
        outputs = {"logits": logits}
        for name, values in (("predicted", jax.nn.sigmoid(logits)), ("labelled", labels)):
            found = encode.apply({"params": {"bp4d": twin.params()}}, values, mask, corpus)
            outputs |= {f"{name}_{key}": value for key, value in found.items()}
        return loss(outputs, batch, state)[0]

    value, gradient = jax.value_and_grad(ours)(jnp.asarray(logits))
    x, y = torch.tensor(logits).double().requires_grad_(), torch.tensor(labels).double()
    rate = torch.tensor(occurrences / coded)
    weight = 1 / rate / (1 / rate).sum()
    # Eq. 1: sum over the AUs with weights that sum to 1, mean over the batch.
    total = F.binary_cross_entropy(torch.sigmoid(x), y, weight=weight, reduction="none").sum(1).mean()
    (mp, lp), (mg, lg) = twin.encode(torch.sigmoid(x)), twin.encode(y)
    if form == "label_space":
        cons = F.mse_loss(torch.sigmoid(twin.decode(mp)), torch.sigmoid(twin.decode(mg)))
    else:
        std, wanted = torch.exp(lp / 2), torch.exp(lg / 2)
        cons = F.mse_loss(mp, mg) + (std.mean() if form == "released" else F.mse_loss(std, wanted))
    total = total + 0.7 * cons
    total.backward()
    _close(value, total.item())
    _close(gradient, x.grad.numpy())


def _mixture(seed=4):
    """Two corpora: the first codes all six AUs, the second the last four."""
    rng = np.random.default_rng(seed)
    names = np.array(["bp4d", "disfa"])[np.arange(B) % 2]
    mask = np.ones((B, K), bool)
    mask[names == "disfa", :2] = False
    corpus = np.array([facs.corpus_number(name) for name in names], np.int32)
    return names, rng.random((B, K)).astype(np.float32), mask, corpus


def test_each_face_meets_the_auto_encoder_of_its_corpus():
    names, labels, mask, corpus = _mixture()
    torch.manual_seed(2)
    twins = {"bp4d": Twin(8), "disfa": Twin(6)}
    network = LabelVAEs(("bp4d", "disfa"), 0)
    params = {name: twin.params() for name, twin in twins.items()}
    found = network.apply({"params": params}, labels, mask, corpus)
    assert found["mean"].shape == (B, 8)
    for row in range(B):
        twin, own = twins[names[row]], 8 if names[row] == "bp4d" else 6
        mean, log_variance = twin.encode(torch.tensor(np.where(mask[row], labels[row], 0)).double())
        _close(found["mean"][row, :own], mean.detach().numpy())
        _close(found["log_variance"][row, :own], log_variance.detach().numpy())
        _close(found["decoded"][row], twin.decode(mean).detach().numpy())
        assert found["latent_mask"][row].tolist() == [True] * own + [False] * (8 - own)


@pytest.mark.parametrize("form", ["paper", "released", "label_space"])
def test_what_is_not_coded_neither_counts_nor_learns(form):
    names, labels, mask, corpus = _mixture()
    network = LabelVAEs(("bp4d", "disfa"), 0)
    params = network.init(jax.random.key(0), labels, mask, corpus)
    coded = mask.copy()
    coded[0] = False  # padding

    def consistency(labels, predictions, params=params):
        predicted = network.apply(params, predictions, mask, corpus)
        return consistency_loss(predicted, network.apply(params, labels, mask, corpus), coded, form)

    predictions = np.random.default_rng(5).random((B, K)).astype(np.float32)
    gradient = jax.grad(lambda p: consistency(labels, p))(predictions)
    assert (gradient[~coded] == 0).all() and (np.abs(gradient[coded]).max() > 0)
    other = np.where(coded, labels, 1 - labels)
    assert consistency(labels, predictions) == consistency(other, predictions)

    def reconstruction(params, labels):
        batch = {"au": labels, "au_mask": mask, "mask": coded.any(1)}
        return LabelLoss()(network.apply(params, labels, mask, corpus), batch, {})[0]

    value, gradients = jax.value_and_grad(reconstruction)(params, labels)
    assert value == reconstruction(params, other)
    of_disfa = gradients["params"]["disfa"]
    assert (of_disfa["fc1"]["kernel"][:2] == 0).all() and (of_disfa["fc4"]["kernel"][:, :2] == 0).all()
    assert (of_disfa["fc1"]["kernel"][2:] != 0).any()


def test_full_masks_are_the_mean_of_the_corpora():
    """The paper's form: all latent numbers weigh the same."""
    names, labels, mask, corpus = _mixture()
    network = LabelVAEs(("bp4d", "disfa"), 0)
    params = network.init(jax.random.key(1), labels, mask, corpus)
    predictions = np.random.default_rng(6).random((B, K)).astype(np.float32)
    a, b = (network.apply(params, values, mask, corpus) for values in (predictions, labels))
    total, count = 0.0, 0
    for row in range(B):
        for z in range(8 if names[row] == "bp4d" else 6):
            deviations = [np.exp(x["log_variance"][row, z] / 2) for x in (a, b)]
            total += (a["mean"][row, z] - b["mean"][row, z]) ** 2 + (deviations[0] - deviations[1]) ** 2
            count += 1
    np.testing.assert_allclose(consistency_loss(a, b, jnp.asarray(mask), "paper"), total / count, rtol=1e-5)


def test_noise_of_training_is_uniform_and_new_each_time():
    labels = _labels(7, 2000)
    noise = label_vae.disturb(labels, jax.random.key(0)) - labels
    assert np.abs(noise).max() < 0.2 + 1e-6 and np.abs(noise).max() > 0.199
    np.testing.assert_allclose(noise.std(), 0.4 / 12**0.5, rtol=0.02)
    assert (noise != label_vae.disturb(labels, jax.random.key(1)) - labels).mean() > 0.99


def test_wrong_options():
    with pytest.raises(ValueError, match="loss.divergence: -1 must be at least 0"):
        LabelLoss(-1)
    with pytest.raises(ValueError, match="loss.gamma: -0.5 must be at least 0"):
        AULoss(gamma=-0.5)
    logits = jnp.zeros((2, K))
    batch = {"au": logits.astype(int), "au_mask": logits == 0, "mask": jnp.ones(2, bool)}
    state = {"weights": jnp.ones(K)}
    with pytest.raises(ValueError, match=r"config.network.vae is False.*set it to \"none\""):
        AULoss()({"logits": logits}, batch, state)
    value, terms, _ = AULoss("none")({"logits": logits}, batch, state)
    assert set(terms) == {"detection"} and value == pytest.approx(np.log(2))
    with pytest.raises(ValueError, match="no positive label"):
        AULoss().init({"n_occ": np.array([0, 1]), "n_coded": np.array([5, 5])})
    assert losses.rate_weights(np.array([1, 2]), np.array([4, 4])).tolist() == [4 / 3, 2 / 3]
