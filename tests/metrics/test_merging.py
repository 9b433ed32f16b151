"""Counts summed over batches, and over batches split over eight simulated devices, equal one pass."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from predicted_frames import BATCH, FRAMES, SUBJECTS, batches

from jaxau import metrics

AUS = (1, 4, 12, 25)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """Predictions of the same network on 1 and on 8 devices."""
    folder, found = tmp_path_factory.mktemp("predicted"), {}
    for devices in (1, 8):
        flags = f"--xla_force_host_platform_device_count={devices}"
        script = Path(__file__).parents[1] / "predicted_frames.py"
        done = subprocess.run(
            [sys.executable, str(script), str(folder / f"{devices}.npz")],
            env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        found[devices] = dict(np.load(folder / f"{devices}.npz"))
    return found


def counts(part):
    truth, mask = part["truth"].astype(bool), part["mask"].astype(bool)
    threshold = np.round(np.median(part["probability"], axis=0), 2)  # both classes are predicted
    return metrics.subject_counts(part["probability"], truth, mask, threshold, part["subject"])[1]


def test_eight_devices_predict_and_count_as_one(predicted):
    one, eight = predicted[1], predicted[8]
    assert (one["devices"], eight["devices"]) == (1, 8)
    assert len(one["truth"]) == FRAMES, "padding is a prediction"
    given = batches()
    for name, key in (("truth", "au"), ("mask", "au_mask"), ("subject", "subject"), ("frame", "frame")):
        expected = np.concatenate([batch[key] for batch in given])[:FRAMES]
        for found in (one, eight):
            np.testing.assert_array_equal(found[name], expected)
    assert np.ptp(one["probability"], axis=0).min() > 0.01
    np.testing.assert_allclose(eight["probability"], one["probability"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(counts(eight), counts(one))
    assert (counts(one).sum(axis=0) > 0).sum() > 12, "most cells of the four AUs are filled"


def test_counts_of_batches_add_up_and_score_the_same(predicted):
    one = {name: value for name, value in predicted[8].items() if name != "devices"}
    threshold = np.round(np.median(one["probability"], axis=0), 2)
    truth, mask = one["truth"].astype(bool), one["mask"].astype(bool)
    merged = np.zeros((SUBJECTS, 4, 4), int)
    for start in range(0, FRAMES, BATCH):
        part = slice(start, start + BATCH)
        arrays = (one["probability"][part], truth[part], mask[part], threshold, one["subject"][part])
        names, of_batch = metrics.subject_counts(*arrays)
        merged[names] += of_batch
    arrays = (one["probability"], truth, mask, threshold, one["subject"])
    np.testing.assert_array_equal(merged, metrics.subject_counts(*arrays)[1])
    score = metrics.score(*arrays, AUS, bootstrap=0)
    rates = metrics.rates_from_counts(merged.sum(axis=0))
    for column, row in enumerate(score["per_au"]):
        for name, values in rates.items():
            assert row[name] == pytest.approx(values[column], abs=1e-12)
