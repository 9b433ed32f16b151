"""VGG16 (Simonyan and Zisserman, 2015) as in torchvision, without BatchNorm: a trunk of GTLE-Net."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

_kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class VGG16(nn.Module):
    """Thirteen convolutions, 14,714,688 parameters, and the classifier of ImageNet where it is asked for.

    Parameters carry torchvision's names: ``features_0`` .. ``features_28``, ``classifier_0``, ``_3``, ``_6``.

    Attributes:
      classes: outputs of the classifier, 0 for none; it needs images of 224 pixels and, in training, the
        random key "dropout".
      widths: channels of the convolutions of each of the five parts that a max-pool ends.
      last_pool: whether one ends the last part, too; without it, maps are twice as large.
      dtype: of the computation.
    """

    classes: int = 0
    widths: tuple[tuple[int, ...], ...] = WIDTHS
    last_pool: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map a normalised image (n, h, w, 3) to features (n, h / 32, w / 32, 512), or to (n, classes)."""
        chex.assert_rank(x, 4)
        x, number = x.astype(self.dtype), 0  # torchvision also counts ReLUs and pools
        for part, widths in enumerate(self.widths):
            for width in widths:
                name = f"features_{number}"
                conv = nn.Conv(width, (3, 3), padding=1, kernel_init=_kaiming, dtype=self.dtype, name=name)
                x = nn.relu(conv(x))
                number += 2
            if self.last_pool or part < len(self.widths) - 1:
                x = nn.max_pool(x, (2, 2), (2, 2))
            number += 1
        if not self.classes:
            return x
        if x.shape[1:3] != (7, 7):
            raise ValueError(
                f"maps of {x.shape[1]} x {x.shape[2]} cells: the classifier needs 7 x 7 (224 pixels)"
            )
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # the published order: channels first
        for name in ("classifier_0", "classifier_3"):
            x = nn.relu(nn.Dense(4096, kernel_init=_kaiming, dtype=self.dtype, name=name)(x))
            x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(self.classes, dtype=self.dtype, name="classifier_6")(x).astype(jnp.float32)
