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
    x: jax.Array, kernel: jax.Array, form: Form | None = None, differentiated: bool = True
) -> jax.Array:
    """Convolve each branch with its own 3x3 kernel, stride 1, zero padding 1.

    Args:
      x: (k, n, h, w, c) the branches' inputs, or (n, h, w, c), one input for all.
      kernel: (k, 3, 3, c, d).
      form: how it is computed; None = `default_form`. The forms agree but for rounding.
      differentiated: whether gradients will be asked for, which decides the default form.

    Returns:
      (k, n, h, w, d).
    """
    branches, shared = len(kernel), x.ndim == 4
    chex.assert_shape(kernel, (branches, 3, 3, x.shape[-1], None))
    if not shared:
        chex.assert_shape(x, (branches, None, None, None, None))
    form = form or default_form(branches, kernel.shape[-1], differentiated)
    if form == "loop":
        return loop([x] * branches if shared else list(x), kernel)
    x = jnp.broadcast_to(x, (branches, *x.shape)) if shared else x
    return {"shifted": shifted, "products": products}[form](x, kernel)


def default_form(branches: int, outputs: int, differentiated: bool) -> Form:
    """The form that `launch.bench_branches` found fastest on CPUs (no accelerator was measured).

    A loop of convolutions is, but for a single output channel, where its gradients are slow, and for the
    gradients of many branches, whose compilation takes ten times as long as that of the shifted form.
    """
    if outputs == 1:
        return "products"
    return "shifted" if branches > 16 and differentiated else "loop"


def loop(x: list[jax.Array], kernel: jax.Array) -> jax.Array:
    """One convolution after another. A grouped convolution in their place takes 100 x as long to train on
    CPUs, and gathers a batch that is split over devices.
    """
    return jnp.stack(
        [
            jax.lax.conv_general_dilated(
                own, kernel[j], (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            for j, own in enumerate(x)
        ]
    )


def shifted(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Nine batched matrix products, one for each tap of the kernels, of the shifted inputs."""
    height, width = x.shape[2:4]
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    y = jnp.zeros((), x.dtype)
    for dy in range(3):
        for dx in range(3):
            near = padded[:, :, dy : dy + height, dx : dx + width]
            y = y + jnp.einsum("knhwc,kcd->knhwd", near, kernel[:, dy, dx])
    return y


def products(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """One batched matrix product with all nine taps, whose nine results are shifted and added."""
    (height, width), (branches, *_, inputs, outputs) = x.shape[2:4], kernel.shape
    taps = jnp.swapaxes(kernel.reshape(branches, 9, inputs, outputs), 1, 2)
    y = jnp.einsum("knhwc,kcd->knhwd", x, taps.reshape(branches, inputs, 9 * outputs))
    y = jnp.pad(y, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    total = jnp.zeros((), y.dtype)
    for dy in range(3):
        for dx in range(3):
            first = (3 * dy + dx) * outputs
            total = total + y[:, :, dy : dy + height, dx : dx + width, first : first + outputs]
    return total


class BranchConv(nn.Module):
    """`branch_conv` with its parameters, ``kernel`` (k, 3, 3, c, features) and ``bias`` (k, features).

    Attributes:
      branches: their number k.
      features: channels of each branch's output.
      dtype: of the computation.
    """

    branches: int
    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Map (k, n, h, w, c), or (n, h, w, c) that all branches share, to (k, n, h, w, features)."""
        he = nn.initializers.variance_scaling(2.0, "fan_in", "normal", batch_axis=0)
        kernel = self.param("kernel", he, (self.branches, 3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.branches, self.features))
        y = branch_conv(x.astype(self.dtype), kernel.astype(self.dtype), differentiated=train)
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
