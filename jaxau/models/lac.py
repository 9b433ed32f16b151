"""LAC, "Lock and Check" (Huang et al., IEEE Transactions on Affective Computing, 2025).

Lock: the directions of the AU weights are aligned with the features at the AU's place on the face, which
yields one similarity map M per AU without any module for localisation. Check: the features under each map
pass graph attention across face regions, where uncertain, then an LSTM over the clip.
Equation and table numbers are the paper's; [choice] marks what the paper leaves open.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxau import facs, losses
from jaxau.models import layers
from jaxau.models.resnet import Block, ResNet, Stem

Metrics = dict[str, jax.Array]
LossState = dict[str, jax.Array]
Check = Literal["spatial_temporal", "linear", "none"]


def cross_region_neighbors(aus: tuple[int, ...]) -> tuple[tuple[bool, ...], ...]:
    """Adjacency of the AUs (Table I): each listens to itself and to the AUs of the other face regions."""
    regions = [facs.ACTION_UNITS[au].region for au in aus]
    return tuple(tuple(i == j or regions[i] != regions[j] for j in range(len(aus))) for i in range(len(aus)))


class LAC(nn.Module):
    """The network of LAC; defaults are the paper's, 27.21 M parameters for 12 AUs.

    Attributes:
      aus: AU numbers in the order of the outputs.
      temporal: whether the input is clips, over which the LSTM runs (stage ``clips``).
      check: what predicts from the AU features: "spatial_temporal", the paper's module; "linear", the
        classifier alone (Table IV without ST); "none": y'' is y', the plain trunk with a linear layer
        (Table IV, backbone).
      block, stage_sizes, widths, stem: the trunk, see ``ResNet``.
      features: width N of the AU vectors after the shared reduction.
      dtype: of the trunk's computation.
    """

    aus: tuple[int, ...]
    temporal: bool = True
    check: Check = "spatial_temporal"
    block: Block = "bottleneck"
    stage_sizes: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: Stem = "7x7"
    features: int = 512
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Detect AUs in aligned faces.

        Args:
          image: (b, h, w, 3) uint8 RGB stills, or (b, t, h, w, 3) clips (required if ``temporal``).
          train: whether BatchNorm uses the statistics of this batch.

        Returns:
          For stills (clips have t after b; i, j are cells of the map, h / 32 for four stages):
          ``logits`` (b, k) final predictions y''; ``lock_logits`` (b, k) y' of Eq. 2;
          ``attention`` (b, i, j, k) similarity maps M in [-1, 1]; ``feature_norm`` (b, i, j) |F|.
        """
        chex.assert_rank(image, 5 if self.temporal else {4, 5})
        leading, num_aus = image.shape[:-3], len(self.aus)
        x = layers.normalize(image, layers.IMAGENET_MEAN, layers.IMAGENET_STD)
        trunk = ResNet(self.block, self.stage_sizes, self.widths, self.stem, dtype=self.dtype, name="trunk")
        f = trunk(x.reshape(-1, *image.shape[-3:]), use_running_average=not train)
        f = f.astype(jnp.float32).reshape(*leading, *f.shape[1:])  # (b, [t], i, j, c)

        # Lock (Eqs. 1-3). The direction of w_c localises, its product with the mean feature classifies.
        w_c = self.param("au_weights", nn.initializers.xavier_uniform(), (num_aus, f.shape[-1]))
        lock_logits, attention, feature_norm = lock(f, w_c)
        located = {"lock_logits": lock_logits, "attention": attention, "feature_norm": feature_norm}
        if self.check == "none":
            return {"logits": lock_logits, **located}

        # The features under each map, pooled and reduced.
        v = jnp.einsum("...ijk,...ijc->...kc", attention, f) / (f.shape[-3] * f.shape[-2])
        v = nn.Dense(self.features, name="reduce")(v)  # (b, [t], k, n)

        if self.check == "spatial_temporal":
            # Check: relations between AUs where the first prediction is uncertain (Eqs. 7-11).
            neighbors = cross_region_neighbors(self.aus)
            related = layers.GraphAttention(self.features, neighbors, name="relations")(v)
            v = keep_confident(v, related, lock_logits)

        if self.check == "spatial_temporal" and self.temporal:  # one LSTM, shared by all AUs, over time
            b, t = leading
            sequence = jnp.swapaxes(v, 1, 2).reshape(b * num_aus, t, self.features)
            v = layers.LSTM(self.features, name="lstm")(sequence)
            v = jnp.swapaxes(v.reshape(b, num_aus, t, self.features), 1, 2)

        weight = self.param("classifier_weight", nn.initializers.lecun_normal(), (num_aus, self.features))
        bias = self.param("classifier_bias", nn.initializers.zeros, (num_aus,))
        return {"logits": (v * weight).sum(-1) + bias, **located}


def lock(f: jax.Array, w_c: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """First predictions and where they come from (Eqs. 1-3): y' is the mean over cells of |w_c| |F| M.

    Args:
      f: (..., i, j, c) features F.
      w_c: (k, c) AU weights.

    Returns:
      y' (..., k), similarity maps M = cos(w_c, F) (..., i, j, k), and |F| (..., i, j).
    """
    logits = jnp.einsum("...ijc,kc->...k", f, w_c) / (f.shape[-3] * f.shape[-2])
    feature_norm = _norm(f)
    attention = jnp.einsum("...ijc,kc->...ijk", f / feature_norm[..., None], w_c / _norm(w_c)[:, None])
    return logits, attention, feature_norm


def keep_confident(v: jax.Array, related: jax.Array, lock_logits: jax.Array) -> jax.Array:
    """Let only AUs that are uncertain listen to others (Eqs. 10, 11).

    ``alpha = |sigmoid(y') - .5| / .5`` carries no gradient [choice].

    Args:
      v: (..., k, n) AU vectors.
      related: (..., k, n) the same after graph attention.
      lock_logits: (..., k) y'.
    """
    alpha = jnp.abs(jax.lax.stop_gradient(nn.sigmoid(lock_logits)) - 0.5) / 0.5
    return alpha[..., None] * v + (1 - alpha[..., None]) * related


def _norm(x: jax.Array) -> jax.Array:
    """Euclidean length of the last axis, with a finite gradient at 0 (dead cells behind a ReLU)."""
    return jnp.sqrt((x * x).sum(-1) + 1e-12)


@dataclass(frozen=True)
class LACLoss:
    """The loss of both stages (Eqs. 4-6, 10-17); defaults are the paper's.

    Attributes:
      classification: "dwa" (Eqs. 13-16), "wa" (Eq. 12, weights fixed) or "ce" (binary cross-entropy).
      localization, activation, consistency, lock, check: eta 1 to 5 of Eq. 17.
      difficulty_decay, distribution_decay: beta 1 and 2.
      difficulty_share: delta.
      recall_floor: least recall that Eq. 13 divides by.
      roi_size: side of a region of interest as a share of the image side [choice: 56 of 224 px].
      roi_bins: cells of a pooled region along each axis [choice].
    """

    classification: Literal["dwa", "wa", "ce"] = "dwa"
    localization: float = 0.5
    activation: float = 0.5
    consistency: float = 0.01
    lock: float = 0.5
    check: float = 1.0
    difficulty_decay: float = 0.9
    distribution_decay: float = 0.9
    difficulty_share: float = 0.5
    recall_floor: float = 0.1
    roi_size: float = 0.25
    roi_bins: int = 2

    def __post_init__(self) -> None:
        shares = ("difficulty_decay", "distribution_decay", "difficulty_share", "recall_floor", "roi_size")
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"loss.{name}: {getattr(self, name)} must be in [0, 1]")
        if self.roi_bins < 1 or self.recall_floor == 0 or self.roi_size == 0:
            raise ValueError("loss.roi_bins, recall_floor and roi_size: must be above 0")

    def init(self, statistics: Mapping[str, Any]) -> LossState:
        """State of the dynamic weights from ``n_occ`` and ``n_coded`` (k,) of the training split."""
        weights = jnp.asarray(losses.rate_weights(statistics["n_occ"], statistics["n_coded"]), jnp.float32)
        return {"weights": weights, "difficulty": weights, "distribution": weights, **_no_counts(weights)}

    def epoch_metrics(self, state: LossState, aus: tuple[int, ...]) -> Metrics:
        """What Figs. 4 and 5 show of an epoch, for each AU, e.g. ``recall/AU01``.

        Returns:
          ``distribution``: share of positives among the coded labels (ClsDist of Eq. 14); ``recall`` of y''
          over the training epoch (Eq. 13), both 0 where there was no label. For "dwa" also the weights that
          the epoch was trained with: ``weight`` (Eq. 15), ``difficulty_weight``, ``distribution_weight``.
        """
        values = {"distribution": _distribution(state), "recall": _recall(state)}
        if self.classification == "dwa":
            values["weight"] = state["weights"]
            values["difficulty_weight"] = state["difficulty"]
            values["distribution_weight"] = state["distribution"]
        names = [facs.column(au) for au in aus]
        return {f"{key}/{name}": value[i] for key, value in values.items() for i, name in enumerate(names)}

    def end_epoch(self, state: LossState) -> LossState:
        """Fold the recall and the class distribution of the past epoch into the weights (Eqs. 13-15).

        Before they are averaged in, the reciprocals are scaled to sum to k like the weights they start from,
        and a recall below ``recall_floor`` counts as that: as printed, one AU that is not detected yet gets
        a hundred times the weight of the others, which then are not learned either [choice].
        """
        counts = _no_counts(state["weights"])
        if self.classification != "dwa":
            return {**state, **counts}
        b1, b2 = self.difficulty_decay, self.distribution_decay
        by_recall = _sum_to_size(1 / jnp.maximum(_recall(state), self.recall_floor))
        by_distribution = _sum_to_size(1 / jnp.maximum(_distribution(state), 0.01))
        w_diff = b1 * state["difficulty"] + (1 - b1) * by_recall
        w_dist = b2 * state["distribution"] + (1 - b2) * by_distribution
        weights = self.difficulty_share * w_diff + (1 - self.difficulty_share) * w_dist
        return {"weights": weights, "difficulty": w_diff, "distribution": w_dist, **counts}

    def __call__(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], state: LossState
    ) -> tuple[jax.Array, Metrics, LossState]:
        """Return the loss (Eq. 17), its terms, and the state with this batch's counts added.

        Args:
          outputs: of ``LAC``.
          batch: the view ``frames`` or ``clips``: au, au_mask, mask, au_centers, au_centers_mask, image.
          state: from ``init``.
        """
        # Time, where there is one, is one more batch axis for every term.
        flat = _flatten_time(outputs, batch)
        labels = flat["au"].astype(jnp.float32)
        coded = flat["au_mask"] & flat["mask"][:, None]
        regions = coded & flat["au_centers_mask"]
        terms = region_losses(
            flat["attention"],
            flat["feature_norm"],
            labels,
            regions,
            (flat["au_centers"] + 0.5) / batch["image"].shape[-2],
            self.roi_size,
            self.roi_bins,
        )
        classify = losses.cross_entropy if self.classification == "ce" else losses.weighted_asymmetric
        weights = jnp.ones_like(state["weights"]) if self.classification == "ce" else state["weights"]
        terms["lock"] = classify(flat["lock_logits"], labels, coded, weights)
        terms["check"] = classify(flat["logits"], labels, coded, weights)
        loss = (
            self.localization * terms["localization"]
            + self.activation * terms["activation"]
            + self.consistency * terms["consistency"]
            + self.lock * terms["lock"]
            + self.check * terms["check"]
        )
        positive = coded & (labels > 0.5)
        detected = positive & (flat["logits"] >= 0)
        counts = {
            "true_positives": state["true_positives"] + detected.sum(0),
            "positives": state["positives"] + positive.sum(0),
            "coded": state["coded"] + coded.sum(0),
        }
        return loss, terms, {**state, **jax.lax.stop_gradient(counts)}


def region_losses(
    attention: jax.Array,
    feature_norm: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
    centers: jax.Array,
    roi_size: float,
    roi_bins: int,
) -> dict[str, jax.Array]:
    """Localisation, activation and consistency losses (Eqs. 4, 5, 6) over RoIAlign regions.

    The paper's sums are means here, and |F| is divided by its maximum over the map: as printed, Eq. 4 has
    no lower bound and its size depends on the number of regions; divided by the mean, it outweighs all other
    terms [choice]. The sign of Eq. 6 is taken as a misprint: with it, inconsistency would be rewarded
    [choice].

    Args:
      attention: (b, i, j, k) M.
      feature_norm: (b, i, j) |F|.
      labels: (b, k) in {0, 1}.
      mask: (b, k) bool, False where the label or the AU's place is unknown.
      centers: (b, k, 2, 2) two places per AU as (x, y), shares of the image side.
      roi_size: side of a region as a share of the image side.
      roi_bins: cells of a pooled region along each axis.

    Returns:
      Scalars ``localization``, ``activation``, ``consistency``.
    """
    height, width, num_aus = attention.shape[1:]
    chex.assert_shape(centers, (attention.shape[0], num_aus, 2, 2))
    low, high = centers - roi_size / 2, centers + roi_size / 2
    columns = layers.roi_weights(low[..., 0] * width - 0.5, high[..., 0] * width - 0.5, width, roi_bins)
    rows = layers.roi_weights(low[..., 1] * height - 0.5, high[..., 1] * height - 0.5, height, roi_bins)
    # (b, k, 2 regions, bins, bins) values of |F| and of the AU's own map.
    relative_norm = feature_norm / (feature_norm.max((1, 2), keepdims=True) + 1e-6)
    norm_in = jnp.einsum("bkrpi,bij,bkrqj->bkrpq", rows, relative_norm, columns)
    map_in = jnp.einsum("bkrpi,bijk,bkrqj->bkrpq", rows, attention, columns).mean((3, 4))  # (b, k, 2)
    positive, negative = mask & (labels > 0.5), mask & (labels <= 0.5)
    deviation = map_in - attention.mean((1, 2))[..., None]
    return {
        "localization": -losses.masked_mean(norm_in.mean((2, 3, 4)), mask),
        "activation": losses.masked_mean(map_in.mean(2), negative)
        - losses.masked_mean(map_in.mean(2), positive),
        "consistency": losses.masked_mean((deviation**2).sum(2) / 2, mask),
    }


def _flatten_time(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Merge the axes (b, t) of clips into one; stills pass unchanged."""
    keys = ("au", "au_mask", "mask", "au_centers", "au_centers_mask")
    merged = {**outputs, **{key: batch[key] for key in keys}}
    if batch["mask"].ndim == 1:
        return merged
    return {key: value.reshape(-1, *value.shape[2:]) for key, value in merged.items()}


def _no_counts(weights: jax.Array) -> LossState:
    zeros = jnp.zeros_like(weights)
    return {"true_positives": zeros, "positives": zeros, "coded": zeros}


def _recall(state: LossState) -> jax.Array:
    return state["true_positives"] / jnp.maximum(state["positives"], 1)


def _distribution(state: LossState) -> jax.Array:
    return state["positives"] / jnp.maximum(state["coded"], 1)


def _sum_to_size(weights: jax.Array) -> jax.Array:
    return weights / weights.sum() * weights.size
