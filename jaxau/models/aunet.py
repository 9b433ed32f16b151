"""AUNet, "Towards Robust Facial Action Units Detection" (Yang et al., Proceedings of the IEEE, 2023).

The features of a frozen face alignment network (FAN) around the landmarks; what changes in them between the
frames t - T, t and t + T (TDN); and an auto-encoder of labels that keeps predictions among the combinations
of AUs that occur (VAE, see ``label_vae.py``). Equation and table numbers are the paper's; [code] marks what
the authors' public code does, [choice] what the paper leaves open.

The paper's variants as fields of `AUNet` and options of its loss (``aunet_loss.py``):

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

from functools import partial
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxau.models import label_vae, layers
from jaxau.models.fan import FAN, ConvBlock, Pool, assemble
from jaxau.models.label_vae import LabelVAEs
from jaxau.models.resnet import ResNet

Part = Literal["labels", "tuples", "flow", "windows"]
Trunk = Literal["fan", "resnet18"]
Step = Literal["whole", "features", "detect"]

_kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class AUNet(nn.Module):
    """The network; with the defaults 2,657,036 parameters for 12 AUs beside the frozen FAN and VAE.

    Parameters lie under ``fan`` or ``trunk``, ``head`` and ``vae``.

    Attributes:
      aus: AU numbers in the order of the outputs.
      part: the stage. "labels": the auto-encoder of labels alone; "tuples": the detector; "flow": the
        detector with optical flow in place of the differences of features; "windows": the detector on
        consecutive frames, which share what the FAN makes of each, to train in about half the time.
      corpora: that are trained on; each has an auto-encoder of its own.
      neighbor_distance: T in frames, which windows need to know.
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
    neighbor_distance: int = 10
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
        *inputs: Any,
        au: jax.Array | None = None,
        au_mask: jax.Array | None = None,
        corpus: jax.Array | None = None,
        train: bool = False,
        step: Step = "whole",
    ) -> dict[str, jax.Array]:
        """Detect AUs in the middle one of three frames, or encode labels.

        Args:
          inputs: of "tuples" the frames t - T, t, t + T (b, 3, h, w, 3) RGB uint8, where the middle one
            stands in for a neighbour that there is not; without ``motion`` also stills (b, h, w, 3). Of
            "flow" the same, and ``flow`` (b, h, w, 4) in shares of the side, x and y from t to t - T and to
            t + T. Of "labels" ``au``, ``au_mask`` and ``corpus``, as below. Of "windows" clips
            (b, t, h, w, 3), each frame aligned for itself and not onto another. For a FAN the sides are
            multiples of 64.
          au: (b, k) labels in {0, 1} of the middle frame, or of all frames of clips (b, t, k); with them (and
            the next two) the outputs hold what `label_vae.consistency_loss` compares.
          au_mask: like ``au``, bool, False = not coded.
          corpus: (b,) or (b, t) numbers of `facs.corpus_number`.
          train: whether BatchNorm uses the statistics of this batch, and the auto-encoder noise.
          step: a part of the whole, see `features` and `detect`.

        Returns:
          ``logits`` (b, k); where there is a FAN, ``heatmaps`` (b, h / 4, w / 4, p), its last ones for the
          middle frame; given ``au``, the outputs of `LabelVAEs` for the predictions, ``predicted_`` before
          their names, and for the labels, ``labelled_``. Of "windows" all of that with t after b, and
          ``complete`` (b, t), whether both neighbours are in the window: else the frame itself stands in. Of
          "labels" the outputs of `LabelVAEs`.

        Raises:
          ValueError: stills where motion is to be seen; windows too short for a frame and its neighbours, or
            for a ResNet.
        """
        encode = LabelVAEs(self.corpora, self.latent, name="vae")
        if self.part == "labels":
            labels, mask, corpus = inputs
            labels = labels.astype(jnp.float32)
            labels = label_vae.disturb(labels, self.make_rng("noise")) if train else labels
            return encode(labels, mask, corpus, sample=train)

        image, *rest = inputs
        flow = rest[0] if rest else None
        trunk = self._trunk()
        if step == "features":
            return self._features(trunk, image)
        if step == "detect":
            return self._detect_seen(trunk, image, flow)
        detect = self._detect_both_ways if self.flip and not train else self._detect
        outputs = detect(trunk, image, flow, train)
        if self.vae and au is not None:
            assert au_mask is not None and corpus is not None, "they come with au"
            for name, values in (("predicted", nn.sigmoid(outputs["logits"])), ("labelled", au)):
                found = encode(values, au_mask, corpus)
                outputs |= {f"{name}_{key}": value for key, value in found.items()}
        return outputs

    def features(self, image: jax.Array) -> dict[str, jax.Array]:
        """What is seen outside of training in frames (b, h, w, 3), each for itself: ``maps`` of b rows."""
        return self(image, step="features")

    def detect(self, features: dict[str, jax.Array], *flow: jax.Array) -> dict[str, jax.Array]:
        """``logits`` as of the whole, from `features` (b, 3, ...) of the frames t - T, t, t + T."""
        return self(features, *flow, step="detect")

    def _trunk(self) -> FAN | ResNet:
        if self.trunk == "resnet18":
            widths = tuple(self.width * share // 4 for share in (1, 2, 4, 8))
            return ResNet("basic", (2, 2, 2, 2), widths, dtype=self.dtype, name="trunk")
        return FAN(self.hourglasses, self.pool, self.width, self.points, self.dtype, name="fan")

    def _features(self, trunk: FAN | ResNet, image: jax.Array) -> dict[str, jax.Array]:
        ways = _beside(image, _mirrored(image)) if self.flip else image
        maps, _ = self._see(trunk, ways, train=False)
        return {"maps": maps.reshape(len(image), -1, *maps.shape[1:])}  # (b, 1 or 2 ways, i, j, c)

    def _detect_seen(
        self, trunk: FAN | ResNet, features: dict[str, jax.Array], flow: jax.Array | None
    ) -> dict[str, jax.Array]:
        maps = features["maps"] if self._moves else features["maps"][:, 1:2]
        b, _, ways = maps.shape[:3]
        maps = maps.swapaxes(1, 2).reshape(-1, *maps.shape[3:])
        if flow is not None and ways == 2:
            flow = _beside(flow, _mirrored_flow(flow))
        return {"logits": self._judge(trunk, maps, flow, train=False).reshape(b, ways, -1).mean(1)}

    def _detect_both_ways(
        self, trunk: FAN | ResNet, image: jax.Array, flow: jax.Array | None, train: bool
    ) -> dict[str, jax.Array]:
        """As `_detect`, of each picture and its mirror image; of the latter only the logits are kept."""
        image = _beside(image, _mirrored(image))
        if flow is not None:
            flow = _beside(flow, _mirrored_flow(flow))
        outputs = self._detect(trunk, image, flow, train)
        kept = {name: value[::2] for name, value in outputs.items()}
        return {**kept, "logits": (outputs["logits"][::2] + outputs["logits"][1::2]) / 2}

    @property
    def _moves(self) -> bool:
        return self.motion and self.part == "tuples"

    def _detect(
        self, trunk: FAN | ResNet, image: jax.Array, flow: jax.Array | None, train: bool
    ) -> dict[str, jax.Array]:
        if self._moves and image.ndim != 5:
            raise ValueError(
                f"image of {image.ndim} axes: motion is seen in three frames (b, 3, h, w, 3); use the view "
                '"tuples", or config.network.motion=False'
            )
        lead = image.shape[:2]
        if self.part == "windows":
            self._check_window(lead[1])
        elif image.ndim == 5:
            chex.assert_axis_dimension(image, 1, 3)
            image = image if self._moves else image[:, 1]
        image = image.reshape(-1, *image.shape[-3:])  # (b frames, h, w, 3)
        maps, heatmaps = self._see(trunk, image, train)
        if self.part == "windows":
            flow, complete = windowed_difference(maps, lead, self.neighbor_distance)
            logits = self._judge(trunk, maps, flow if self.motion else None, train)
            assert heatmaps is not None, "windows are a FAN's"
            return {
                "logits": logits.reshape(*lead, -1),
                "heatmaps": heatmaps.reshape(*lead, *heatmaps.shape[1:]),
                "complete": jnp.broadcast_to(complete, lead),
            }
        outputs = {"logits": self._judge(trunk, maps, flow, train)}
        if heatmaps is not None:
            outputs["heatmaps"] = heatmaps[1::3] if self._moves else heatmaps
        return outputs

    def _check_window(self, length: int) -> None:
        if self.trunk != "fan":
            raise ValueError(
                f"windows share the outputs of a frozen FAN, but config.network.trunk={self.trunk!r} learns; "
                'use the stage "tuples"'
            )
        if self.motion and length <= 2 * self.neighbor_distance:
            raise ValueError(
                f"config.data.clip_length={length}: no frame has both neighbours at {self.neighbor_distance} "
                f"frames in such a window; use more than {2 * self.neighbor_distance}"
            )

    def _see(self, trunk: FAN | ResNet, image: jax.Array, train: bool) -> tuple[jax.Array, jax.Array | None]:
        """Features (n, i, j, c) of n frames, and the last heat-maps of a FAN."""
        if isinstance(trunk, ResNet):
            x = layers.normalize(image, layers.IMAGENET_MEAN, layers.IMAGENET_STD)
            return trunk(x, use_running_average=not train, last=1), None
        seen = jax.lax.stop_gradient(trunk(image, train=False))  # frozen: always its running statistics
        return assemble(seen), seen["heatmaps"][:, -1]

    def _judge(self, trunk: FAN | ResNet, maps: jax.Array, flow: jax.Array | None, train: bool) -> jax.Array:
        """Logits (b, k) from the features (b frames, i, j, c), those of a face in order."""
        middle, motion = difference(maps) if self._moves else (maps, flow)
        known = len(self.aus), self.alpha, self.beta, self.dtype
        if isinstance(trunk, ResNet):
            return ResNetHead(trunk, *known, name="head")(middle, motion, train)
        return Head(known[0], self.width, *known[1:], name="head")(middle, motion, train)


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
      alpha, beta, dtype: as of `AUNet`.
    """

    trunk: ResNet
    num_aus: int
    alpha: float
    beta: float
    dtype: Any

    @nn.compact
    def __call__(self, y: jax.Array, motion: jax.Array | None, train: bool) -> jax.Array:
        """Map what the first stage puts out (b, i, j, c), and what moves (as of `Head`), to logits (b, k)."""
        trunk, first = partial(self.trunk, use_running_average=not train), self.trunk.widths[0]
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


def windowed_difference(
    features: jax.Array, lead: tuple[int, ...], distance: int
) -> tuple[jax.Array, jax.Array]:
    """As `difference`, of every frame of windows; already at half the resolution, at which it is used.

    Args:
      features: (b t, i, j, c) of the frames of windows.
      lead: b and t.
      distance: to the neighbours in frames; where the window has none the frame itself stands in.

    Returns:
      The differences (b t, i / 2, j / 2, 2 c), and (t,) where both neighbours are in the window.
    """
    coarse = _coarser(features, features.shape[1] // 2)
    by_frame = coarse.reshape(*lead, *coarse.shape[1:])
    here = jnp.arange(lead[1])
    before = jnp.where(here >= distance, here - distance, here)
    after = jnp.where(here + distance < lead[1], here + distance, here)
    motion = jnp.concatenate([by_frame - by_frame[:, before], by_frame[:, after] - by_frame], -1)
    return motion.reshape(len(coarse), *motion.shape[2:]), (before != here) & (after != here)


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


def _mirrored(image: jax.Array) -> jax.Array:
    return image[..., ::-1, :]


def _mirrored_flow(flow: jax.Array) -> jax.Array:
    return flow[..., ::-1, :] * jnp.array([-1.0, 1.0, -1.0, 1.0])


def _beside(x: jax.Array, y: jax.Array) -> jax.Array:
    """Examples of x and y (b, ...) by turns, (2 b, ...): each stays on the device where it is."""
    return jnp.stack([x, y], 1).reshape(-1, *x.shape[1:])
