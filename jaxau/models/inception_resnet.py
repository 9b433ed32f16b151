"""Inception-ResNet-v1 (Szegedy et al., 2017) as in facenet-pytorch: a trunk of GTLE-Net and of GLEE-Net.

Parameters carry facenet-pytorch's names, with ``_`` for the dot: ``repeat_1_0/branch1_0/conv/kernel``.
BatchNorm has epsilon 1e-3; the branches are scaled by .17, .10 and .20 before they are added.
"""

from collections.abc import Sequence
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxau.models import layers

Padding = Literal["VALID", "SAME"]
Output = Literal["repeat_2", "embedding"]

_kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def normalize(image: jax.Array) -> jax.Array:
    """What facenet-pytorch's weights expect of RGB pixels in [0, 255]: ``(x - 127.5) / 128``, float32."""
    return layers.normalize(image, (0.5,) * 3, (128 / 255,) * 3)


class InceptionResNet(nn.Module):
    """The network up to its 512 outputs; 23,482,624 parameters, 9.6 M up to ``repeat_2``.

    Attributes:
      padding: "VALID" as published, for 160 pixels; "SAME" pads every layer, so that a side of 256 gives
        maps of 64, 32, 16 and 8 cells. The parameters are the same.
      last: "embedding", or "repeat_2" to end there, without the parameters of what follows.
      dropout: rate before the last layer (.6 [code]); needs the random key "dropout" in training.
      classes: outputs of a classifier of the embedding, 0 for none.
      repeats: blocks of the three kinds, ``repeat_1`` to ``repeat_3``.
      width: share of the published channels, but for the 512 outputs; for small networks.
      dtype: of the computation; parameters and statistics stay float32.
    """

    padding: Padding = "VALID"
    last: Output = "embedding"
    dropout: float = 0.6
    classes: int = 0
    repeats: tuple[int, ...] = (5, 10, 5)
    width: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Describe faces.

        Args:
          x: (n, h, w, 3) images from `normalize`.
          train: whether BatchNorm uses the statistics of this batch, and dropout is on.

        Returns:
          ``repeat_1`` (n, i, i, 256), ``repeat_2`` (n, j, j, 896): 17 and 8 cells for 160 pixels VALID, 32
          and 16 for 256 pixels SAME. For "embedding" also ``block8`` (n, k, k, 1792), ``pooled`` (n, 1792)
          and ``embedding`` (n, 512), not normalised; if ``classes``, ``logits`` (n, classes).
        """
        chex.assert_rank(x, 4)

        def conv(name: str, x: jax.Array, features: int, size: int, stride: int = 1) -> jax.Array:
            (own,) = scaled(features)
            return ConvNorm(own, (size, size), stride, self.padding, self.dtype, name=name)(x, train)

        def scaled(*widths: int) -> tuple[int, ...]:
            return tuple(max(1, round(self.width * width)) for width in widths)

        x = conv("conv2d_1a", x.astype(self.dtype), 32, 3, stride=2)
        x = conv("conv2d_2a", x, 32, 3)
        x = ConvNorm(scaled(64)[0], (3, 3), 1, "SAME", self.dtype, name="conv2d_2b")(x, train)
        x = nn.max_pool(x, (3, 3), (2, 2), self.padding)
        x = conv("conv2d_3b", x, 80, 1)
        x = conv("conv2d_4a", x, 192, 3)
        x = conv("conv2d_4b", x, 256, 3, stride=2)
        branches: tuple[tuple[int, ...], ...] = (scaled(32), scaled(32, 32), scaled(32, 32, 32))
        for index in range(self.repeats[0]):
            x = Residual(branches, 3, 0.17, self.dtype, name=f"repeat_1_{index}")(x, train)
        outputs = {"repeat_1": x}
        branches = (scaled(384), scaled(192, 192, 256))
        x = Reduction(branches, self.padding, self.dtype, name="mixed_6a")(x, train)
        branches = (scaled(128), scaled(128, 128, 128))
        for index in range(self.repeats[1]):
            x = Residual(branches, 7, 0.10, self.dtype, name=f"repeat_2_{index}")(x, train)
        outputs["repeat_2"] = x
        if self.last == "repeat_2":
            return outputs
        branches = (scaled(256, 384), scaled(256, 256), scaled(256, 256, 256))
        x = Reduction(branches, self.padding, self.dtype, name="mixed_7a")(x, train)
        branches = (scaled(192), scaled(192, 192, 192))
        for index in range(self.repeats[2]):
            x = Residual(branches, 3, 0.20, self.dtype, name=f"repeat_3_{index}")(x, train)
        x = Residual(branches, 3, 1.0, self.dtype, relu=False, name="block8")(x, train)
        pooled = x.astype(jnp.float32).mean((1, 2))
        y = nn.Dropout(self.dropout, deterministic=not train)(pooled)
        y = nn.Dense(512, use_bias=False, kernel_init=_kaiming, name="last_linear")(y)
        embedding = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-3, name="last_bn")(y)
        outputs |= {"block8": x, "pooled": pooled, "embedding": embedding}
        if self.classes:
            outputs["logits"] = nn.Dense(self.classes, name="logits")(embedding)
        return outputs


class ConvNorm(nn.Module):
    """Convolution without bias, BatchNorm, ReLU."""

    features: int
    size: tuple[int, int]
    stride: int
    padding: Padding
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (n, h, w, c) to (n, h', w', features)."""
        x = nn.Conv(
            self.features,
            self.size,
            (self.stride, self.stride),
            self.padding,
            use_bias=False,
            kernel_init=_kaiming,
            dtype=self.dtype,
            name="conv",
        )(x)
        return nn.relu(nn.BatchNorm(not train, momentum=0.9, epsilon=1e-3, dtype=self.dtype, name="bn")(x))


class Residual(nn.Module):
    """``x + scale * conv(branches of x)``, then ReLU: facenet-pytorch's Block35, Block17 and Block8.

    Attributes:
      branches: widths of the convolutions of each branch. The first is 1x1; in the block of three branches
        the others are 3x3, in those of two (1, size) and (size, 1).
      size: of these.
      scale: of the branches.
      dtype: of the computation.
      relu: whether a ReLU ends the block.
    """

    branches: tuple[tuple[int, ...], ...]
    size: int
    scale: float
    dtype: Any
    relu: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (n, h, w, c) to the same shape."""
        square, size = len(self.branches) == 3, self.size
        later = [(size, size), (size, size)] if square else [(1, size), (size, 1)]
        steps = [("SAME", 1, shape) for shape in [(1, 1), *later]]
        y = _branches(x, self.branches, [steps[: len(widths)] for widths in self.branches], self.dtype, train)
        conv = nn.Conv(x.shape[-1], (1, 1), kernel_init=_kaiming, dtype=self.dtype, name="conv2d")
        x = x + self.scale * conv(jnp.concatenate(y, -1))
        return nn.relu(x) if self.relu else x


class Reduction(nn.Module):
    """Branches that end in a 3x3 convolution with stride 2, beside a max-pool (Mixed_6a, Mixed_7a).

    Attributes:
      branches: widths of the convolutions of each: 3x3; 1x1, 3x3; or 1x1, 3x3, 3x3.
      padding: of the strided layers.
      dtype: of the computation.
    """

    branches: tuple[tuple[int, ...], ...]
    padding: Padding
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (n, h, w, c) to (n, about h / 2, about w / 2, c + last widths)."""
        before = [("SAME", 1, (1, 1)), ("SAME", 1, (3, 3))]
        steps = [[*before[: len(widths) - 1], (self.padding, 2, (3, 3))] for widths in self.branches]
        y = _branches(x, self.branches, steps, self.dtype, train)
        return jnp.concatenate([*y, nn.max_pool(x, (3, 3), (2, 2), self.padding)], -1)


def _branches(
    x: jax.Array,
    branches: Sequence[Sequence[int]],
    steps: Sequence[Sequence[tuple[Any, int, tuple[int, int]]]],
    dtype: Any,
    train: bool,
) -> list[jax.Array]:
    """Each branch's output; a branch of one convolution is ``branch0``, others ``branch1_0`` and so on."""
    outputs = []
    for number, (widths, own) in enumerate(zip(branches, steps, strict=True)):
        y = x
        for index, (width, (padding, stride, size)) in enumerate(zip(widths, own, strict=True)):
            name = f"branch{number}" if len(widths) == 1 else f"branch{number}_{index}"
            y = ConvNorm(width, size, stride, padding, dtype, name=name)(y, train)
        outputs.append(y)
    return outputs
