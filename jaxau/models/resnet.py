"""Residual networks (He et al., 2016) as in torchvision: the trunk of LAC and a trunk of GTLE-Net.

The stride of a bottleneck sits on its 3x3 convolution, padding is symmetric, BatchNorm has epsilon 1e-5.
"""

from functools import partial
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

Block = Literal["basic", "bottleneck"]
Stem = Literal["7x7", "3x3"]

_kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ResidualBlock(nn.Module):
    """One residual block: two 3x3 convolutions ("basic"), or 1x1, 3x3, 1x1 ("bottleneck", 4 x wider)."""

    block: Block
    width: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:
        """Map (n, h, w, c) to (n, h / stride, w / stride, width or 4 * width)."""
        conv = partial(nn.Conv, use_bias=False, kernel_init=_kaiming, dtype=self.dtype)
        norm = partial(nn.BatchNorm, use_running_average, momentum=0.9, epsilon=1e-5, dtype=self.dtype)
        strides, pad = (self.stride, self.stride), ((1, 1), (1, 1))
        if self.block == "basic":
            y = conv(self.width, (3, 3), strides, padding=pad, name="conv1")(x)
            y = nn.relu(norm(name="bn1")(y))
            y = conv(self.width, (3, 3), padding=pad, name="conv2")(y)
            y = norm(name="bn2")(y)
        else:
            y = conv(self.width, (1, 1), name="conv1")(x)
            y = nn.relu(norm(name="bn1")(y))
            y = conv(self.width, (3, 3), strides, padding=pad, name="conv2")(y)
            y = nn.relu(norm(name="bn2")(y))
            y = conv(4 * self.width, (1, 1), name="conv3")(y)
            y = norm(name="bn3")(y)
        if x.shape != y.shape:
            x = conv(y.shape[-1], (1, 1), strides, name="downsample_conv")(x)
            x = norm(name="downsample_bn")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Convolutional trunk, without pooling unless a classifier is asked for.

    Attributes:
      block: kind of residual block; "bottleneck" with sizes (3, 4, 6, 3) is ResNet-50.
      stage_sizes: blocks per stage; every stage but the first halves the map.
      widths: channels per stage (a bottleneck puts out four times as many).
      stem: "7x7" stride 2 as published, or "3x3" stride 2 for small pictures; max-pool 3x3 stride 2 follows.
      classes: outputs of a classifier of the pooled features, 0 for none.
      dtype: of the computation; parameters and statistics stay float32.
    """

    block: Block = "bottleneck"
    stage_sizes: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: Stem = "7x7"
    classes: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, use_running_average: bool, first: int = 1, last: int | None = None
    ) -> jax.Array:
        """Map a normalised image (n, h, w, 3) to features (n, h / 32, w / 32, c), or to (n, classes).

        ``first`` and ``last`` run a part of the stages, counted from 1, on what the stages before it put out;
        the stem belongs to stage 1. Together the calls must run all stages.
        """
        chex.assert_rank(x, 4)
        if len(self.stage_sizes) != len(self.widths):
            raise ValueError(
                f"stage_sizes {self.stage_sizes} and widths {self.widths}: give one width for each stage"
            )
        if first == 1:
            size, pad = ((7, 7), ((3, 3), (3, 3))) if self.stem == "7x7" else ((3, 3), ((1, 1), (1, 1)))
            conv1 = nn.Conv(
                self.widths[0],
                size,
                (2, 2),
                padding=pad,
                use_bias=False,
                kernel_init=_kaiming,
                dtype=self.dtype,
                name="conv1",
            )
            bn1 = nn.BatchNorm(use_running_average, momentum=0.9, epsilon=1e-5, dtype=self.dtype, name="bn1")
            x = nn.relu(bn1(conv1(x.astype(self.dtype))))
            x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        stages = enumerate(zip(self.stage_sizes, self.widths, strict=True), start=1)
        for stage, (size_, width) in list(stages)[first - 1 : last]:
            for index in range(size_):
                stride = 2 if stage > 1 and index == 0 else 1
                block = ResidualBlock(self.block, width, stride, self.dtype, name=f"layer{stage}_{index}")
                x = block(x, use_running_average)
        if self.classes and last is None:
            x = nn.Dense(self.classes, name="fc")(x.astype(jnp.float32).mean((1, 2)))
        return x
