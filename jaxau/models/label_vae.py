"""The variational auto-encoder of AU labels that regularises AUNet (Yang et al., 2023, Section IV-B).

It learns which AUs occur together from the labels of one corpus (Eq. 2). Frozen, its encoder then says how
far the predictions for a face are from the face's labels (Eq. 3); at test it is not there. Its layers are
named as in the authors' public code; [code] marks what that does, [choice] what the paper leaves open.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxau import facs, losses

Metrics = dict[str, jax.Array]
LossState = dict[str, jax.Array]
Consistency = Literal["paper", "released", "label_space", "none"]

LATENT = {"bp4d": 8, "disfa": 6, "aff_wild2": 5, "aff_wild2_8au": 5}
"""Latent numbers of each corpus in the paper; others have 8 [choice]."""

NOISE = 0.2
"""Largest change of a label before it is encoded in training."""


class LabelVAE(nn.Module):
    """The auto-encoder of one corpus: 428 parameters for BP4D, 236 for DISFA.

    Attributes:
      latent: latent numbers.
    """

    latent: int

    @nn.compact
    def __call__(self, labels: jax.Array, noise: jax.Array | None = None) -> dict[str, jax.Array]:
        """Encode and decode.

        Args:
          labels: (..., k) in [0, 1], or a little beyond.
          noise: (..., latent) standard normal, with which the latent numbers are drawn; None: their mean.

        Returns:
          ``mean``, ``log_variance`` (..., latent), and ``decoded`` (..., k) logits.
        """
        hidden = nn.relu(nn.Dense(self.latent, name="fc1")(labels))
        mean = nn.Dense(self.latent, name="fc21")(hidden)
        log_variance = nn.Dense(self.latent, name="fc22")(hidden)
        z = mean if noise is None else mean + jnp.exp(log_variance / 2) * noise
        decoded = nn.Dense(labels.shape[-1], name="fc4")(nn.relu(nn.Dense(self.latent, name="fc3")(z)))
        return {"mean": mean, "log_variance": log_variance, "decoded": decoded}


class LabelVAEs(nn.Module):
    """One auto-encoder for each corpus of a mixture, over the AUs that it codes.

    Labels that are not coded enter as 0 and are not reconstructed, so that to an auto-encoder AUs which its
    corpus does not code are not there.

    Attributes:
      corpora: names, as in the configuration.
      latent: latent numbers of all; 0 = as in `LATENT`.
    """

    corpora: tuple[str, ...]
    latent: int

    @nn.compact
    def __call__(
        self, labels: jax.Array, mask: jax.Array, corpus: jax.Array, sample: bool = False
    ) -> dict[str, jax.Array]:
        """Encode and decode each face's labels with the auto-encoder of its corpus.

        Args:
          labels: (..., k) in [0, 1].
          mask: (..., k) bool, False = not coded.
          corpus: (...) numbers of `facs.corpus_number`.
          sample: whether the latent numbers are drawn (random numbers "noise"), or their mean is decoded.

        Returns:
          ``mean``, ``log_variance`` (..., d) and ``latent_mask`` (..., d), False where the face's corpus has
          fewer than the most latent numbers; ``decoded`` (..., k) logits.
        """
        chex.assert_equal_shape([labels, mask])
        chex.assert_shape(corpus, labels.shape[:-1])
        sizes = [self.latent or LATENT.get(name, 8) for name in self.corpora]
        wide = (*labels.shape[:-1], max(sizes))
        labels = jnp.where(mask, labels, 0.0).astype(jnp.float32)
        noise = jax.random.normal(self.make_rng("noise"), wide) if sample else None
        found = {
            "mean": jnp.zeros(wide),
            "log_variance": jnp.zeros(wide),
            "decoded": jnp.zeros(labels.shape),
            "latent_mask": jnp.zeros(wide, bool),
        }
        for name, size in zip(self.corpora, sizes, strict=True):
            outputs = LabelVAE(size, name=name)(labels, None if noise is None else noise[..., :size])
            outputs["latent_mask"] = jnp.ones_like(outputs["mean"], bool)
            here = (corpus == facs.corpus_number(name))[..., None]
            for key, value in outputs.items():
                lacking = found[key].shape[-1] - value.shape[-1]
                padded = jnp.pad(value, ((0, 0),) * (value.ndim - 1) + ((0, lacking),))
                found[key] = jnp.where(here, padded, found[key])
        return found


def disturb(labels: jax.Array, key: jax.Array) -> jax.Array:
    """Labels with uniform noise in (-.2, .2), as the auto-encoder sees them in training."""
    return labels + jax.random.uniform(key, labels.shape, minval=-NOISE, maxval=NOISE)


@dataclass(frozen=True)
class LabelLoss(losses.Stateless):
    """The loss of stage ``labels``: L_vae (Eq. 2).

    Sums over AUs and latent numbers as in the paper, and the mean over the batch, for which the authors' code
    has the sum, too: that multiplies all gradients alike, which Adam does not see.

    Attributes:
      divergence: lambda.
    """

    divergence: float = 0.3

    def __post_init__(self) -> None:
        if self.divergence < 0:
            raise ValueError(f"loss.divergence: {self.divergence} must be at least 0")

    def __call__(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], state: LossState
    ) -> tuple[jax.Array, Metrics, LossState]:
        """Return the loss, its terms and the state.

        Args:
          outputs: of `LabelVAEs`.
          batch: the view ``labels``: au, au_mask (b, k), mask (b,).
          state: empty.

        Returns:
          The terms ``reconstruction`` and ``divergence``.
        """
        logits, labels = outputs["decoded"], batch["au"].astype(jnp.float32)
        entropy = labels * jax.nn.softplus(-logits) + (1 - labels) * jax.nn.softplus(logits)
        mean, log_variance = outputs["mean"], outputs["log_variance"]
        divergence = (jnp.exp(log_variance) + mean**2 - 1 - log_variance) / 2
        coded, latent = batch["au_mask"], outputs["latent_mask"]
        terms = {
            "reconstruction": losses.masked_mean(jnp.where(coded, entropy, 0).sum(-1), batch["mask"]),
            "divergence": losses.masked_mean(jnp.where(latent, divergence, 0).sum(-1), batch["mask"]),
        }
        return terms["reconstruction"] + self.divergence * terms["divergence"], terms, state


def consistency_loss(
    predicted: Mapping[str, jax.Array],
    labelled: Mapping[str, jax.Array],
    coded: jax.Array,
    form: Consistency,
) -> jax.Array:
    """How far predictions are from labels to the frozen auto-encoders (Eq. 3).

    Args:
      predicted, labelled: what `LabelVAEs` makes of the predictions (..., k) and of the labels.
      coded: (..., k) bool, False = not coded or padding.
      form: "paper": mean squares of the differences of means and of standard deviations [choice: Sigma as
        standard deviations]; "released": instead of the latter the mean of the predictions' standard
        deviations alone [code]; "label_space": mean square of the difference of the decoded probabilities
        (from the means [choice]).

    Returns:
      The mean over the latent numbers of the faces that have a coded label, or over the coded labels.
    """
    if form == "label_space":
        difference = nn.sigmoid(predicted["decoded"]) - nn.sigmoid(labelled["decoded"])
        return losses.masked_mean(difference**2, coded)
    known = labelled["latent_mask"] & coded.any(-1, keepdims=True)
    means = losses.masked_mean((predicted["mean"] - labelled["mean"]) ** 2, known)
    deviation = jnp.exp(predicted["log_variance"] / 2)
    if form == "released":
        return means + losses.masked_mean(deviation, known)
    return means + losses.masked_mean((deviation - jnp.exp(labelled["log_variance"] / 2)) ** 2, known)
