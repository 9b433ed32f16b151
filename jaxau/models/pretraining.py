"""Losses of stages that come before AUs are learned: triplets of expressions, and classes of faces.

GTLE-Net, Eq. 1, and GLEE-Net, Eq. 4, which are the same; seven emotions (GTLE-Net, Table 10).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from jaxau import losses

Metrics = dict[str, jax.Array]


@dataclass(frozen=True)
class TripletLoss(losses.Stateless):
    """Stage ``triplets``: the two that are alike lie closer to each other than either to the odd one.

    A triplet that follows from others says only that the anchor is nearer to the positive than to the
    negative. It counts while it is semi-hard: the negative is farther already, but by less than the margin
    (Schroff et al., 2015) [choice].

    Attributes:
      margin_one: m of triplets of one class of expression (GLEE-Net; GTLE-Net names none [choice]);
      margin_more: of two or three classes.
    """

    margin_one: float = 0.1
    margin_more: float = 0.2

    def __post_init__(self) -> None:
        if not (0 <= self.margin_one <= 4 and 0 <= self.margin_more <= 4):
            raise ValueError(
                f"loss.margin_one, loss.margin_more: {self.margin_one}, {self.margin_more} must be in [0, "
                "4], the range of squared distances of unit vectors"
            )

    def __call__(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], state: Any
    ) -> tuple[jax.Array, Metrics, Any]:
        """The loss, its terms and the state.

        The terms are ``accuracy``, the share of annotated triplets that are in the right order, and of a
        stage that mines ``mined``, those that follow from others and count, as a share of all.

        Args:
          outputs: ``embedding`` (b, 3, d), unit vectors of anchor, positive and negative.
          batch: the view ``triplets``: triplet_class (b,), mask (b,); of a stage that mines derived (b,).
          state: empty.
        """
        embedding = outputs["embedding"]
        chex.assert_shape(embedding, (None, 3, None))
        near, *far = squared_distances(embedding)
        margin = jnp.where(batch["triplet_class"] == 1, self.margin_one, self.margin_more)
        mask = batch["mask"]
        derived = batch.get("derived", jnp.zeros_like(mask))
        mined = derived & (near < far[0]) & (far[0] < near + margin)
        by_anchor, by_positive = (jax.nn.relu(near - distance + margin) for distance in far)
        hinge = jnp.where(derived, by_anchor, by_anchor + by_positive)
        right = (near < far[0]) & (near < far[1])
        terms = {"accuracy": losses.masked_mean(right.astype(jnp.float32), mask & ~derived)}
        if "derived" in batch:
            terms["mined"] = losses.masked_mean(mined.astype(jnp.float32), mask)
        return losses.masked_mean(hinge, mask & (~derived | mined)), terms, state


def squared_distances(embedding: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Anchor to positive, anchor to negative, positive to negative (...,) of (..., 3, d)."""
    anchor, positive, negative = (embedding[..., i, :] for i in range(3))
    pairs = ((anchor, positive), (anchor, negative), (positive, negative))
    ap, an, pn = (((x - y) ** 2).sum(-1) for x, y in pairs)
    return ap, an, pn


@dataclass(frozen=True)
class ClassLoss(losses.Stateless):
    """Cross-entropy of classes, such as the seven emotions.

    Attributes:
      label: field of the batch (b,) with their numbers; below 0 is unknown.
    """

    label: str = "emotion"

    def __call__(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], state: Any
    ) -> tuple[jax.Array, Metrics, Any]:
        """The loss, ``accuracy`` and the state, from ``class_logits`` (b, classes)."""
        logits, labels = outputs["class_logits"], batch[self.label]
        known = batch["mask"] & (labels >= 0)
        each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
        right = (logits.argmax(-1) == labels).astype(jnp.float32)
        return losses.masked_mean(each, known), {"accuracy": losses.masked_mean(right, known)}, state
