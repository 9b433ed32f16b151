"""synth-1.0 is frozen: the same seeds give these labels and landmarks; a change makes another version."""

import hashlib

import numpy as np

from data_pipelines.synthetic import SynthConfig, SynthFaces
from data_pipelines.synthetic.person import GENERATOR_VERSION

LABELS = "0ba29200679027e34abd31c8fd948c993f4a8cafec121c6efc11a6cc76943b25"
# Right outer and left outer eye corner, tip of the nose, corners of the mouth, chin.
POINTS = (36, 45, 30, 48, 54, 8)
LANDMARKS = {
    (4, 1, 33): [
        (43.785, 45.387),
        (94.469, 47.021),
        (71.990, 63.083),
        (49.840, 81.247),
        (86.306, 82.429),
        (68.709, 119.811),
    ],
    (19, 2, 60): [
        (51.870, 43.952),
        (101.614, 44.612),
        (87.530, 61.595),
        (65.759, 86.229),
        (95.697, 85.656),
        (84.875, 117.987),
    ],
}


def test_integer_labels_and_landmarks_are_those_of_the_version() -> None:
    assert GENERATOR_VERSION == "synth-1.0"
    faces = SynthFaces(SynthConfig(tier="small"))
    digest = hashlib.sha256()
    for subject in range(0, 27, 3):
        for clip in range(3):
            digest.update(np.floor(faces.labels(subject, clip) + 0.5).astype(np.int8).tobytes())
    assert digest.hexdigest() == LABELS
    for place, points in LANDMARKS.items():
        np.testing.assert_allclose(faces.frame(*place).lm68[list(POINTS)], points, atol=2e-3)  # pixels
