"""Convolutions of branches that have their own kernels: one per AU, or one per patch of a picture.

Parameters are stacked on a leading branch axis, so no checkpoint shows how the convolution runs.
"""

from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

Form = Literal["loop", "shifted", "products"]


def branch_conv(
    x: jax.Array, kernel: jax.Array, form: Form | None = None, differentiated: bool = True, stride: int = 1
) -> jax.Array:
    """Convolve each branch with its own kernel, padded with zeros so that stride 1 keeps the size.

    Args:
      x: (k, n, h, w, c) the branches' inputs, or (n, h, w, c), one input for all.
      kernel: (k, s, s, c, d), s odd.
      form: how it is computed; None = `default_form`. The forms agree but for rounding.
      differentiated: whether gradients will be asked for, which decides the default form.
      stride: along both sides.

    Returns:
      (k, n, h / stride, w / stride, d), rounded up.
    """
    branches, size, shared = len(kernel), kernel.shape[1], x.ndim == 4
    chex.assert_shape(kernel, (branches, size, size, x.shape[-1], None))
    if not shared:
        chex.assert_shape(x, (branches, None, None, None, None))
    form = form or default_form(branches, kernel.shape[-1], differentiated, size)
    if form == "loop":
        return loop([x] * branches if shared else list(x), kernel, stride)
    x = jnp.broadcast_to(x, (branches, *x.shape)) if shared else x
    return {"shifted": shifted, "products": products}[form](x, kernel, stride)


def default_form(branches: int, outputs: int, differentiated: bool, size: int = 3) -> Form:
    """The form that `launch.bench_branches` found fastest on CPUs (no accelerator was measured).

    A loop of convolutions is, but for a single output channel, where its gradients are slow, and for the
    gradients of many branches, whose compilation takes ten times as long as that of the shifted form. With
    the 49 taps of 7x7 kernels only the loop will do.
    """
    if size > 3:
        return "loop"
    if outputs == 1:
        return "products"
    return "shifted" if branches > 16 and differentiated else "loop"


def loop(x: list[jax.Array], kernel: jax.Array, stride: int = 1) -> jax.Array:
    """One convolution after another. A grouped convolution in their place takes 100 x as long to train on
    CPUs, and gathers a batch that is split over devices.
    """
    padding = ((kernel.shape[1] // 2,) * 2,) * 2
    return jnp.stack(
        [
            jax.lax.conv_general_dilated(
                own, kernel[j], (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            for j, own in enumerate(x)
        ]
    )


def shifted(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """A batched matrix product for each tap of the kernels, of the shifted inputs."""
    (height, width), size = x.shape[2:4], kernel.shape[1]
    padded = _bordered(x, size // 2)
    y = jnp.zeros((), x.dtype)
    for dy in range(size):
        for dx in range(size):
            near = padded[:, :, dy : dy + height : stride, dx : dx + width : stride]
            y = y + jnp.einsum("knhwc,kcd->knhwd", near, kernel[:, dy, dx])
    return y


def products(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """One batched matrix product with all taps, whose results are shifted and added."""
    (height, width), (branches, size, _, inputs, outputs) = x.shape[2:4], kernel.shape
    taps = jnp.swapaxes(kernel.reshape(branches, size * size, inputs, outputs), 1, 2)
    y = jnp.einsum("knhwc,kcd->knhwd", x, taps.reshape(branches, inputs, size * size * outputs))
    y = _bordered(y, size // 2)
    total = jnp.zeros((), y.dtype)
    for dy in range(size):
        for dx in range(size):
            first = (size * dy + dx) * outputs
            near = y[:, :, dy : dy + height : stride, dx : dx + width : stride]
            total = total + near[..., first : first + outputs]
    return total


def _bordered(x: jax.Array, reach: int) -> jax.Array:
    """Zeros around the maps (k, n, h, w, c)."""
    return jnp.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach), (0, 0)))


class BranchConv(nn.Module):
    """`branch_conv` with its parameters, ``kernel`` (k, size, size, c, features), ``bias`` (k, features).

    Attributes:
      branches: their number k.
      features: channels of each branch's output.
      dtype: of the computation.
      size: side of the kernels.
      stride: along both sides.
    """

    branches: int
    features: int
    dtype: Any = jnp.float32
    size: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Map (k, n, h, w, c), or (n, h, w, c) that all branches share, to (k, n, h', w', features)."""
        he = nn.initializers.variance_scaling(2.0, "fan_in", "normal", batch_axis=0)
        shape = (self.branches, self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", he, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.branches, self.features))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        y = branch_conv(x, kernel, differentiated=train, stride=self.stride)
        return y + bias.astype(self.dtype)[:, None, None, None]


class BranchNorm(nn.Module):
    """BatchNorm of each branch on its own: parameters and statistics are (k, c).

    Attributes:
      dtype: of the result; statistics stay float32.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Normalise (k, n, h, w, c) over n, h and w."""
        axes: Any = (0, -1)  # Flax takes several axes, its annotation only one
        norm = nn.BatchNorm(not train, axes, momentum=0.9, epsilon=1e-5, dtype=self.dtype, name="norm")
        return norm(x)
