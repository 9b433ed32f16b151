"""synth-1.0 is frozen: the same seeds give these labels and landmarks; a change makes another version."""

import hashlib

import numpy as np

from data_pipelines.synthetic import SynthConfig, SynthFaces
from data_pipelines.synthetic.person import GENERATOR_VERSION

LABELS = "5df362b046c5092ad6dae54e771bb5f9c1749d227e2f3242df99b0be4add00dd"
# Right outer and left outer eye corner, tip of the nose, corners of the mouth, chin.
POINTS = (36, 45, 30, 48, 54, 8)
LANDMARKS = {
    (4, 1, 33): [
        (31.869, 53.398),
        (71.634, 63.326),
        (41.730, 77.800),
        (34.746, 81.572),
        (63.862, 90.860),
        (44.477, 118.500),
    ],
    (19, 2, 60): [
        (39.685, 68.518),
        (91.997, 66.971),
        (67.201, 92.779),
        (50.211, 103.959),
        (81.693, 102.971),
        (66.333, 130.128),
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
