"""What a network must beat: pixels and logistic regression, on the same subjects."""

from collections.abc import Iterable, Mapping

import cv2
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

_SIDE = 48  # pixels of the grey picture
_COMPONENTS = 80
_MAX_FRAMES = 10_000


def pixels_logistic_regression(
    train: Iterable[Mapping[str, np.ndarray]], test: Iterable[Mapping[str, np.ndarray]]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Principal components of grey pixels, then one balanced logistic regression per AU.

    Args:
      train: batches of the view ``frames``, whose unmasked frames are learned from, evenly thinned to at most
        10,000.
      test: batches to predict.

    Returns:
      Probability (n, k) for the unmasked frames of ``test`` (.5 for an AU that the training frames show in
      one state only), and their ``au``, ``au_mask`` and ``subject``.
    """
    learned, predicted = _collect(train), _collect(test)
    every = -(-len(learned["pixels"]) // _MAX_FRAMES)
    learned = {name: value[::every] for name, value in learned.items()}
    components = min(_COMPONENTS, len(learned["pixels"]))
    reduce = PCA(components, whiten=True, random_state=0)
    x, x_test = reduce.fit_transform(learned["pixels"]), reduce.transform(predicted["pixels"])
    probability = np.full(predicted["au"].shape, 0.5)
    for column, coded in enumerate(learned["au_mask"].T):
        y = learned["au"][coded, column]
        if len(np.unique(y)) == 2:
            model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=300)
            probability[:, column] = model.fit(x[coded], y).predict_proba(x_test)[:, 1]
    return probability, {name: predicted[name] for name in ("au", "au_mask", "subject")}


def _collect(batches: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    fields: dict[str, list[np.ndarray]] = {"pixels": [], "au": [], "au_mask": [], "subject": []}
    for batch in batches:
        keep = batch["mask"]
        fields["pixels"].append(np.stack([_pixels(image) for image in batch["image"][keep]]))
        for name in ("au", "au_mask", "subject"):
            fields[name].append(batch[name][keep])
    return {name: np.concatenate(values) for name, values in fields.items()}


def _pixels(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    flat = grey.reshape(-1).astype(np.float32) / 255
    return flat - flat.mean()
