"""GLEE-Net, "Detecting Facial Action Units from Global-Local Fine-grained Expressions" (Zhang et al., 2022).

Two networks for faces, of which one is frozen, tell expression as a deviation from identity; sixteen parts of
the picture add details; both learn first which expressions are alike. A face model fitted to the landmarks
(``jaxau.morphable``) adds 51 coefficients, and a transformer relates the AUs. Equation, table and figure
numbers are the paper's; [choice] marks what it leaves open, [code] what facenet-pytorch does.

The rows of Table V, as stages that are trained and fields of `GLEENet`:

| row | stages | fields and others |
|---|---|---|
| w/o pretrain | frames | |
| w. fixed GB & LB | triplets, frames | fixed_branches=True, stages.frames.trainable without the branches |
| w. ResNet | frames | branches="resnet" |
| w/o GB & LB | frames | branches="none" |
| w/o 3DGB | triplets, frames | expression=False |
| w/o LB | triplets, frames | branches="global" |
| w/o TC | triplets, frames | classifier="mlp" |
| w/o joint FC | triplets, frames | joint=False |
| GLEE-Net (Full) | triplets, frames | the defaults |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxau import losses
from jaxau.models import inception_resnet, layers
from jaxau.models.branches import BranchConv, BranchNorm
from jaxau.models.inception_resnet import InceptionResNet
from jaxau.models.pretraining import Metrics
from jaxau.models.resnet import ResNet
from jaxau.morphable.linear_model import EXPRESSIONS

Part = Literal["frames", "triplets", "identity"]
Branches = Literal["global and local", "global", "resnet", "none"]
Classifier = Literal["transformer", "mlp"]

EMBEDDING = 16
SIAMESE = {"face": "identity"}
"""The face model begins as the identity model, but for its BatchNorm, which is initialised anew."""
_PART_SIDE = 96
_LOCAL_WIDTHS, _LOCAL_STRIDES = (32, 64, 128, 256), (2, 2, 1, 1)  # reproduce the paper's counts [choice]
_LOCAL_HIDDEN = 512
_RESNET50 = ((3, 4, 6, 3), (64, 128, 256, 512))

_kaiming = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def parts(side: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the sixteen parts (Sec. III-B): sides, then corners, of 3/4 and of 1/2."""
    found = []
    for share in (0.75, 0.5):
        size = round(side * share)
        first, last, whole = slice(0, size), slice(side - size, side), slice(0, side)
        found += [(whole, first), (whole, last), (first, whole), (last, whole)]
        found += [(first, first), (first, last), (last, first), (last, last)]
    return found


class GLEENet(nn.Module):
    """The network of GLEE-Net; defaults are the paper's: 56.67 M parameters and 8.720 G MACs for 12 AUs.

    Parameters lie under ``identity``, ``face``, ``global_fc``, ``local``, ``classifier`` and what replaces
    them; each exists where it is used.

    Attributes:
      aus: AU numbers in the order of the outputs.
      part: what the stage makes of the picture: AUs ("frames"), the 16 numbers that tell how alike
        expressions are ("triplets"), or who it is ("identity": pre-training of the identity model).
      branches: of the 2-D expression embedding; "resnet" replaces both by a ResNet-50 (Table V).
      expression: whether there is the 3-D branch.
      classifier: the transformer, or one hidden layer in its place.
      joint: whether a last layer looks at the initial predictions of all AUs.
      fixed_branches: whether the 2-D branches stay what they are, BatchNorm as well (Table V).
      people: outputs of "identity".
      tokens: width of an AU's feature.
      heads, hidden, encoders: of the transformer; width of its feed-forward layer.
      dropout: in the transformer.
      repeats: blocks of Inception-ResNet-v1, as there.
      width: share of the published channels of all trunks; for small networks.
      part_side: to which the sixteen parts are resized, in pixels.
      dtype: of the computation; statistics, attention weights and logits are float32.
    """

    aus: tuple[int, ...]
    part: Part = "frames"
    branches: Branches = "global and local"
    expression: bool = True
    classifier: Classifier = "transformer"
    joint: bool = True
    fixed_branches: bool = False
    people: int = 1000
    tokens: int = 32
    heads: int = 4
    hidden: int = 64
    encoders: int = 3
    dropout: float = 0.1
    repeats: tuple[int, ...] = (5, 10, 5)
    width: float = 1.0
    part_side: int = _PART_SIDE
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        image: jax.Array,
        expression: jax.Array | None = None,
        expression_mask: jax.Array | None = None,
        train: bool = False,
    ) -> dict[str, jax.Array]:
        """Detect AUs in aligned faces, describe their expressions, or tell people apart.

        Args:
          image: (b, ..., h, w, 3) uint8 RGB; 160 pixels are FaceNet's.
          expression: (b, 51) coefficients of a face model, for "frames".
          expression_mask: (b,) bool, False where there are none: then a learned vector stands for them.
          train: whether BatchNorm uses the statistics of this batch, and dropout is on.

        Returns:
          "frames": ``logits`` (b, k), ``initial_logits`` (b, k) before the joint layer, ``embedding`` (b, c),
          what the classifier is given: E_exp (16) and the coefficients; ``picture_embedding`` (b, 16), E_exp,
          if it has any. "triplets": ``embedding`` (b, ..., 16), unit vectors. "identity": ``class_logits``
          (b, people).
        """
        lead = image.shape[:-3]
        x = inception_resnet.normalize(image.reshape(-1, *image.shape[-3:]))
        if self.part == "identity":
            return {"class_logits": self._trunk("identity", x, train, self.people, 0.6)["logits"]}
        if self.part == "triplets":
            embedding = self._embed(x, train)
            unit = embedding * jax.lax.rsqrt((embedding**2).sum(-1, keepdims=True) + 1e-12)
            return {"embedding": unit.reshape(*lead, -1)}
        chex.assert_rank(image, 4)
        of_picture = {}
        if self.branches != "none":
            embedding = self._embed(x, train and not self.fixed_branches)
            if self.fixed_branches:
                embedding = jax.lax.stop_gradient(embedding)
            of_picture["picture_embedding"] = embedding
        features = list(of_picture.values())
        if self.expression:
            assert expression is not None and expression_mask is not None
            chex.assert_shape(expression, (len(x), EXPRESSIONS))
            absent = self.param("absent_expression", nn.initializers.zeros, (EXPRESSIONS,))
            features.append(jnp.where(expression_mask[:, None], expression, absent))
        joined = jnp.concatenate(features, -1)
        classify = TokenClassifier(
            len(self.aus), self.classifier, self.joint, self.tokens, self.heads, self.hidden, self.encoders,
            self.dropout, name="classifier",
        )  # fmt: skip
        initial, final = classify(joined, train)
        return {"logits": final, "initial_logits": initial, "embedding": joined, **of_picture}

    def _embed(self, x: jax.Array, train: bool) -> jax.Array:
        """E_exp (n, 16) of normalised images (n, h, w, 3)."""
        if self.branches == "resnet":
            sizes, widths = _RESNET50
            scaled = tuple(max(1, round(self.width * width)) for width in widths)
            maps = ResNet("bottleneck", sizes, scaled, dtype=self.dtype, name="resnet")(x, not train)
            return self._dense("resnet_fc")(maps.astype(jnp.float32).mean((1, 2)))
        # No dropout in the face model: a difference that comes of it is no expression [choice].
        face = self._trunk("face", x, train)["embedding"]
        identity = jax.lax.stop_gradient(self._trunk("identity", x, train=False)["embedding"])
        embedding = self._dense("global_fc")(face - identity)  # Eq. 1
        if self.branches == "global":
            return embedding
        return embedding + LocalBranch(self.width, self.part_side, self.dtype, name="local")(x, train)

    def _dense(self, name: str) -> nn.Dense:
        return nn.Dense(EMBEDDING, kernel_init=_kaiming, name=name)

    def _trunk(
        self, name: str, x: jax.Array, train: bool, classes: int = 0, dropout: float = 0.0
    ) -> dict[str, jax.Array]:
        network = InceptionResNet(
            "VALID", "embedding", dropout, classes, self.repeats, self.width, self.dtype, name=name
        )
        return network(x, train)


class LocalBranch(nn.Module):
    """Sixteen parts of the picture, each with its own convolutions and self-attention; an MLP over all.

    Attributes:
      width, part_side, dtype: as of `GLEENet`.
    """

    width: float
    part_side: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map normalised images (n, s, s, 3) to L_exp (n, 16)."""
        chex.assert_equal(x.shape[1], x.shape[2])
        crops = [x[:, rows, columns] for rows, columns in parts(x.shape[1])]
        x = jnp.stack([resize(crop, self.part_side) for crop in crops]).astype(self.dtype)
        widths = [max(1, round(self.width * width)) for width in _LOCAL_WIDTHS]
        for index, (features, stride) in enumerate(zip(widths, _LOCAL_STRIDES, strict=True), start=1):
            conv = BranchConv(len(crops), features, self.dtype, stride=stride, name=f"conv{index}")
            x = nn.relu(BranchNorm(self.dtype, name=f"norm{index}")(conv(x, train), train))
        x = BranchAttention(self.dtype, name="attention")(x)
        x = x.astype(jnp.float32).mean((2, 3))  # (16, n, c)
        x = jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)
        hidden = max(1, round(self.width * _LOCAL_HIDDEN))
        x = nn.relu(nn.Dense(hidden, kernel_init=_kaiming, name="fc1")(x))
        return nn.Dense(EMBEDDING, kernel_init=_kaiming, name="fc2")(x)


def resize(x: jax.Array, side: int) -> jax.Array:
    """Bilinear, (n, h, w, c) to (n, side, side, c), as torch's ``interpolate`` without corners aligned."""
    for axis in (1, 2):
        size = x.shape[axis]
        place = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
        low = np.minimum(place.astype(int), size - 2)
        share = jnp.asarray((place - low).reshape(-1, *[1] * (3 - axis)), x.dtype)
        x = (1 - share) * jnp.take(x, low, axis) + share * jnp.take(x, low + 1, axis)
    return x


class BranchAttention(nn.Module):
    """Self-attention over the places of a map as in SAGAN, each branch its own; begins as the identity.

    ``x + gamma softmax(q k^T) v``, q and k of an eighth of the channels.
    """

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (k, n, h, w, c) to the same shape."""
        branches, n, height, width, channels = x.shape
        flat = x.reshape(branches, n, height * width, channels)

        def project(name: str, features: int) -> jax.Array:
            he = nn.initializers.variance_scaling(2.0, "fan_in", "normal", batch_axis=0)
            kernel = self.param(f"{name}_kernel", he, (branches, channels, features)).astype(self.dtype)
            bias = self.param(f"{name}_bias", nn.initializers.zeros, (branches, features))
            return jnp.einsum("knpc,kcd->knpd", flat, kernel) + bias[:, None, None].astype(self.dtype)

        query, key = (project(name, max(1, channels // 8)) for name in ("query", "key"))
        scores = jnp.einsum("knpd,knqd->knpq", query, key).astype(jnp.float32)
        shares, value = nn.softmax(scores).astype(self.dtype), project("value", channels)
        seen = jnp.einsum("knpq,knqc->knpc", shares, value)
        gamma = self.param("gamma", nn.initializers.zeros, (branches,)).astype(self.dtype)
        return x + gamma[:, None, None, None, None] * seen.reshape(x.shape)


class TokenClassifier(nn.Module):
    """From the joined features to AUs (Sec. III-D): a token for each, encoders, an own layer, a joint one.

    Attributes:
      num_aus: k.
      kind, joint, tokens, heads, hidden, encoders, dropout: as of `GLEENet`.
    """

    num_aus: int
    kind: Classifier
    joint: bool
    tokens: int
    heads: int
    hidden: int
    encoders: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Map (n, c) to initial and final logits (n, k), which are the same without the joint layer."""
        dense = partial(nn.Dense, kernel_init=nn.initializers.xavier_uniform())
        if self.kind == "mlp":
            x = nn.relu(dense(self.num_aus * self.tokens, name="hidden")(x))
            initial = dense(self.num_aus, name="initial")(x)
        else:
            # The parallel layers are one wide layer.
            x = nn.relu(dense(self.num_aus * self.tokens, name="tokens")(x))
            x = x.reshape(len(x), self.num_aus, self.tokens)
            for index in range(self.encoders):
                encode = EncoderLayer(self.heads, self.hidden, self.dropout, name=f"encoder_{index}")
                x = encode(x, train)
            initial = layers.AUClassifier(name="initial")(x)
        return initial, dense(self.num_aus, name="joint")(initial) if self.joint else initial


class EncoderLayer(nn.Module):
    """A layer of a transformer encoder, normalised after each sum, as torch's ``TransformerEncoderLayer``.

    Attributes:
      heads: of the attention.
      hidden: width of the feed-forward layer.
      dropout: of attention weights, and before each sum.
    """

    heads: int
    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (n, k, c) to the same shape."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        norm = partial(nn.LayerNorm, epsilon=1e-5)
        attention = nn.MultiHeadDotProductAttention(
            self.heads, dropout_rate=self.dropout, deterministic=not train, name="attention"
        )
        x = norm(name="norm1")(x + drop(attention(x)))
        xavier = nn.initializers.xavier_uniform()
        y = drop(nn.relu(nn.Dense(self.hidden, kernel_init=xavier, name="linear1")(x)))
        return norm(name="norm2")(x + drop(nn.Dense(x.shape[-1], kernel_init=xavier, name="linear2")(y)))


@dataclass(frozen=True)
class DetectionLoss(losses.Stateless):
    """Stage ``frames``: weighted cross-entropy (Eq. 5) of the initial and of the final predictions.

    An AU's weight is the inverse of its rate of occurrence, normalised to a mean of 1 [choice].

    Attributes:
      initial: weight of the initial predictions; 1 in the paper.
    """

    initial: float = 1.0

    def __post_init__(self) -> None:
        if self.initial < 0:
            raise ValueError(f"loss.initial: {self.initial} must not be negative")

    def init(self, statistics: Mapping[str, Any]) -> dict[str, jax.Array]:
        """The fixed ``weights`` (k,) of the AUs; ValueError where one never occurs."""
        weights = losses.rate_weights(statistics["n_occ"], statistics["n_coded"])
        return {"weights": jnp.asarray(weights, jnp.float32)}

    def __call__(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], state: Any
    ) -> tuple[jax.Array, Metrics, Any]:
        """The loss, its terms ``initial`` and ``final``, and the state."""
        coded = batch["au_mask"] & batch["mask"][:, None]
        terms = {
            name: losses.cross_entropy(outputs[field], batch["au"], coded, state["weights"])
            for name, field in (("initial", "initial_logits"), ("final", "logits"))
        }
        return self.initial * terms["initial"] + terms["final"], terms, state
