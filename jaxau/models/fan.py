"""FAN, the face alignment network: landmarks from stacked hourglasses, and the frozen trunk of AUNet.

"How far are we from solving the 2D & 3D face alignment problem?" (Bulat and Tzimiropoulos, ICCV, 2017), in
the form of ibug's public networks, whose names the parameters have: two hourglasses and max-pooling (2dfan2,
the default, of which AUNet takes its features), or four and average pooling (the authors' own 2DFAN-4).
[code] marks what the public networks do, [choice] what is ours.
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

Metrics = dict[str, jax.Array]
LossState = dict[str, jax.Array]
Pool = Literal["max", "average"]

CELL = 4  # pixels of the picture along a cell of the heat-maps
OUTER_EYE_CORNERS = {68: (36, 45), 98: (60, 72)}  # by number of landmarks; their distance is the NME's unit
_DEPTH = 4  # times that an hourglass halves its map

_kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class FAN(nn.Module):
    """The network; defaults are 2dfan2: 12,106,504 parameters, 13.92 G multiply-accumulates at 256 px.

    Attributes:
      hourglasses: how many stand behind each other; each puts out heat-maps.
      pool: "max" or "average", in the stem and in the hourglasses.
      width: channels of the hourglasses; the stem has a quarter and a half of them.
      points: landmarks, those of the corpus that it is trained on: 68 (iBUG) or 98 (WFLW, synthetic faces).
      dtype: of the computation; parameters, statistics and heat-maps are float32.
    """

    hourglasses: int = 2
    pool: Pool = "max"
    width: int = 256
    points: int = 68
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Find the landmarks of faces.

        Args:
          image: (b, h, w, 3) RGB in [0, 255], sides multiples of 64.
          train: whether BatchNorm uses the statistics of this batch.

        Returns:
          ``heatmaps`` (b, n, h / 4, w / 4, p) float32 of the n hourglasses, without bounds;
          ``low`` (b, h / 4, w / 4, c) before the first hourglass, F_l in AUNet;
          ``hourglass`` (b, h / 4, w / 4, n c), the features before the heat-maps of each hourglass: of the
          last one themselves, of the others as they are projected for the next (``bl``) [code].

        Raises:
          ValueError: sides that cannot be halved so often, or an odd width.
        """
        chex.assert_shape(image, (None, None, None, 3))
        height, width = image.shape[1:3]
        step = CELL * 2**_DEPTH
        if height % step or width % step:
            raise ValueError(f"image of {height} x {width} pixels: sides must be multiples of {step}")
        if self.width % 16:
            raise ValueError(f"width {self.width}: must be a multiple of 16, which the blocks divide")
        conv = partial(nn.Conv, kernel_init=_kaiming, dtype=self.dtype)
        norm = partial(nn.BatchNorm, not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype)
        block = partial(ConvBlock, dtype=self.dtype)
        c = self.width

        x = (image.astype(jnp.float32) / 255.0).astype(self.dtype)
        x = conv(c // 4, (7, 7), (2, 2), padding=((3, 3), (3, 3)), name="conv1")(x)
        x = nn.relu(norm(name="bn1")(x))
        x = _halve(block(c // 2, name="conv2")(x, train), self.pool)
        x = block(c // 2, name="conv3")(x, train)
        low = block(c, name="conv4")(x, train)

        previous, features, heatmaps = low, [], []
        for i in range(self.hourglasses):
            y = Hourglass(_DEPTH, c, self.pool, self.dtype, name=f"m{i}")(previous, train)
            y = block(c, name=f"top_m_{i}")(y, train)
            y = conv(c, (1, 1), name=f"conv_last{i}")(y)
            y = nn.relu(norm(name=f"bn_end{i}")(y))
            # Most cells of a heat-map are 0; from Kaiming's values the first loss is a hundredfold [choice].
            found = conv(self.points, (1, 1), kernel_init=nn.initializers.normal(0.01), name=f"l{i}")(y)
            if i < self.hourglasses - 1:
                y = conv(c, (1, 1), name=f"bl{i}")(y)
                previous = previous + y + conv(c, (1, 1), name=f"al{i}")(found)
            features.append(y)
            heatmaps.append(found.astype(jnp.float32))
        return {
            "heatmaps": jnp.stack(heatmaps, 1),
            "low": low,
            "hourglass": jnp.concatenate(features, -1),
        }


def assemble(outputs: Mapping[str, jax.Array]) -> jax.Array:
    """The features that AUNet (and EmoNet) reads from a FAN's outputs: (b, i, j, 3c) for two hourglasses.

    F_l, and behind it the features of the hourglasses times the sum of the last heat-maps over the landmarks,
    as they are, without any bounds [code].
    """
    seen = outputs["heatmaps"][:, -1].sum(-1, keepdims=True)
    weighted = outputs["hourglass"] * seen.astype(outputs["hourglass"].dtype)
    return jnp.concatenate([outputs["low"], weighted], -1)


class ConvBlock(nn.Module):
    """Residual block of three 3x3 convolutions, each seeing the one before; all three are put out.

    BatchNorm and ReLU come before each convolution, none after the sum. AUNet's head is made of these, too.
    """

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (b, h, w, c) to (b, h, w, features); features is a multiple of 4."""

        def convolve(y: jax.Array, features: int, size: int, norm: str, conv: str) -> jax.Array:
            y = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype, name=norm)(y)
            layer = nn.Conv(
                features,
                (size, size),
                padding=size // 2,
                use_bias=False,
                kernel_init=_kaiming,
                dtype=self.dtype,
                name=conv,
            )
            return layer(nn.relu(y))

        first = convolve(x, self.features // 2, 3, "bn1", "conv1")
        second = convolve(first, self.features // 4, 3, "bn2", "conv2")
        third = convolve(second, self.features // 4, 3, "bn3", "conv3")
        if x.shape[-1] != self.features:
            x = convolve(x, self.features, 1, "downsample_bn", "downsample_conv")
        return jnp.concatenate([first, second, third], -1) + x


class Hourglass(nn.Module):
    """Blocks at ever coarser maps and back again, with a branch past each halving.

    Attributes:
      depth: times the map is halved.
      features: channels throughout.
      pool: how it is halved; it is doubled by repeating cells.
      dtype: of the computation.
    """

    depth: int
    features: int
    pool: Pool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (b, h, w, features) to the same shape; h and w are multiples of 2 ** depth."""

        def level(depth: int, x: jax.Array) -> jax.Array:
            def block(name: str, y: jax.Array) -> jax.Array:
                return ConvBlock(self.features, self.dtype, name=f"{name}_{depth}")(y, train)

            beside = block("b1", x)
            y = block("b2", _halve(x, self.pool))
            y = level(depth - 1, y) if depth > 1 else block("b2_plus", y)
            y = block("b3", y)
            return beside + jnp.repeat(jnp.repeat(y, 2, 1), 2, 2)

        return level(self.depth, x)


def _halve(x: jax.Array, pool: Pool) -> jax.Array:
    return (nn.max_pool if pool == "max" else nn.avg_pool)(x, (2, 2), (2, 2))


def decode(heatmaps: jax.Array, radius: float = 0.1, gamma: float = 1.0) -> tuple[jax.Array, jax.Array]:
    """Landmarks from heat-maps, finer than a cell, as ibug's FAN predicts them [code].

    A landmark is the centroid of the positive values near the highest one.

    Args:
      heatmaps: (..., i, j, p).
      radius: what is near, as a share of the map's side (the root of its area).
      gamma: power of the values before the centroid.

    Returns:
      (..., p, 2) x and y in cells, where the centre of the first cell is at .5 (in pixels of the picture:
      `to_pixels`); a map without any positive value has its landmark at 0. And (..., p) the highest values.
    """
    rows, columns = heatmaps.shape[-3:-1]
    flat = heatmaps.reshape(*heatmaps.shape[:-3], rows * columns, heatmaps.shape[-1])
    y, x = (jnp.arange(rows * columns) // columns)[:, None], (jnp.arange(rows * columns) % columns)[:, None]
    peak = flat.argmax(-2)[..., None, :]
    squared = (y - peak // columns) ** 2 + (x - peak % columns) ** 2  # (..., i j, p)
    near = squared <= radius**2 * rows * columns
    weights = jnp.where(near, jnp.maximum(flat, 0.0), 0.0) ** gamma
    total = jnp.maximum(weights.sum(-2), jnp.finfo(weights.dtype).eps)
    found = [(weights * (axis + 0.5)).sum(-2) / total for axis in (x, y)]
    return jnp.stack(found, -1), flat.max(-2)


def to_pixels(cells: jax.Array) -> jax.Array:
    """Places in heat-maps as places in the picture, where the centre of the first pixel is at 0."""
    return cells * CELL - 0.5


def gaussians(landmarks: jax.Array, rows: int, columns: int, sigma: float) -> jax.Array:
    """Heat-maps (..., rows, columns, p) with a peak of 1 at each landmark, which may lie between cells.

    Args:
      landmarks: (..., p, 2) pixels of the picture.
      rows, columns: cells of the maps.
      sigma: standard deviation in cells.
    """
    centre = (landmarks + 0.5) / CELL - 0.5  # cells, counted from the centre of the first
    x = jnp.exp(-((jnp.arange(columns)[:, None] - centre[..., None, :, 0]) ** 2) / (2 * sigma**2))
    y = jnp.exp(-((jnp.arange(rows)[:, None] - centre[..., None, :, 1]) ** 2) / (2 * sigma**2))
    return y[..., :, None, :] * x[..., None, :, :]


@dataclass(frozen=True)
class LandmarksLoss(losses.Stateless):
    """Squared error of the heat-maps of each hourglass.

    Attributes:
      sigma: standard deviation of a landmark's target, in cells.
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        if self.sigma <= 0:
            raise ValueError(f"loss.sigma: {self.sigma} must be above 0")

    def __call__(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], state: LossState
    ) -> tuple[jax.Array, Metrics, LossState]:
        """Return the loss, its terms and the state.

        Args:
          outputs: of ``FAN``.
          batch: the view ``landmarks``: landmarks (b, p, 2) pixels of the picture, NaN where a face has
            none; mask (b,). A landmark outside of the picture has an empty map as its target.
          state: empty.

        Returns:
          The terms ``heatmaps``, the squared error summed over a map's cells, mean over maps and hourglasses,
          and ``nme``, the mean distance between the landmarks found by the last hourglass and the true ones,
          divided by the distance between the outer eye corners; both over faces that have landmarks.

        Raises:
          ValueError: the network finds another number of landmarks than the corpus has.
        """
        heatmaps, landmarks = outputs["heatmaps"], batch["landmarks"]
        if heatmaps.shape[-1] != landmarks.shape[-2]:
            raise ValueError(
                f"config.network.points: {heatmaps.shape[-1]}, but the corpus has {landmarks.shape[-2]} "
                "landmarks; they must be as many"
            )
        present = jnp.isfinite(landmarks).all((1, 2)) & batch["mask"]
        landmarks = jnp.where(present[:, None, None], landmarks, 0.0)  # NaN x 0 would be NaN
        rows, columns = heatmaps.shape[2:4]
        wanted = gaussians(landmarks, rows, columns, self.sigma)
        squared = ((heatmaps - wanted[:, None]) ** 2).sum((2, 3)).mean((1, 2))
        loss = losses.masked_mean(squared, present)
        found = to_pixels(decode(jax.lax.stop_gradient(heatmaps[:, -1]))[0])
        terms = {"heatmaps": loss, "nme": losses.masked_mean(normalized_error(found, landmarks), present)}
        return loss, terms, state


def normalized_error(found: jax.Array, landmarks: jax.Array) -> jax.Array:
    """Mean distance of landmarks (..., p, 2) from the true ones over that of the true outer eye corners.

    The inter-ocular NME of 300W and WFLW, a share (not per cent) of each face, (...).

    Raises:
      ValueError: landmarks other than 68 or 98, of which no outer eye corners are known.
    """
    points = landmarks.shape[-2]
    if points not in OUTER_EYE_CORNERS:
        raise ValueError(
            f"{points} landmarks: an error is measured on {' or '.join(map(str, OUTER_EYE_CORNERS))} of them"
        )
    right, left = (landmarks[..., corner, :] for corner in OUTER_EYE_CORNERS[points])
    unit = jnp.linalg.norm(left - right, axis=-1)
    return jnp.linalg.norm(found - landmarks, axis=-1).mean(-1) / jnp.maximum(unit, 1e-6)
