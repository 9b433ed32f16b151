"""Blocks that several networks use."""

import jax
import jax.numpy as jnp
from flax import linen as nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(image: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """Map uint8 RGB (..., 3) to float32 with ``mean`` and ``std`` given for the range [0, 1]."""
    return (image.astype(jnp.float32) / 255.0 - jnp.asarray(mean)) / jnp.asarray(std)


class AUClassifier(nn.Module):
    """One fully-connected layer for each AU."""

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Map features (..., k, d) to logits (..., k)."""
        num_aus, width = features.shape[-2:]
        lecun = nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)
        weight = self.param("weight", lecun, (num_aus, width))
        bias = self.param("bias", nn.initializers.zeros, (num_aus,))
        return (features * weight).sum(-1) + bias


class GraphAttention(nn.Module):
    """One head of graph attention with a projected residual (LAC, Eqs. 7-9; layer as in MDHR).

    ``ELU(attention @ x W + x W_residual + bias)``, attention = softmax over neighbours j of
    ``LeakyReLU_0.2(a_self . x_i W + a_neighbor . x_j W)``.

    Attributes:
      features: width of the output.
      adjacency: (k, k) nested tuple of bool; row i names the nodes that node i listens to.
    """

    features: int
    adjacency: tuple[tuple[bool, ...], ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map node features (..., k, c) to (..., k, features)."""
        xavier = nn.initializers.xavier_uniform()
        projected = nn.Dense(self.features, use_bias=False, kernel_init=xavier, name="linear")(x)
        residual = nn.Dense(self.features, use_bias=False, kernel_init=xavier, name="residual")(x)
        own = nn.Dense(1, use_bias=False, kernel_init=xavier, name="score_self")(projected)
        other = nn.Dense(1, use_bias=False, kernel_init=xavier, name="score_neighbor")(projected)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        scores = nn.leaky_relu(own + jnp.swapaxes(other, -1, -2), 0.2)  # (..., k, k)
        scores = jnp.where(jnp.asarray(self.adjacency), scores, -jnp.inf)
        return nn.elu(nn.softmax(scores) @ projected + residual + bias)


class LSTM(nn.Module):
    """One-directional LSTM, gates in PyTorch's order (input, forget, cell, output).

    One bias vector; PyTorch's two are redundant, an import adds them. The input projection of all time
    steps is one matrix product before the scan.

    Attributes:
      features: width of the hidden state.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map a sequence (n, t, c) to hidden states (n, t, features), from a zero state."""
        uniform = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")
        kernel = self.param("kernel", uniform, (x.shape[-1], 4 * self.features))
        recurrent = self.param("recurrent", nn.initializers.orthogonal(), (self.features, 4 * self.features))
        bias = self.param("bias", nn.initializers.zeros, (4 * self.features,))

        def step(carry: tuple[jax.Array, jax.Array], gates: jax.Array) -> tuple:
            hidden, cell = carry
            i, f, g, o = jnp.split(gates + hidden @ recurrent, 4, axis=-1)
            cell = nn.sigmoid(f) * cell + nn.sigmoid(i) * jnp.tanh(g)
            hidden = nn.sigmoid(o) * jnp.tanh(cell)
            return (hidden, cell), hidden

        zero = jnp.zeros((x.shape[0], self.features), x.dtype)
        gates = jnp.swapaxes(x @ kernel + bias, 0, 1)  # (t, n, 4 features)
        return jnp.swapaxes(jax.lax.scan(step, (zero, zero), gates, unroll=4)[1], 0, 1)


def roi_weights(low: jax.Array, high: jax.Array, size: int, bins: int, samples: int = 2) -> jax.Array:
    """Matrix that takes one axis of a map to the bins of regions of interest (RoIAlign, aligned).

    Bilinear interpolation is separable, so ``rows @ map @ columns.T`` is RoIAlign. As in torchvision's
    compiled operator, a sample beyond -1 or ``size`` counts as 0 and others are clamped to the map.

    Args:
      low: (...) lower edges in map cells, i.e. pixels * scale - 0.5.
      high: (...) upper edges in map cells.
      size: cells of the map along this axis.
      bins: output cells per region.
      samples: sampling points per bin.

    Returns:
      (..., bins, size) weights.
    """
    offsets = (jnp.arange(bins * samples) + 0.5) / (bins * samples)
    position = low[..., None] + (high - low)[..., None] * offsets  # (..., bins * samples)
    inside = (position >= -1.0) & (position <= size)
    position = jnp.clip(position, 0, size - 1)
    weights = jnp.maximum(0.0, 1.0 - jnp.abs(position[..., None] - jnp.arange(size)))
    weights = weights * inside[..., None]
    return weights.reshape(*position.shape[:-1], bins, samples, size).mean(-2)
