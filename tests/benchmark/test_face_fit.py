"""The benchmark of the fit: SciPy's residuals are the energy, rounds add up, and the truth is compared."""

import dataclasses

import numpy as np
import pytest

from jaxau.benchmark import face_fit
from jaxau.benchmark.face_fit import FOCAL, SIZE
from jaxau.morphable import fit as fitting
from jaxau.morphable.linear_model import built_in


def test_residuals_are_those_of_the_energy():
    known = face_fit.known_faces(2, noise=1)
    found = fitting.fit(built_in(), known.landmarks, SIZE, FOCAL)
    arrays, factors, unit, middle = fitting.normalize(built_in(), 68)
    for i, face in enumerate((known.landmarks - (SIZE - 1) / 2) * [1, -1] / (SIZE / 2)):
        shift = (found.translation[i] + found.rotation[i] @ middle) / unit
        x = np.concatenate(
            [np.zeros(3), shift, np.concatenate([found.shape[i], found.expression[i]]) / factors]
        )
        residuals = face_fit.Residuals(arrays, face, found.rotation[i], FOCAL / (SIZE / 2))(x)
        assert residuals.shape == (2 * 68 + 27 + 51,)
        assert np.square(residuals).sum() == pytest.approx(found.energy[i], rel=1e-6)


def test_every_face_is_fitted_by_scipy_once(monkeypatch):
    asked = []

    def energies(model, landmarks, method):
        asked.append((method, len(landmarks)))
        return np.full(len(landmarks), 1e-9 if method == "lm" else 1e9)

    monkeypatch.setattr(face_fit, "scipy_energies", energies)
    row = face_fit.measure_fit(4, 0.0, rounds=2, turn=1)
    assert asked == [("trf", 2), ("lm", 2)] * 2
    assert row["trf"]["as_low"] == 4 and row["lm"]["as_low"] == 0 and row["lm"]["speed_ratio"]["n"] == 2
    assert row["faces_per_second"]["n"] == 4 and row["faces"] == 4


def test_pose_and_coefficients_are_compared_with_the_truth():
    known = face_fit.rendered_faces(12, 68)
    row = face_fit.measure_accuracy(known, True, 0.0)
    assert row["within_a_degree"] == 1 and row["most_degrees"] < 1 and row["correlation_of"]["AU02"] > 0.9
    assert row["landmarks"] == 68 and row["correlation"]["n"] <= 48  # jaw and cheeks do not move
    turned = dataclasses.replace(known, pose=known.pose + [0, 5, 0], expression=-known.expression)
    other = face_fit.measure_accuracy(turned, True, 0.0)
    assert other["within_a_degree"] == 0 and other["pose_degrees"]["median"] == pytest.approx(5, abs=1)
    assert other["correlation_of"]["AU02"] == pytest.approx(-row["correlation_of"]["AU02"], abs=0.05)
