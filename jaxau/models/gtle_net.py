"""GTLE-Net, "Learning facial expression-aware global-to-local representation for robust action unit
detection" (An et al., Applied Intelligence, 2024).

A global encoder (GEE) learns which expressions are alike, regardless of who shows them. Two decoders make of
its features, for each AU, a picture-sized feature map and a mask, whose product an own classifier judges.
Equation, table and figure numbers are the paper's; [choice] marks what the paper leaves open, [code] what
public networks do that it builds on (StarGAN v2, JAA-Net).

The rows of Table 10, as stages that are trained and fields of `GTLENet`; ImageNet's weights are
``config.weights.trunk``:

| row | stages | fields and others |
|---|---|---|
| w/o pretrain | frames | |
| w. GEE fixed | triplets, frames | fixed_encoder=True, stages.frames.trainable without "trunk" |
| w. GEE Emotion | emotions, frames | |
| w. GEE ImageNet | frames | weights.trunk |
| w. VGG16, RepVGG-A2, ResNet50 ImageNet | frames | trunk, weights.trunk |
| w/o E_m & E_a | triplets, frames | extractors="none" |
| w/o E_m | triplets, frames | extractors="maps" |
| w. Supervised-attention | triplets, frames | stages.frames.loss.attention |
| GTLE-Net (Full) | triplets, frames | the defaults |
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
from jaxau.models import inception_resnet, layers, repvgg, vgg
from jaxau.models.branches import BranchConv, BranchNorm
from jaxau.models.inception_resnet import InceptionResNet
from jaxau.models.pretraining import Metrics
from jaxau.models.resnet import ResNet

Part = Literal["frames", "triplets", "emotions"]
Trunk = Literal["inception_resnet", "vgg16", "resnet50", "repvgg_a2"]
Extractors = Literal["maps and masks", "maps", "none"]

EMBEDDING = 16
EMOTIONS = 7
_DECODER = (512, 512, 512, 256, 128, 64)  # of a 256-pixel generator of StarGAN v2, w_hpf = 0 [code]
_DOUBLED = (False, False, True, True, True, True)
_CLASSIFIER = (16, 32, 64, 128, 256)
_BLOCKS: dict[Trunk, tuple[int, ...]] = {
    "inception_resnet": (5, 10, 5),
    "vgg16": (2, 2, 3, 3, 3),
    "resnet50": (3, 4, 6, 3),
    "repvgg_a2": repvgg.BLOCKS,
}

_kaiming = partial(nn.initializers.variance_scaling, 2.0, "fan_in", "normal")


class GTLENet(nn.Module):
    """The network of GTLE-Net; defaults are the paper's: 64.55 M parameters for 12 AUs.

    Parameters lie under ``trunk``, ``embedding`` or ``emotions``, ``map_extractor``, ``mask_extractor`` and
    ``classifiers``; each exists where it is used.

    Attributes:
      aus: AU numbers in the order of the outputs.
      part: what the stage makes of the global features: AUs ("frames"), the 16 numbers that tell how alike
        expressions are ("triplets"), or one of seven emotions ("emotions").
      trunk: of the GEE. AUs are detected from its last maps of a sixteenth of the image's side.
      blocks: of each stage of the trunk; 0 as published.
      width: share of the published channels, in all parts; for small networks.
      dropout: rate before the last layer of Inception-ResNet-v1 (.6 [code]).
      fixed_encoder: whether the GEE stays what it is, its BatchNorm as well (Table 10).
      extractors: E_a and E_m of the local module, E_a alone, or neither: then each AU's classifier is given
        the global features [choice].
      remat: whether a training step computes the decoders' inner maps again instead of keeping them.
      dtype: of the computation; probabilities and statistics are float32.
    """

    aus: tuple[int, ...]
    part: Part = "frames"
    trunk: Trunk = "inception_resnet"
    blocks: int = 0
    width: float = 1.0
    dropout: float = 0.6
    fixed_encoder: bool = False
    extractors: Extractors = "maps and masks"
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Detect AUs in aligned faces, or describe their expressions.

        Args:
          image: (b, ..., h, w, 3) uint8 RGB, for "frames" (b, h, w, 3); sides are multiples of 16.
          train: whether BatchNorm uses the statistics of this batch, and dropout is on.

        Returns:
          "frames": ``logits`` (b, k), ``features`` (b, k, 256) the AU embeddings and, where there are the
          extractors, ``maps`` (b, h, w, k, 3) f of Eq. 3 and ``attention`` (b, h, w, k) the masks m of Eq. 4,
          both in [0, 1]. "triplets": ``embedding`` (b, ..., 16), unit vectors. "emotions": ``class_logits``
          (b, ..., 7) and ``embedding`` (b, ..., c), the unit vectors that they are computed from.

        Raises:
          ValueError: an image of another size.
        """
        height, width = image.shape[-3:-1]
        if height % 16 or width % 16:
            raise ValueError(f"image of {height} x {width} pixels: sides must be multiples of 16")
        if self.part != "frames":
            return self._describe(image, train)
        chex.assert_rank(image, 4)
        h = self._encode(image, train and not self.fixed_encoder, whole=False)
        if self.fixed_encoder:
            h = jax.lax.stop_gradient(h)
        num_aus, outputs, x = len(self.aus), {}, h
        extract = partial(Extractor, num_aus=num_aus, width=self.width, remat=self.remat, dtype=self.dtype)
        if self.extractors != "none":
            x = extract(residual=True, channels=3, name="map_extractor")(h)  # (k, b, h, w, 3)
            outputs["maps"] = jnp.moveaxis(x, 0, 3).astype(jnp.float32)
        if self.extractors == "maps and masks":
            masks = extract(residual=False, channels=1, name="mask_extractor")(h)
            outputs["attention"] = jnp.moveaxis(masks[..., 0], 0, 3).astype(jnp.float32)
            x = x * masks  # Eq. 5
        logits, features = AUClassifiers(num_aus, self.width, self.dtype, name="classifiers")(x, train)
        return {"logits": logits, "features": features, **outputs}

    def _describe(self, image: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Embedding or emotion of whole faces; anchor, positive and negative are just more faces."""
        lead = image.shape[:-3]
        x = self._encode(image.reshape(-1, *image.shape[-3:]), train, whole=True)
        outputs = {}
        if self.part == "emotions":
            outputs["class_logits"] = nn.Dense(EMOTIONS, kernel_init=_kaiming(), name="emotions")(x)
        else:
            x = nn.Dense(EMBEDDING, kernel_init=_kaiming(), name="embedding")(x)
        outputs["embedding"] = x * jax.lax.rsqrt((x * x).sum(-1, keepdims=True) + 1e-12)
        return {name: value.reshape(*lead, -1) for name, value in outputs.items()}

    def _encode(self, image: jax.Array, train: bool, whole: bool) -> jax.Array:
        """The GEE: its last maps (n, h / 16, w / 16, c), or of the whole trunk a vector (n, c) float32."""
        blocks = tuple(self.blocks or published for published in _BLOCKS[self.trunk])
        if self.trunk == "inception_resnet":
            last: inception_resnet.Output = "embedding" if whole else "repeat_2"
            network = InceptionResNet(
                "SAME", last, self.dropout, 0, blocks, self.width, self.dtype, name="trunk"
            )
            return network(inception_resnet.normalize(image), train)[last]
        x = layers.normalize(image, layers.IMAGENET_MEAN, layers.IMAGENET_STD)
        used = blocks if whole or self.trunk == "vgg16" else blocks[:-1]  # the last halves the maps once more
        trunk: Any
        if self.trunk == "vgg16":
            widths = self._scaled((64, 128, 256, 512, 512))
            each = tuple((w,) * n for n, w in zip(blocks, widths, strict=True))
            trunk = vgg.VGG16(0, each, last_pool=False, dtype=self.dtype, name="trunk")
        elif self.trunk == "resnet50":
            widths = self._scaled((64, 128, 256, 512))[: len(used)]
            trunk = ResNet("bottleneck", used, widths, dtype=self.dtype, name="trunk")
        else:
            widths = self._scaled(repvgg.WIDTHS)[: len(used)]
            trunk = repvgg.RepVGG(False, 0, used, widths, self.dtype, name="trunk")
        x = trunk(x, not train if self.trunk == "resnet50" else train)
        return x.astype(jnp.float32).mean((1, 2)) if whole else x

    def _scaled(self, widths: tuple[int, ...]) -> tuple[int, ...]:
        return _scale(widths, self.width)


class Extractor(nn.Module):
    """E_a or E_m (Fig. 3): from the global features to a map of each AU, sixteen times as large.

    Attributes:
      num_aus: k.
      residual: whether its blocks are E_a's (Fig. 3c) or E_m's (Fig. 3d).
      channels: of each AU's map.
      width, remat, dtype: as of `GTLENet`.
    """

    num_aus: int
    residual: bool
    channels: int
    width: float
    remat: bool
    dtype: Any

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        """Map (n, h / 16, w / 16, c) to (k, n, h, w, channels) in [0, 1]."""
        kind: Any = InstanceNormResidualBlock if self.residual else InstanceNormBlock
        kind = nn.remat(kind) if self.remat else kind
        x = h.astype(self.dtype)
        for index, (features, doubled) in enumerate(zip(_scale(_DECODER, self.width), _DOUBLED, strict=True)):
            x = kind(features, doubled, self.dtype, name=f"decode_{index}")(x)
        x = nn.leaky_relu(instance_norm("norm", self.dtype)(x), 0.2)
        # The heads of all AUs are one wide 1x1 convolution; the AUs are an axis, as in the classifiers.
        shape = (self.num_aus, x.shape[-1], self.channels)
        kernel = self.param("kernel", _kaiming(batch_axis=0), shape).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.num_aus, self.channels)).astype(self.dtype)
        return nn.sigmoid(jnp.einsum("nhwc,kcd->knhwd", x, kernel) + bias[:, None, None, None])


class InstanceNormResidualBlock(nn.Module):
    """A decoder block of StarGAN v2 with plain instance norm for AdaIN (Fig. 3c) [code].

    Attributes:
      features: channels of the output.
      doubled: whether the map is enlarged twofold, by the nearest cell.
      dtype: of the computation.
    """

    features: int
    doubled: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (n, h, w, c) to (n, h or 2 h, w or 2 w, features)."""
        conv = partial(nn.Conv, self.features, padding="SAME", kernel_init=_kaiming(), dtype=self.dtype)
        y = nn.leaky_relu(instance_norm("norm1", self.dtype)(x), 0.2)
        y = conv((3, 3), name="conv1")(_double(y) if self.doubled else y)
        y = nn.leaky_relu(instance_norm("norm2", self.dtype)(y), 0.2)
        y = conv((3, 3), name="conv2")(y)
        x = _double(x) if self.doubled else x
        if x.shape != y.shape:
            x = conv((1, 1), use_bias=False, name="conv1x1")(x)
        return (x + y) / np.sqrt(2).astype(self.dtype)


class InstanceNormBlock(nn.Module):
    """Instance norm, LeakyReLU and one convolution [choice] (Fig. 3d); as `InstanceNormResidualBlock`."""

    features: int
    doubled: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (n, h, w, c) to (n, h or 2 h, w or 2 w, features)."""
        x = nn.leaky_relu(instance_norm("norm", self.dtype)(x), 0.2)
        conv = nn.Conv(self.features, (3, 3), kernel_init=_kaiming(), dtype=self.dtype, name="conv")
        return conv(_double(x) if self.doubled else x)


def instance_norm(name: str, dtype: Any) -> nn.InstanceNorm:
    """With scale and bias and torch's epsilon; statistics in float32."""
    return nn.InstanceNorm(epsilon=1e-5, dtype=dtype, name=name)


def _double(x: jax.Array) -> jax.Array:
    """Each cell of (n, h, w, c) four times."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


class AUClassifiers(nn.Module):
    """g (Eqs. 6, 7): five 7x7 convolutions with stride 2, mean over the map, linear; its own of each AU.

    The paper gives its last convolution, 1x1, a padding of 1, which would put zeros around one cell; here 0
    [choice], which is a linear layer.

    Attributes:
      num_aus, width, dtype: as of `Extractor`.
    """

    num_aus: int
    width: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Map (k, n, h, w, c), or (n, h, w, c) for all AUs, to logits (n, k) and embeddings (n, k, c')."""
        for index, channels in enumerate(_scale(_CLASSIFIER, self.width), start=1):
            conv = BranchConv(self.num_aus, channels, self.dtype, size=7, stride=2, name=f"conv{index}")
            x = nn.elu(BranchNorm(self.dtype, name=f"norm{index}")(conv(x, train), train))
        features = jnp.swapaxes(x.astype(jnp.float32).mean((2, 3)), 0, 1)
        return layers.AUClassifier(name="classifier")(features), features


def _scale(widths: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(max(1, round(share * width)) for width in widths)


@dataclass(frozen=True)
class DetectionLoss(losses.Stateless):
    """Stage ``frames``: cross-entropy of the AUs (Eq. 8), unweighted.

    Attributes:
      attention: weight of the masks' distance from maps around the AUs' places on the face (Table 10,
        supervised attention); 0 in the paper's network, whose masks nobody supervises.
    """

    attention: float = 0.0

    def __post_init__(self) -> None:
        if self.attention < 0:
            raise ValueError(f"loss.attention: {self.attention} must not be negative")

    def __call__(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], state: Any
    ) -> tuple[jax.Array, Metrics, Any]:
        """The loss, its terms and the state, from outputs of `GTLENet` and a batch of stills.

        Raises:
          ValueError: supervision of masks that the network does not have.
        """
        coded = batch["au_mask"] & batch["mask"][:, None]
        num_aus = coded.shape[-1]
        mean = losses.cross_entropy(outputs["logits"], batch["au"], coded, jnp.ones(num_aus))
        terms = {"detection": num_aus * mean}  # of full labels the sum over AUs, mean over faces
        if not self.attention:
            return terms["detection"], terms, state
        if "attention" not in outputs:
            raise ValueError(
                f"loss.attention: {self.attention}, but the network has no masks (see "
                "config.network.extractors); set it to 0"
            )
        masks, known = outputs["attention"], coded & batch["au_centers_mask"]
        wanted = landmark_maps(batch["au_centers"], batch["image"].shape[-2], masks.shape[-2])
        each = ((masks - wanted) ** 2).mean((1, 2))
        terms["attention"] = num_aus * losses.masked_mean(each, known)
        return terms["detection"] + self.attention * terms["attention"], terms, state


def landmark_maps(centers: jax.Array, side: int, cells: int) -> jax.Array:
    """JAA-Net's predefined attention: two squares of .14 of the map's side, fading from their middle [code].

    In a square, the value is ``1 - .56 d / (.14 cells)``, d being the distance along the rows plus that along
    the columns; beyond both squares it is 0.

    Args:
      centers: (b, k, 2, 2) two places of each AU as (x, y) in pixels of the image.
      side: of the image in pixels.
      cells: side of the map; centres are rounded to its cells.

    Returns:
      (b, cells, cells, k) in [0, 1].
    """
    reach = round((cells - 1) / 2 * 0.14)
    middle = jnp.round(centers / side * cells)[..., None]  # (b, k, 2, xy, 1)
    off = jnp.abs(jnp.arange(cells) - middle)
    x, y = off[..., 0, None, :], off[..., 1, :, None]  # (b, k, 2, 1, cells), (b, k, 2, cells, 1)
    value = jnp.where((x <= reach) & (y <= reach), 1 - (x + y) * 0.56 / (0.14 * cells), 0.0)
    return jnp.moveaxis(value.max(2), 1, -1)
