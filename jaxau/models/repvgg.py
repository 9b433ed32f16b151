"""RepVGG-A2 (Ding et al., 2021): a trunk of GTLE-Net.

Trained, a block adds a 3x3 convolution, a 1x1 convolution and the input, each with its own BatchNorm; by
`deploy` these become one 3x3 convolution with the same outputs. Parameters carry the public code's names.
"""

from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

BLOCKS = (1, 2, 4, 14, 1)
WIDTHS = (64, 96, 192, 384, 1408)
EPSILON = 1e-5

_kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class RepVGG(nn.Module):
    """The convolutions of RepVGG-A2.

    Attributes:
      deployed: one convolution per block, with variables from `deploy`; it has no BatchNorm to train.
      classes: outputs of the classifier, 0 for none.
      blocks, widths: of each stage, the first of which is one block; every stage halves the map.
      dtype: of the computation; parameters and statistics stay float32.
    """

    deployed: bool = False
    classes: int = 0
    blocks: tuple[int, ...] = BLOCKS
    widths: tuple[int, ...] = WIDTHS
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map a normalised image (n, h, w, 3) to features (n, h / 32, w / 32, 1408), or to (n, classes)."""
        chex.assert_rank(x, 4)
        x = x.astype(self.dtype)
        for stage, (blocks, width) in enumerate(zip(self.blocks, self.widths, strict=True)):
            for index in range(blocks):
                name = f"stage{stage}_{index}" if stage else "stage0"
                block = RepBlock(width, 1 if index else 2, self.deployed, self.dtype, name=name)
                x = block(x, train)
        if not self.classes:
            return x
        return nn.Dense(self.classes, name="linear")(x.astype(jnp.float32).mean((1, 2)))


class RepBlock(nn.Module):
    """The sum of the branches, or the one convolution that equals it, then ReLU.

    Attributes:
      features: channels of the output.
      stride: of the convolutions; the input itself is a branch where nothing changes its shape.
      deployed, dtype: as of `RepVGG`.
    """

    features: int
    stride: int
    deployed: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (n, h, w, c) to (n, h / stride, w / stride, features)."""

        def conv(name: str, side: int, use_bias: bool = False) -> nn.Conv:
            return nn.Conv(
                self.features,
                (side, side),
                (self.stride, self.stride),
                padding=side // 2,
                use_bias=use_bias,
                kernel_init=_kaiming,
                dtype=self.dtype,
                name=name,
            )

        def norm(name: str, y: jax.Array) -> jax.Array:
            return nn.BatchNorm(not train, momentum=0.9, epsilon=EPSILON, dtype=self.dtype, name=name)(y)

        if self.deployed:
            return nn.relu(conv("rbr_reparam", 3, use_bias=True)(x))
        y = norm("rbr_dense_bn", conv("rbr_dense_conv", 3)(x))
        y = y + norm("rbr_1x1_bn", conv("rbr_1x1_conv", 1)(x))
        if x.shape == y.shape:
            y = y + norm("rbr_identity", x)
        return nn.relu(y)


def deploy(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of ``RepVGG(deployed=True)`` whose outputs equal those of trained ``variables``.

    A BatchNorm is an affine map of each channel, a 1x1 convolution a 3x3 one with zeros around it, and the
    input the 1x1 convolution with the identity.
    """
    params: dict[str, Any] = {}
    for name, block in variables["params"].items():
        if not name.startswith("stage"):
            params[name] = block
            continue
        statistics = variables["batch_stats"][name]
        kernel, bias = _fold(block["rbr_dense_conv"]["kernel"], block, statistics, "rbr_dense_bn")
        point, more = _fold(block["rbr_1x1_conv"]["kernel"], block, statistics, "rbr_1x1_bn")
        kernel, bias = kernel.at[1:2, 1:2].add(point), bias + more
        if "rbr_identity" in block:
            identity = jnp.eye(kernel.shape[-1])[None, None]
            point, more = _fold(identity, block, statistics, "rbr_identity")
            kernel, bias = kernel.at[1:2, 1:2].add(point), bias + more
        params[name] = {"rbr_reparam": {"kernel": kernel, "bias": bias}}
    return {"params": params}


def _fold(kernel: Any, params: Any, statistics: Any, norm: str) -> tuple[jax.Array, jax.Array]:
    """Kernel and bias of a convolution followed by its BatchNorm."""
    factor = params[norm]["scale"] / jnp.sqrt(statistics[norm]["var"] + EPSILON)
    return jnp.asarray(kernel) * factor, params[norm]["bias"] - statistics[norm]["mean"] * factor
