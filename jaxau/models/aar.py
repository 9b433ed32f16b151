"""AAR, "Facial Action Unit Detection via Adaptive Attention and Relation" (Shao et al., IEEE TIP, 2023).

An attention network predicts each AU from its own branch, whose features are weighted by a map that is
regressed to the AU's place on the face and guided by detection; a spatio-temporal graph network then relates
the AUs' features to each other and over time. Equation and table numbers are the paper's; [choice] marks what
the paper leaves open, [code] what the same authors' public networks do (JAA-Net, ARL).

The rows of Tables VI and VII, as fields of `AAR` and of the losses; those without G are the stage ``frames``
alone, and ``features`` means the graph network on their features:

| row | fields |
|---|---|
| B-Net | attention=False, loss.attention=0, loss.weighted=False |
| BW-Net | attention=False, loss.attention=0 |
| AA | the defaults |
| AA + G_sh | graph="shared", time="none" |
| AA + G_sp | graph="specific", time="none" |
| AA + G_sp + T_avg | graph="specific", time="average" |
| AAR | the defaults, graph="specific", time="gru" |

By the text, rows without G are trained with L_u^(0) (and L_a where there are maps), whatever the columns of
Table VI mark.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxau import losses
from jaxau.models import layers
from jaxau.models.branches import BranchConv, BranchNorm

Metrics = dict[str, jax.Array]
LossState = dict[str, jax.Array]
State = tuple[jax.Array, ...]
Graph = Literal["specific", "shared"]
Time = Literal["gru", "none", "average"]

GRIDS = (8, 4, 2)  # patches along each side in the three levels of a region layer
MAP_SIDE = 44  # cells along a side of the paper's maps, of which delta is given


class AAR(nn.Module):
    """The network of AAR; defaults are the paper's: 6.29 M and .886 M parameters for 12 AUs.

    Parameters lie under ``attention_network`` and ``graph_network``; each exists where it is used.

    Attributes:
      aus: AU numbers in the order of the outputs.
      temporal: whether the graph network follows (stage ``features``, and prediction on clips).
      attention: whether each branch has an attention map (Table VI, AL).
      graph: "specific" parameters of each AU from a pool (Eq. 11, G_sp), or "shared" by all (Eq. 15, G_sh).
      time: "gru" (Eq. 13), "none", or "average": as "none", but outside training each frame's probability
        is the mean over its sequence of ``window`` frames (T_avg); a call begins with a whole one.
      width: c; maps have 4c and 8c channels, an AU's features 12c (8 in the authors' networks [code]).
      window: t, frames of a sequence.
      pool: c^e, the parameter sets in the pool and the rank of the relations.
      dtype: of the attention network's computation; the graph network is float32.
    """

    aus: tuple[int, ...]
    temporal: bool = True
    attention: bool = True
    graph: Graph = "specific"
    time: Time = "gru"
    window: int = 48
    width: int = 8
    pool: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, state: State | None = None) -> dict[str, Any]:
        """Detect AUs in aligned faces, or from features of faces.

        Args:
          x: RGB stills (b, h, w, 3) uint8; if ``temporal``, clips (b, t, h, w, 3) uint8 or the features of
            their frames (b, t, k, 12c) float32. The sides of images are multiples of 16.
          train: whether BatchNorm uses the statistics of this batch.
          state: what an earlier call returned for the frames before these; None at the start (h_0 = 0
            [choice]).

        Returns:
          Of stills: ``logits`` (b, k), ``features`` (b, k, 12c) f^(0) and, if ``attention``, ``attention``
          (b, i, j, k) maps in [0, 1], i = h / 4. Of clips: the same with t after b, where the logits are the
          graph network's, and ``state``, one (b, k, 12c) h per layer after the last frame (empty without
          GRU). Of features: only ``logits`` and ``state``.

        Raises:
          ValueError: an image or a state of another size.
        """
        if not self.temporal:
            chex.assert_rank(x, 4)
            chex.assert_type(x, jnp.uint8)
            if state is not None:
                raise ValueError("state: stills have none; it belongs to temporal=True")
            return self._attend(x, train)
        if x.dtype == jnp.uint8:
            chex.assert_rank(x, 5)
            located = self._attend(x.reshape(-1, *x.shape[2:]), train)
            located = {name: value.reshape(*x.shape[:2], *value.shape[1:]) for name, value in located.items()}
            features = located["features"]
        else:
            chex.assert_shape(x, (None, None, len(self.aus), 12 * self.width))
            located, features = {}, x.astype(jnp.float32)
        relate = GraphNetwork(self.graph, self.time, self.window, self.pool, name="graph_network")
        logits, state = relate(features, train, state)
        return {**located, "logits": logits, "state": state}

    def _attend(self, image: jax.Array, train: bool) -> dict[str, jax.Array]:
        network = AttentionNetwork(
            len(self.aus), self.width, self.attention, self.dtype, name="attention_network"
        )
        return network(image, train)


class AttentionNetwork(nn.Module):
    """The adaptive attention regression network (Section III-B); attributes as of `AAR`."""

    num_aus: int
    width: int
    attention: bool
    dtype: Any

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Map (n, h, w, 3) uint8 to ``logits``, ``features`` and ``attention`` of `AAR`."""
        height, width = image.shape[1:3]
        if height % (2 * GRIDS[0]) or width % (2 * GRIDS[0]):
            raise ValueError(
                f"image of {height} x {width} pixels: sides must be multiples of {2 * GRIDS[0]}, since 8 x 8 "
                "equal patches are cut at full and at half size; choose e.g. 64, 96 or 176"
            )
        x = layers.normalize(image, (0.5,) * 3, (0.5,) * 3).astype(self.dtype)  # to [-1, 1] [code]
        for level, channels in enumerate((4 * self.width, 8 * self.width), start=1):
            x = RegionLayer(channels, self.dtype, name=f"region{level}")(x, train)
            x = nn.max_pool(x, (2, 2), (2, 2))

        def conv(name: str, y: jax.Array, features: int = 12 * self.width) -> jax.Array:
            return BranchConv(self.num_aus, features, self.dtype, name=name)(y, train)

        def norm(name: str, y: jax.Array) -> jax.Array:
            return nn.relu(BranchNorm(self.dtype, name=name)(y, train))

        # Branches first: (k, n, h / 4, w / 4, channels). BatchNorm and ReLU as in ARL [code].
        y = norm("norm1", conv("conv1", x))
        y = norm("norm2", conv("conv2", y))
        y = norm("norm3", conv("conv3", y))
        outputs = {}
        fourth = conv("conv4", y)
        if self.attention:
            maps = nn.sigmoid(conv("attention", y, 1).astype(jnp.float32))  # sigmoid [choice]
            outputs["attention"] = jnp.moveaxis(maps[..., 0], 0, -1)
            fourth = fourth * maps.astype(self.dtype)
        y = conv("conv5", norm("norm4", fourth))
        features = jnp.swapaxes(y.astype(jnp.float32).mean((2, 3)), 0, 1)
        return {"logits": layers.AUClassifier(name="classifier")(features), "features": features, **outputs}


class RegionLayer(nn.Module):
    """Hierarchical and multi-scale region layer R^hm (Fig. 3a; layer as in JAA-Net [code]).

    Attributes:
      features: channels of the output, a multiple of 4.
      dtype: of the computation.
    """

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (n, h, w, c) to (n, h, w, features); h and w are multiples of 8."""
        whole = nn.Conv(self.features, (3, 3), padding=1, dtype=self.dtype, name="conv")(x)
        levels = [whole]
        for grid, share in zip(GRIDS, (2, 4, 4), strict=True):
            level = PatchConv(grid, self.features // share, self.dtype, name=f"patches{grid}")
            levels.append(level(levels[-1], train))
        y = jnp.concatenate(levels[1:], -1) + whole
        norm = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype, name="norm")
        return nn.relu(norm(y))


class PatchConv(nn.Module):
    """BatchNorm, ReLU, convolution of each patch on its own, padded on its own border.

    Attributes:
      grid: patches along each side; parameters are stacked row by row.
      features: channels of the output.
      dtype: of the computation.
    """

    grid: int
    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (n, h, w, c) to (n, h, w, features)."""
        n, height, width, channels = x.shape
        g, rows, columns = self.grid, height // self.grid, width // self.grid
        x = x.reshape(n, g, rows, g, columns, channels).transpose(1, 3, 0, 2, 4, 5)
        x = x.reshape(g * g, n, rows, columns, channels)
        x = nn.relu(BranchNorm(self.dtype, name="norm")(x, train))
        x = BranchConv(g * g, self.features, self.dtype, name="conv")(x, train)
        x = x.reshape(g, g, n, rows, columns, self.features).transpose(2, 0, 3, 1, 4, 5)
        return x.reshape(n, height, width, self.features)


class GraphNetwork(nn.Module):
    """The adaptive spatio-temporal graph convolutional network (Section III-C); attributes as of `AAR`."""

    graph: Graph
    time: Time
    window: int
    pool: int

    @nn.compact
    def __call__(self, f: jax.Array, train: bool, state: State | None) -> tuple[jax.Array, State]:
        """Map features (b, t, k, d) and the state before to logits (b, t, k) and the state after."""
        b, _, num_aus, width = f.shape
        recurrent = self.time == "gru"
        expected = ((b, num_aus, width),) * (2 if recurrent else 0)
        state = tuple(jnp.zeros(shape) for shape in expected) if state is None else state
        if tuple(h.shape for h in state) != expected:
            raise ValueError(f"state: shapes {[h.shape for h in state]} for {f.shape}, expected {expected}")
        after = []
        for index in range(2):
            layer = GraphLayer(self.graph, recurrent, self.pool, name=f"layer{index + 1}")
            f, h = layer(f, state[index] if recurrent else None)
            after += [] if h is None else [h]
        logits = layers.AUClassifier(name="classifier")(f)
        if self.time == "average" and not train:
            logits = _average(logits, self.window)
        return logits, tuple(after)


class GraphLayer(nn.Module):
    """Spatio-temporal graph convolutional layer G^st (Eqs. 10-13, Fig. 3b).

    Without recurrence it is what Eq. 13c makes of F alone, ``tanh`` of Eq. 11 or 15; the paper names no
    activation of its variants without GRU [choice].

    Attributes:
      graph, pool: as of `AAR`.
      recurrent: whether the GRU runs over time.
    """

    graph: Graph
    recurrent: bool
    pool: int

    @nn.compact
    def __call__(self, f: jax.Array, h: jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
        """Map F^in (b, t, k, d) and h_0 (b, k, d), if ``recurrent``, to F^out (b, t, k, d) and the last h."""
        num_aus, width = f.shape[2:]
        normal = nn.initializers.normal
        a = adjacency(self.param("relations", normal(1.0), (num_aus, self.pool)))  # U
        specific = self.graph == "specific"
        q = self.param("disentanglement", normal(1.0), (num_aus, self.pool)) if specific else None

        def theta(gate: str, inputs: int) -> jax.Array:
            """Each AU's parameters (k, inputs, width): Q W (Eq. 9), or the same for all (Eq. 15)."""
            if q is None:
                same = self.param(gate, nn.initializers.lecun_normal(), (inputs, width))
                return jnp.broadcast_to(same, (num_aus, inputs, width))
            # Q of size 1 and a small W: Q W begins as an ordinary layer's parameters [choice].
            small = normal((inputs * self.pool) ** -0.5)
            return jnp.einsum("ie,ecd->icd", q, self.param(gate, small, (self.pool, inputs, width)))

        related = jnp.einsum("ij,btjc->btic", a, f)
        if h is None:
            return jnp.tanh(jnp.einsum("btic,icd->btid", related, theta("candidate", width))), None

        # C(h, F): the upper half of a gate's parameters meets h, the lower half F.
        gates = jnp.stack([theta(gate, 2 * width) for gate in ("update", "reset", "candidate")])
        of_h, of_f = gates[:, :, :width], gates[:, :, width:]
        inputs = jnp.einsum("btic,gicd->tgbid", related, of_f)  # of all frames before the scan

        def step(h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            related = jnp.einsum("ij,bjc->bic", a, h)
            z, r = nn.sigmoid(x[:2] + jnp.einsum("bic,gicd->gbid", related, of_h[:2]))  # Eqs. 13a, 13b
            related = jnp.einsum("ij,bjc->bic", a, r * h)
            candidate = jnp.tanh(x[2] + jnp.einsum("bic,icd->bid", related, of_h[2]))  # Eq. 13c
            h = z * h + (1 - z) * candidate  # Eq. 13d
            return h, h

        last, outputs = jax.lax.scan(step, h, inputs, unroll=4)
        return jnp.moveaxis(outputs, 0, 1), last


def adjacency(relations: jax.Array) -> jax.Array:
    """``I + N(ReLU(U U^T))`` (Eq. 10), where N divides by the sum of all entries.

    Args:
      relations: (k, c^e) U.

    Returns:
      (k, k).
    """
    related = nn.relu(relations @ relations.T)
    return jnp.eye(len(relations)) + related / (related.sum() + 1e-8)


def _average(logits: jax.Array, window: int) -> jax.Array:
    """The logit of the mean probability of every ``window`` frames of (b, t, k), finite for any logits."""
    b, t, num_aus = logits.shape

    def total(log_probability: jax.Array) -> jax.Array:
        whole = jnp.pad(log_probability, ((0, 0), (0, -t % window), (0, 0)), constant_values=-jnp.inf)
        return jax.nn.logsumexp(whole.reshape(b, -1, window, num_aus), 2)

    mean = total(nn.log_sigmoid(logits)) - total(nn.log_sigmoid(-logits))
    return jnp.repeat(mean, window, 1)[:, :t]


@dataclass(frozen=True)
class FeaturesLoss:
    """The loss of stage ``features``: L_u^(1) of the graph network (Eq. 14).

    Attributes:
      weighted: w_j and v_j of Eq. 5, or 1 / m and 1 (Table VI, W^au).
    """

    weighted: bool = True

    def init(self, statistics: Mapping[str, Any]) -> LossState:
        """The fixed weights from ``n_occ`` and ``n_coded`` (k,) of the training split.

        Returns:
          ``weights`` (k,), m w_j, and ``positive_weights`` (k,), v_j.

        Raises:
          ValueError: an AU never occurs, so that its weight is undefined.
        """
        occurrences = np.asarray(statistics["n_occ"], np.float64)
        coded = np.asarray(statistics["n_coded"], np.float64)
        if not self.weighted:
            ones = jnp.ones(len(coded), jnp.float32)
            return {"weights": ones, "positive_weights": ones}
        weights = losses.rate_weights(occurrences, coded)
        positive = (coded - occurrences) / occurrences
        return {
            "weights": jnp.asarray(weights, jnp.float32),
            "positive_weights": jnp.asarray(positive, jnp.float32),
        }

    def epoch_metrics(self, state: LossState, aus: tuple[int, ...]) -> Metrics:
        """Nothing: the weights are fixed."""
        return {}

    def end_epoch(self, state: LossState) -> LossState:
        """The same state."""
        return state

    def __call__(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], state: LossState
    ) -> tuple[jax.Array, Metrics, LossState]:
        """Return the loss, its terms and the state, from ``logits`` and au, au_mask, mask of the batch."""
        loss = detection_loss(outputs["logits"], batch["au"], _coded(batch), **state)
        return loss, {"detection": loss}, state


@dataclass(frozen=True)
class AttentionLoss(FeaturesLoss):
    """The loss of stage ``frames``: L_AA = L_u^(0) + lambda_a L_a (Eqs. 1-6).

    Attributes:
      attention: lambda_a; 0 for a network without maps.
      delta: standard deviation of the predefined Gaussians in cells of a 44 x 44 map; in another map it is
        the same share of the side [choice].
    """

    attention: float = 2.0
    delta: float = 3.0

    def __post_init__(self) -> None:
        if not (self.attention >= 0 and self.delta > 0):
            raise ValueError(
                f"loss.attention, loss.delta: {self.attention}, {self.delta} must be at least 0, and above 0"
            )

    def __call__(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], state: LossState
    ) -> tuple[jax.Array, Metrics, LossState]:
        """Return the loss, its terms and the state, from outputs of `AAR` and a batch of stills or clips."""
        loss, terms, state = super().__call__(outputs, batch, state)
        if not self.attention:
            return loss, terms, state
        if "attention" not in outputs:
            raise ValueError(
                f"loss.attention: {self.attention}, but the network has no attention maps "
                "(config.network.attention is False); set it to 0"
            )
        maps = outputs["attention"]
        wanted = attention_target(batch["au_centers"], batch["image"].shape[-2], maps.shape[-2], self.delta)
        known = _coded(batch) & batch["au_centers_mask"]
        terms["attention"] = losses.masked_mean((maps - wanted) ** 2, known[..., None, None, :])  # Eq. 3
        return loss + self.attention * terms["attention"], terms, state


def detection_loss(
    logits: jax.Array, labels: jax.Array, mask: jax.Array, weights: jax.Array, positive_weights: jax.Array
) -> jax.Array:
    """Eqs. 4 and 14, the mean over the unmasked labels times m, so that full labels give the paper's sum.

    Args:
      logits: (..., k).
      labels: (..., k) in {0, 1}.
      mask: (..., k) bool, False = not coded or padding.
      weights: (k,) m w_j.
      positive_weights: (k,) v_j.
    """
    on, off = jax.nn.softplus(-logits), jax.nn.softplus(logits)  # -log p and -log(1 - p)
    return losses.masked_mean(weights * (positive_weights * labels * on + (1 - labels) * off), mask)


def attention_target(centers: jax.Array, side: int, cells: int, delta: float) -> jax.Array:
    """Predefined attention maps (Eqs. 1, 2): the larger of two Gaussians around the AU's centres.

    Args:
      centers: (..., k, 2, 2) two places per AU as (x, y) in pixels of the image.
      side: of the image in pixels.
      cells: side of the map; centres are rounded to its cells, halves up [code].
      delta: standard deviation in cells of a 44 x 44 map.

    Returns:
      (..., cells, cells, k) in (0, 1].
    """
    middle = jnp.floor(centers / side * cells + 0.5)[..., None]  # (..., k, 2, xy, 1)
    exponent = ((jnp.arange(cells) - middle) * (MAP_SIDE / cells / delta)) ** 2 / 2
    x, y = exponent[..., 0, :], exponent[..., 1, :]  # (..., k, 2, cells)
    maps = jnp.exp(-(y[..., :, None] + x[..., None, :])).max(-3)
    return jnp.moveaxis(maps, -3, -1)


def _coded(batch: Mapping[str, jax.Array]) -> jax.Array:
    return batch["au_mask"] & batch["mask"][..., None]
