"""The baseline of pixels + logistic regression learns what pixels show, and no more."""

import numpy as np

from jaxau.baselines import pixels_logistic_regression


def _batch(rng, n, padding=0):
    """AU 0 is a bright upper half, AU 1 is a coin toss, AU 2 never occurs."""
    au = np.stack([rng.integers(0, 2, n), rng.integers(0, 2, n), np.zeros(n, int)], 1)
    image = rng.integers(80, 120, (n, 64, 64, 3)).astype(np.uint8)
    image[:, :32] += (40 * au[:, 0, None, None, None]).astype(np.uint8)
    mask = np.arange(n) < n - padding
    au_mask = np.ones((n, 3), bool)
    return {"image": image, "au": au, "au_mask": au_mask, "subject": np.arange(n), "mask": mask}


def test_learns_pixels_and_drops_padding():
    rng = np.random.default_rng(0)
    train, test = [_batch(rng, 60) for _ in range(3)], [_batch(rng, 40), _batch(rng, 40, padding=15)]
    test[1]["au"][-15:, 0] = 9  # must never be read
    probability, found = pixels_logistic_regression(train, test)
    assert probability.shape == found["au"].shape == (65, 3)
    right = ((probability >= 0.5) == found["au"]).mean(0)
    assert right[0] > 0.98 and 0.3 < right[1] < 0.7
    assert (probability[:, 2] == 0.5).all()


def test_uncoded_labels_are_not_learned():
    rng = np.random.default_rng(1)
    train, test = [_batch(rng, 120)], [_batch(rng, 60)]
    wrong = rng.random(120) < 0.5
    train[0]["au"][wrong, 0] = 1 - train[0]["au"][wrong, 0]
    train[0]["au_mask"][wrong, 0] = False
    probability, found = pixels_logistic_regression(train, test)
    assert ((probability[:, 0] >= 0.5) == found["au"][:, 0]).mean() > 0.95
