"""How hard the faces are: the scores of ever better readers, and what they lean on.

A generator that is too easy lets pixel positions be read off; a broken one cannot be read at all. The rungs,
each on subjects that it has not seen: an AU that is always on, grey pixels, gradients (HOG), a small
convolutional network, exact landmarks, and exact landmarks less their median over the clip, which only who
knows the face at other times can take off. All scores are on synthetic faces.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_pipelines.synthetic.config import SynthConfig
from data_pipelines.synthetic.faces import OCCURRENCE, SynthFaces
from jaxau.faces.align import align
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.grid import Bools, Floats, Ints

AUS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 24, 25)
"""The AUs that the rungs are about: BP4D's without 23, and 25."""

SIDE = 64  # pixels of the grey crop
_FOLDS = 3
_LANDMARK_JITTER = 1 / 128  # of the picture's side: no landmark detector is exact

NETWORK = "small convolutional network"

Folds = Sequence[tuple[Sequence[int], Sequence[int]]]


class Samples(NamedTuple):
    """Frames to learn from.

    Attributes:
      images: (n, SIDE, SIDE) uint8 grey, aligned by jittered landmarks.
      landmarks: (n, 68, 2) float32, exact pixels of the picture.
      occurs: (n, 12) bool, of ``AUS``.
      labels: (n, 25) float32 intensities of ``facs.SYNTHETIC_AUS``.
      subject, clip: (n,) numbers.
      yaw: (n,) degrees.
    """

    images: np.ndarray
    landmarks: Floats
    occurs: Bools
    labels: Floats
    subject: Ints
    clip: Ints
    yaw: Floats


def draw_samples(config: SynthConfig, every: int = 1, workers: int = 1) -> Samples:
    """Draw all people and clips of a configuration, and every so-manieth frame of each clip."""
    draw = partial(_draw_subject, config, every)
    subjects = range(config.shape.subjects)
    if workers == 1:
        parts = [draw(subject) for subject in subjects]
    else:
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(draw, subjects))
    return Samples(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _draw_subject(config: SynthConfig, every: int, subject: int) -> Samples:
    faces = SynthFaces(config)
    columns = [SYNTHETIC_AUS.index(au) for au in AUS]
    images, frames = [], []
    for clip in range(config.shape.clips):
        rng = np.random.default_rng([config.seed, subject, clip])
        for t in range(0, config.shape.frames, every):
            frame = faces.frame(subject, clip, t)
            seen = frame.lm98 + rng.normal(0, _LANDMARK_JITTER * config.shape.size, 2)
            crop, _ = align(frame.image, seen.astype(np.float32), "jaa256")
            grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
            images.append(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
            frames.append(frame)
    labels = np.stack([frame.au for frame in frames])
    return Samples(
        np.stack(images),
        np.stack([frame.lm68 for frame in frames]),
        labels[:, columns] >= OCCURRENCE,
        labels,
        np.array([frame.subject for frame in frames]),
        np.array([frame.clip for frame in frames]),
        np.array([frame.pose[0] for frame in frames]),
    )


def pixels(samples: Samples) -> Floats:
    """(n, SIDE^2) grey values 0..1 less the picture's mean."""
    flat = samples.images.reshape(len(samples.images), -1) / np.float32(255)
    return flat - flat.mean(1, keepdims=True)


def gradients(samples: Samples) -> Floats:
    """(n, 1764) histograms of oriented gradients; needs scikit-image."""
    from skimage.feature import hog  # for development only

    return np.stack([hog(image, 9, (8, 8), (2, 2)) for image in samples.images]).astype(np.float32)


def landmarks(samples: Samples) -> Floats:
    """(n, 136) exact landmarks: centred, upright, in units of the distance between the eyes."""
    points = samples.landmarks - samples.landmarks.mean(1, keepdims=True)
    eyes = points[:, 42:48].mean(1) - points[:, 36:42].mean(1)
    scale = np.linalg.norm(eyes, axis=1)[:, None]
    x, y = (eyes / scale).T
    turn = np.stack([np.stack([x, -y], -1), np.stack([y, x], -1)], -2)
    return (points @ turn / scale[..., None]).reshape(len(points), -1)


def less_clip_median(features: Floats, samples: Samples) -> Floats:
    """Features (n, f) less their median over all frames of the same subject's clip."""
    relative = np.empty_like(features)
    for subject, clip in np.unique(np.stack([samples.subject, samples.clip], -1), axis=0):
        rows = (samples.subject == subject) & (samples.clip == clip)
        relative[rows] = features[rows] - np.median(features[rows], 0)
    return relative


def linear(features: Floats, target: Bools, test: Bools, strength: float, components: int = 0) -> Floats:
    """Probabilities (tests, k) of balanced logistic regressions learned from the other rows.

    Args:
      features: (n, f).
      target: (n, k), of what is learned.
      test: (n,) rows to predict.
      strength: inverse of the regularisation (scikit-learn's C).
      components: number of principal components to reduce the features to; 0 leaves them.
    """
    steps: list[Any] = [PCA(components, random_state=0)] if components else [StandardScaler()]
    reduce = make_pipeline(*steps)
    x, x_test = reduce.fit_transform(features[~test]), reduce.transform(features[test])
    probability = np.full((int(test.sum()), target.shape[1]), 0.5)
    for column in range(target.shape[1]):
        y = target[~test, column]
        if 0 < y.mean() < 1:
            model = LogisticRegression(C=strength, class_weight="balanced", max_iter=200)
            probability[:, column] = model.fit(x, y).predict_proba(x_test)[:, 1]
    return probability


Rung = Callable[[Samples, Bools], Floats]
"""(samples, which of them are tested) -> probabilities of the tested ones."""


def _on_features(
    make: Callable[[Samples], Floats], strength: float, components: int = 0, target: Bools | None = None
) -> Rung:
    def rung(samples: Samples, test: Bools) -> Floats:
        return linear(make(samples), samples.occurs if target is None else target, test, strength, components)

    return rung


def _relative_landmarks(samples: Samples) -> Floats:
    return less_clip_median(landmarks(samples), samples)


def rungs() -> dict[str, Rung]:
    """The rungs of the ladder but the network, from the worst reader to the best."""
    return {
        "always on": lambda samples, test: np.ones((int(test.sum()), len(AUS))),
        "pixels, PCA, logistic regression": _on_features(pixels, 0.01, components=80),
        "HOG, logistic regression": _on_features(gradients, 3e-4),
        "exact landmarks, logistic regression": _on_features(landmarks, 0.1),
        "exact landmarks less the clip's median": _on_features(_relative_landmarks, 0.1),
    }


def f1_per_au(probability: Floats, occurs: Bools) -> dict[int, float | None]:
    """F1 at .5 of each AU; None where the AU never occurs."""
    return {
        au: float(f1_score(truth, predicted >= 0.5)) if truth.any() else None
        for au, truth, predicted in zip(AUS, occurs.T, probability.T, strict=True)
    }


def mean_f1(scores: dict[int, float | None]) -> float:
    """Mean over the AUs that have an F1."""
    return float(np.mean([score for score in scores.values() if score is not None]))


def cross_validate(rung: Rung, samples: Samples, folds: Folds) -> dict[int, float | None]:
    """F1 of each AU over the predictions of all folds; no subject is both learned from and tested."""
    probability = np.zeros(samples.occurs.shape)
    for _, tested in folds:
        test = np.isin(samples.subject, tested)
        probability[test] = rung(samples, test)
    return f1_per_au(probability, samples.occurs)


def ladder(
    config: SynthConfig, every: int = 1, workers: int = 1, network: bool = False
) -> dict[str, dict[int, float | None]]:
    """Rung -> AU -> F1, subject-exclusive in three folds; with the network ten minutes of a CPU longer."""
    samples, folds = draw_samples(config, every, workers), SynthFaces(config).folds(_FOLDS)
    found = {name: cross_validate(rung, samples, folds) for name, rung in rungs().items()}
    if network:
        from data_pipelines.synthetic.small_cnn import small_cnn  # JAX takes seconds to import

        found[NETWORK] = cross_validate(small_cnn, samples, folds)
    return found


def table(scores: dict[str, dict[int, float | None]]) -> str:
    """The ladder as text, a rung a line."""
    width = max(map(len, scores)) + 2
    lines = ["synthetic F1".ljust(width) + "".join(f"{f'AU{au}':>6}" for au in AUS) + "  mean"]
    for name, per_au in scores.items():
        cells = "".join("     -" if score is None else f"{score:6.2f}" for score in per_au.values())
        lines.append(name.ljust(width) + cells + f"{mean_f1(per_au):6.3f}")
    return "\n".join(lines)
