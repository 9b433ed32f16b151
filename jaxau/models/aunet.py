"""AUNet, "Towards Robust Facial Action Units Detection" (Yang et al., Proceedings of the IEEE, 2023).

The features of a frozen face alignment network (FAN) around the landmarks; what changes in them between the
frames t - T, t and t + T (TDN); and an auto-encoder of labels that keeps predictions among the combinations
of AUs that occur (VAE, see ``label_vae.py``). Equation and table numbers are the paper's; [code] marks what
the authors' public code does, [choice] what the paper leaves open.

The paper's variants as fields of `AUNet` and options of `AULoss`:

| row | fields |
|---|---|
| AUNet | the defaults |
| AU-TDN | vae=False, loss.consistency="none" |
| AU-VAE | motion=False |
| AU-FAN | motion=False, vae=False, loss.consistency="none" |
| AU-FAN + optical flow (FlowNet in Table XI) | as AU-TDN, in the stage ``flow`` |
| ResNet18 | as AU-FAN, and trunk="resnet18" |
| ResNet18-A | trunk="resnet18" |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxau import losses
from jaxau.models import label_vae, layers
from jaxau.models.fan import FAN, ConvBlock, Pool, assemble
from jaxau.models.label_vae import Consistency, LabelVAEs
from jaxau.models.resnet import ResNet

Metrics = dict[str, jax.Array]
LossState = dict[str, jax.Array]
Part = Literal["labels", "tuples", "flow"]
Trunk = Literal["fan", "resnet18"]

_kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class AUNet(nn.Module):
    """The network; with the defaults 2,657,036 parameters for 12 AUs beside the frozen FAN and VAE.

    Parameters lie under ``fan`` or ``trunk``, ``head`` and ``vae``.

    Attributes:
      aus: AU numbers in the order of the outputs.
      part: the stage. "labels": the auto-encoder of labels alone; "tuples": the detector; "flow": the
        detector with optical flow in place of the differences of features.
      corpora: that are trained on; each has an auto-encoder of its own.
      trunk: "fan", frozen; or "resnet18", which learns.
      motion: whether the neighbours t - T and t + T are looked at (TDN).
      vae: whether there is an auto-encoder.
      latent: its latent numbers; 0 = the paper's for each corpus.
      alpha, beta: shares of what is seen in the frame and of what moves [code: .9, .1].
      flip: whether the logits outside of training are the mean over the picture and its mirror image.
      hourglasses, pool, points: of the FAN.
      width: channels of the FAN, and of the head; ResNet18 has ``width`` / 4 in its first stage.
      dtype: of the computation; the VAE and the classifier are float32.
    """

    aus: tuple[int, ...]
    part: Part = "tuples"
    corpora: tuple[str, ...] = ("bp4d",)
    trunk: Trunk = "fan"
    motion: bool = True
    vae: bool = True
    latent: int = 0
    alpha: float = 0.9
    beta: float = 0.1
    flip: bool = False
    hourglasses: int = 2
    pool: Pool = "max"
    points: int = 68
    width: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        *inputs: jax.Array,
        au: jax.Array | None = None,
        au_mask: jax.Array | None = None,
        corpus: jax.Array | None = None,
        train: bool = False,
    ) -> dict[str, jax.Array]:
        """Detect AUs in the middle one of three frames, or encode labels.

        Args:
          inputs: of "tuples" the frames t - T, t, t + T (b, 3, h, w, 3) RGB uint8, where the middle one
            stands in for a neighbour that there is not; without ``motion`` also stills (b, h, w, 3). Of
            "flow" the same, and ``flow`` (b, h, w, 4) in pixels, x and y from t to t - T and to t + T. Of
            "labels" ``au``, ``au_mask`` and ``corpus``, as below. For a FAN the sides are multiples of 64.
          au: (b, k) labels in {0, 1} of the middle frame; with them (and the next two) the outputs hold what
            `label_vae.consistency_loss` compares.
          au_mask: (b, k) bool, False = not coded.
          corpus: (b,) numbers of `facs.corpus_number`.
          train: whether BatchNorm uses the statistics of this batch, and the auto-encoder noise.

        Returns:
          ``logits`` (b, k); where there is a FAN, ``heatmaps`` (b, h / 4, w / 4, p), its last ones for the
          middle frame; given ``au``, the outputs of `LabelVAEs` for the predictions, ``predicted_`` before
          their names, and for the labels, ``labelled_``. Of "labels" the outputs of `LabelVAEs`.

        Raises:
          ValueError: stills where motion is to be seen.
        """
        encode = LabelVAEs(self.corpora, self.latent, name="vae")
        if self.part == "labels":
            labels, mask, corpus = inputs
            labels = labels.astype(jnp.float32)
            labels = label_vae.disturb(labels, self.make_rng("noise")) if train else labels
            return encode(labels, mask, corpus, sample=train)

        image, *rest = inputs
        flow = rest[0] if rest else None
        detect = self._detect_both_ways if self.flip and not train else self._detect
        outputs = detect(image, flow, train)
        if self.vae and au is not None:
            assert au_mask is not None and corpus is not None, "they come with au"
            for name, values in (("predicted", nn.sigmoid(outputs["logits"])), ("labelled", au)):
                found = encode(values, au_mask, corpus)
                outputs |= {f"{name}_{key}": value for key, value in found.items()}
        return outputs

    def _detect_both_ways(
        self, image: jax.Array, flow: jax.Array | None, train: bool
    ) -> dict[str, jax.Array]:
        """As `_detect`, of each picture and its mirror image; of the latter only the logits are kept."""
        image = _beside(image, image[..., ::-1, :])
        if flow is not None:
            flow = _beside(flow, flow[..., ::-1, :] * jnp.array([-1.0, 1.0, -1.0, 1.0]))
        outputs = self._detect(image, flow, train)
        kept = {name: value[::2] for name, value in outputs.items()}
        return {**kept, "logits": (outputs["logits"][::2] + outputs["logits"][1::2]) / 2}

    def _detect(self, image: jax.Array, flow: jax.Array | None, train: bool) -> dict[str, jax.Array]:
        moves = self.motion and self.part != "flow"
        if moves and image.ndim != 5:
            raise ValueError(
                f"image of {image.ndim} axes: motion is seen in three frames (b, 3, h, w, 3); use the view "
                '"tuples", or config.network.motion=False'
            )
        if image.ndim == 5:
            chex.assert_axis_dimension(image, 1, 3)
            image = image if moves else image[:, 1]
        frames = 3 if moves else 1
        image = image.reshape(-1, *image.shape[-3:])  # (b frames, h, w, 3)

        if self.trunk == "resnet18":
            widths = tuple(self.width * share // 4 for share in (1, 2, 4, 8))
            trunk = ResNet("basic", (2, 2, 2, 2), widths, dtype=self.dtype, name="trunk")
            whole = ResNetHead(trunk, len(self.aus), frames, self.alpha, self.beta, self.dtype, name="head")
            x = layers.normalize(image, layers.IMAGENET_MEAN, layers.IMAGENET_STD)
            return {"logits": whole(x, flow, train)}

        fan = FAN(self.hourglasses, self.pool, self.width, self.points, self.dtype, name="fan")
        seen = jax.lax.stop_gradient(fan(image, train=False))  # frozen: always its running statistics
        features = assemble(seen)
        middle, motion = difference(features) if moves else (features, flow)
        head = Head(len(self.aus), self.width, self.alpha, self.beta, self.dtype, name="head")
        heatmaps = seen["heatmaps"][:, -1]
        return {"logits": head(middle, motion, train), "heatmaps": heatmaps[1::3] if moves else heatmaps}


class Head(nn.Module):
    """From a FAN's features to logits: the heads of AU-FAN and of AUNet, named as in the public code.

    Attributes:
      num_aus: k.
      width: channels; the hidden layer of the classifier has half of them.
      alpha, beta: as of `AUNet`.
      dtype: of the computation.
    """

    num_aus: int
    width: int
    alpha: float
    beta: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, motion: jax.Array | None, train: bool) -> jax.Array:
        """Detect AUs.

        Args:
          x: (b, i, j, c) features of the frame; i and j are multiples of 16.
          motion: (b, ...) what moves, on a map at least half as fine; None = nothing is looked at (AU-FAN).
          train: whether BatchNorm uses the statistics of this batch.

        Returns:
          Logits (b, k).
        """
        conv = partial(nn.Conv, self.width, (1, 1), kernel_init=_kaiming, dtype=self.dtype)

        def block(name: str, y: jax.Array) -> jax.Array:
            return nn.max_pool(ConvBlock(self.width, self.dtype, name=name)(y, train), (2, 2), (2, 2))

        y = conv(name="conv1x1")(x.astype(self.dtype))
        if motion is None:
            names: tuple[str, ...] = ("convnet_0", "convnet_2", "convnet_4", "convnet_6")
        else:
            moving = conv(name="conv1x1_diff")(_coarser(motion, y.shape[1] // 2).astype(self.dtype))
            y = block("convnet_1", self.alpha * y + self.beta * _doubled(moving))
            y = self.alpha * y + self.beta * _doubled(block("convnet_diff", moving))
            names = ("convnet_2_0", "convnet_2_2", "convnet_2_4")
        for name in names:
            y = block(name, y)
        return _classify(y, self.width // 2, self.num_aus, train)


class ResNetHead(nn.Module):
    """ResNet18 with the TDN of AUNet in it: behind the first stage, as behind the basic features [choice].

    Attributes:
      trunk: the ResNet.
      num_aus: k.
      frames: 3 where their differences are looked at, else 1.
      alpha, beta, dtype: as of `AUNet`.
    """

    trunk: ResNet
    num_aus: int
    frames: int
    alpha: float
    beta: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, flow: jax.Array | None, train: bool) -> jax.Array:
        """Map normalised frames (b frames, h, w, 3), those of a face in order, and flow to logits (b, k)."""
        trunk, first = partial(self.trunk, use_running_average=not train), self.trunk.widths[0]
        y = trunk(x, last=1)
        y, motion = difference(y) if self.frames == 3 else (y, flow)
        if motion is None:
            y = trunk(y, first=2)
        else:
            conv = nn.Conv(first, (1, 1), kernel_init=_kaiming, dtype=self.dtype, name="conv1x1_diff")
            moving = conv(_coarser(motion, y.shape[1] // 2).astype(self.dtype))
            y = trunk(self.alpha * y + self.beta * _doubled(moving), first=2, last=2)
            moving = ConvBlock(self.trunk.widths[1], self.dtype, name="convnet_diff")(moving, train)
            moving = nn.max_pool(moving, (2, 2), (2, 2))
            y = trunk(self.alpha * y + self.beta * _doubled(moving), first=3)
        return _classify(y, self.trunk.widths[1], self.num_aus, train)


def difference(features: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What moves: F - F_before and F_after - F, in this order [code: the paper's figure has F - F_after].

    Args:
      features: (3 b, i, j, c) of the frames t - T, t, t + T.

    Returns:
      F (b, i, j, c), and the differences (b, i, j, 2 c).
    """
    before, middle, after = features[::3], features[1::3], features[2::3]
    return middle, jnp.concatenate([middle - before, after - middle], -1)


def _classify(y: jax.Array, hidden: int, num_aus: int, train: bool) -> jax.Array:
    """Mean over the map (b, i, j, c), and two layers to logits (b, k); part of the calling module."""
    y = nn.Dense(hidden, name="predictor_0")(y.astype(jnp.float32).mean((1, 2)))
    y = nn.relu(nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, name="predictor_1")(y))
    return nn.Dense(num_aus, name="predictor_3")(y)


def _coarser(x: jax.Array, side: int) -> jax.Array:
    """The mean of (b, h, w, c) over equal squares, ``side`` of them along a column."""
    size = x.shape[1] // side
    return nn.avg_pool(x, (size, size), (size, size))


def _doubled(x: jax.Array) -> jax.Array:
    """(b, h, w, c) with every cell repeated: (b, 2 h, 2 w, c)."""
    return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)


def _beside(x: jax.Array, y: jax.Array) -> jax.Array:
    """Examples of x and y (b, ...) by turns, (2 b, ...): each stays on the device where it is."""
    return jnp.stack([x, y], 1).reshape(-1, *x.shape[1:])


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
          batch: au, au_mask (b, k), mask (b,).
          state: from `init`.

        Raises:
          ValueError: a consistency is wanted of a network without auto-encoder.
        """
        coded = batch["au_mask"] & batch["mask"][:, None]
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
