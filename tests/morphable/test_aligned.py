"""Mirrored landmarks of aligned faces."""

import numpy as np

from jaxau.morphable.aligned import mirrored


def test_a_mirrored_face_changes_sides_about_the_middle_of_its_pixels() -> None:
    landmarks = np.random.default_rng(0).uniform(0, 199, (2, 68, 2))
    landmarks[1, 36] = np.nan
    other = mirrored(landmarks, "jaa200")
    right_eye, left_eye, chin = landmarks[0, 36], landmarks[0, 45], landmarks[0, 8]
    np.testing.assert_array_equal(other[0, 45], [199 - right_eye[0], right_eye[1]])
    np.testing.assert_array_equal(other[0, 36], [199 - left_eye[0], left_eye[1]])
    np.testing.assert_array_equal(other[0, 8], [199 - chin[0], chin[1]])
    assert np.isnan(other[1, 45]).all() and np.isnan(other).sum() == 2
    np.testing.assert_allclose(mirrored(other, "jaa200"), landmarks)
