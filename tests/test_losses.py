"""Losses against public PyTorch outputs and cases computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxau import losses


@pytest.fixture(scope="module")
def case(golden):
    """Inputs by name, and PyTorch's losses and gradients for them."""
    weights, spec, want = golden("losses")
    given = {
        name: weights.inputs(tuple(about["shape"]), spec["seed"], name, about["kind"].split(";")[0])
        for name, about in spec["inputs"].items()
    }
    given["logits"] = given["logits"] * spec["inputs"]["logits"]["times"]
    return given, want


@pytest.mark.parametrize("weighted", [False, True])
def test_weighted_asymmetric_equals_me_graphau(case, weighted):
    given, want = case
    suffix = "_weighted" if weighted else ""
    weights = jnp.asarray(want["au_weights"] if weighted else np.ones(12), jnp.float32)
    mask = jnp.ones((64, 12), bool)

    def loss(logits):
        return losses.weighted_asymmetric(logits, given["labels"], mask, weights)

    value, gradient = jax.value_and_grad(loss)(given["logits"])
    np.testing.assert_allclose(value, want[f"asymmetric{suffix}"], rtol=1e-6)
    np.testing.assert_allclose(gradient, want[f"asymmetric_gradient_logits{suffix}"], atol=1e-7)


def test_cross_entropy_equals_pytorch(case):
    given, want = case
    mask = jnp.ones((64, 12), bool)

    def loss(logits):
        return losses.cross_entropy(
            logits, given["labels"], mask, jnp.asarray(want["au_weights"], jnp.float32)
        )

    value, gradient = jax.value_and_grad(loss)(given["logits"])
    np.testing.assert_allclose(value, want["bce_with_logits_weighted"], rtol=1e-6)
    np.testing.assert_allclose(gradient, want["bce_with_logits_weighted_gradient"], atol=1e-7)


def test_rate_weights_equal_published(case):
    given, want = case
    positives = (given["rates"] < np.linspace(0.05, 0.6, 12)).sum(0)
    np.testing.assert_array_equal(positives, want["positives"])
    np.testing.assert_allclose(
        losses.rate_weights(positives, np.full(12, 500)), want["au_weights"], rtol=1e-9
    )


def test_weighted_asymmetric_by_hand():
    """Logit 0 is p = 1/2: a positive costs log 2, a negative half of that; the masked label costs nothing."""
    logits = jnp.array([[0.0, 0.0, 5.0]])
    labels = jnp.array([[1.0, 0.0, 0.0]])
    mask = jnp.array([[True, True, False]])
    loss = losses.weighted_asymmetric(logits, labels, mask, jnp.array([1.0, 3.0, 9.0]))
    np.testing.assert_allclose(loss, (np.log(2) + 3 * 0.5 * np.log(2)) / 2, rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.weighted_asymmetric])
def test_extreme_logits_stay_finite(loss):
    logits = jnp.array([[200.0, -200.0, 200.0, -200.0]])
    labels = jnp.array([[0.0, 1.0, 1.0, 0.0]])
    value, gradient = jax.value_and_grad(loss)(logits, labels, jnp.ones((1, 4), bool), jnp.ones(4))
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_masked_labels_carry_no_gradient():
    logits, labels = jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 1.0]])
    mask = jnp.array([[True, False]])
    for loss in (losses.cross_entropy, losses.weighted_asymmetric):
        gradient = jax.grad(loss)(logits, labels, mask, jnp.ones(2))
        assert gradient[0, 0] != 0 and gradient[0, 1] == 0


def test_an_au_that_never_occurs_is_refused():
    with pytest.raises(ValueError, match=r"columns \[1\] have no positive label.*config.data.aus"):
        losses.rate_weights(np.array([3, 0]), np.array([9, 9]))
