"""What several tests of prediction use: pictures, landmark files, and a network of a few lines."""

from pathlib import Path
from typing import Any

import cv2
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxau.checkpoint import Model
from jaxau.faces.align import align, to_network_input

AUS = (1, 12, 25)


class Tiny(nn.Module):
    """Logits from coarse brightness; over time each frame adds to the one before (causal).

    One that remembers hands the sum on, as a recurrent network its state.
    """

    temporal: bool = False
    remembers: bool = False

    @nn.compact
    def __call__(
        self, image: jnp.ndarray, train: bool = False, state: jnp.ndarray | None = None
    ) -> dict[str, jnp.ndarray]:
        x = image.astype(jnp.float32) / 255 - 0.5
        *lead, side, _, _ = x.shape
        x = x.reshape(*lead, 4, side // 4, 4, side // 4, 3).mean((-4, -2)).reshape(*lead, 48)
        logits = nn.Dense(len(AUS), name="head")(x)
        if self.temporal:
            logits = jnp.cumsum(logits, axis=1)
        if self.remembers:
            logits = logits if state is None else logits + state[:, None]
            return {"logits": logits, "state": logits[:, -1]}
        return {"logits": logits}


class TinyTuple(nn.Module):
    """Logits from coarse brightness of the frames t - T, t and t + T, each frame's found for itself."""

    def setup(self) -> None:
        self.head = nn.Dense(len(AUS))

    def features(self, image: jnp.ndarray) -> dict[str, jnp.ndarray]:
        return {"coarse": _coarse(image)}

    def detect(self, features: dict[str, jnp.ndarray], *further: jnp.ndarray) -> dict[str, jnp.ndarray]:
        return _detect(self.head, features["coarse"], further)


class WholeTuple(nn.Module):
    """The same, for all three frames at once only."""

    @nn.compact
    def __call__(
        self, image: jnp.ndarray, *further: jnp.ndarray, train: bool = False
    ) -> dict[str, jnp.ndarray]:
        return _detect(nn.Dense(len(AUS), name="head"), _coarse(image), further)


def _detect(head: nn.Dense, coarse: jnp.ndarray, further: tuple[jnp.ndarray, ...]) -> dict[str, jnp.ndarray]:
    before, middle, after = (coarse[:, i] for i in range(3))
    logits = head(middle + 0.5 * (after - middle) - 0.25 * (middle - before))
    for values in further:  # neighbor (b, 3) and flow (b, h, w, 4)
        logits += values.reshape(len(values), -1).astype(jnp.float32).mean(-1, keepdims=True)
    return {"logits": logits}


def _coarse(image: jnp.ndarray) -> jnp.ndarray:
    *lead, side, _, _ = image.shape
    x = image.astype(jnp.float32) / 255 - 0.5
    return x.reshape(*lead, 4, side // 4, 4, side // 4, 3).mean((-4, -2)).reshape(*lead, 48)


def tuple_model(distance: int, whole: bool = False, inputs: tuple[str, ...] = ("image",)) -> Model:
    model = fake_model()
    info = {**model.info, "stage": "tuples", "neighbor_distance": distance, "inputs": list(inputs)}
    return Model(WholeTuple() if whole else TinyTuple(), model.variables, info)


def fake_model(clip_length: int = 0, side: int = 32, resize_to: int = 36, remembers: bool = False) -> Model:
    kernel = np.random.default_rng(0).normal(0, 1.5, (48, len(AUS))).astype(np.float32)
    variables = {"params": {"head": {"kernel": kernel, "bias": np.zeros(len(AUS), np.float32)}}}
    stage = "clips" if clip_length else "frames"
    info: dict[str, Any] = {
        "network": "tiny",
        "stage": stage,
        "aus": list(AUS),
        "thresholds": [0.5, 0.4, 0.6],
        "threshold_source": "inner",
        "alignment": "jaa256",
        "image_size": side,
        "resize_to": resize_to,
        "clip_length": clip_length,
        "trained_on": "synthetic faces (test)",
        "synthetic": True,
        "corpus": "synthetic",
        "protocol": "synthetic-holdout",
        "fold": 1,
        "manifest_hash": "m",
        "licence": "Apache-2.0",
        "epoch": 3,
        "hash": "0123",
    }
    return Model(Tiny(clip_length > 0, remembers), variables, info)


FACE = np.array([[24, 20], [40, 20], [32, 28], [26, 36], [38, 36]], float)


def picture(seed: int, height: int = 60, width: int = 64) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def landmark_rows(name: str, frames: list[int], face_ids: tuple[int, ...] = (0,)) -> list[str]:
    """FACE, a little elsewhere in each frame and for each face."""
    lines = []
    for frame in frames:
        for face_id in face_ids:
            points = FACE + (frame % 7, 3 * face_id)
            lines.append(",".join(map(str, [name, frame, face_id, *points[:, 0], *points[:, 1]])))
    return lines


def write_landmarks(path: Path, *groups: list[str]) -> Path:
    header = "video,frame,face_id," + ",".join(f"{c}_{i}" for c in "xy" for i in range(5))
    path.write_text("\n".join([header, *sum(groups, [])]) + "\n")
    return path


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def expected_logits(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """What the fake network says about a face, in NumPy."""
    crop = to_network_input(align(image, landmarks, "jaa256")[0], landmarks, "jaa256", 32, 36)
    features = (crop / 255 - 0.5).reshape(4, 8, 4, 8, 3).mean((1, 3)).ravel()
    return features @ fake_model().variables["params"]["head"]["kernel"]
