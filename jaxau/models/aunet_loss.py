"""The loss of AUNet's detector (Yang et al., 2023, Eqs. 1, 3, 4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxau import losses
from jaxau.models import label_vae
from jaxau.models.label_vae import Consistency

Metrics = dict[str, jax.Array]
LossState = dict[str, jax.Array]


@dataclass(frozen=True)
class AULoss:
    """The loss of the detector: L_cls + gamma L_cons (Eqs. 1, 3, 4).

    Attributes:
      consistency: form of L_cons, see `label_vae.consistency_loss`; "none" for a network without VAE.
      gamma: its weight.
    """

    consistency: Consistency = "paper"
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if self.gamma < 0:
            raise ValueError(f"loss.gamma: {self.gamma} must be at least 0")

    def init(self, statistics: Mapping[str, Any]) -> LossState:
        """The fixed ``weights`` (k,) of the AUs, from ``n_occ`` and ``n_coded`` (k,) of the training split.

        Eq. 1 sums over AUs with weights that sum to 1; here is the mean with weights that sum to k [code].

        Raises:
          ValueError: an AU never occurs, so that its weight is undefined.
        """
        weights = losses.rate_weights(statistics["n_occ"], statistics["n_coded"])
        return {"weights": jnp.asarray(weights, jnp.float32)}

    def epoch_metrics(self, state: LossState, aus: tuple[int, ...]) -> Metrics:
        """Nothing: the weights are fixed."""
        return {}

    def end_epoch(self, state: LossState) -> LossState:
        """The same state."""
        return state

    def __call__(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], state: LossState
    ) -> tuple[jax.Array, Metrics, LossState]:
        """Return the loss, its terms ``detection`` and ``consistency``, and the state.

        Args:
          outputs: of `AUNet`, given the labels.
          batch: au, au_mask (b, k), mask (b,); of windows with t after b, where only frames with both
            neighbours count.
          state: from `init`.

        Raises:
          ValueError: a consistency is wanted of a network without auto-encoder.
        """
        coded = batch["au_mask"] & batch["mask"][..., None]
        if "complete" in outputs:
            coded &= outputs["complete"][..., None]
        labels = batch["au"].astype(jnp.float32)
        terms = {"detection": losses.cross_entropy(outputs["logits"], labels, coded, state["weights"])}
        if self.consistency == "none":
            return terms["detection"], terms, state
        predicted, labelled = (_with_prefix(outputs, name) for name in ("predicted_", "labelled_"))
        if not labelled:
            raise ValueError(
                f"loss.consistency: {self.consistency!r}, but the network has no auto-encoder "
                '(config.network.vae is False); set it to "none"'
            )
        terms["consistency"] = label_vae.consistency_loss(predicted, labelled, coded, self.consistency)
        return terms["detection"] + self.gamma * terms["consistency"], terms, state


def _with_prefix(values: Mapping[str, jax.Array], prefix: str) -> dict[str, jax.Array]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
