"""Landmarks and labels of synthetic faces that are not drawn, which is quick."""

import numpy as np

from data_pipelines.synthetic import SynthConfig, SynthFaces
from data_pipelines.synthetic.faces import OCCURRENCE
from data_pipelines.synthetic.ladder import AUS, Samples
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.camera import Camera, rotation
from jaxau.morphable.grid import sample
from jaxau.morphable.landmarks import LANDMARKS_68


def exact_landmarks(config: SynthConfig, every: int = 4) -> Samples:
    """Every so-manieth frame of all clips, without pictures and in the middle of the camera."""
    faces = SynthFaces(config)
    points, labels, numbers = [], [], []
    for subject in range(config.shape.subjects):
        person = faces.person(subject)
        for clip in range(config.shape.clips):
            state = faces._clip(subject, clip)
            for t in range(0, config.shape.frames, every):
                camera = Camera(128, rotation(*state.moments.poses[t]))
                skin = person.shape.vertices(person.weights(state.drive[t]), state.scene.asymmetry)
                points.append(camera.project(sample(skin, LANDMARKS_68).astype(float))[0])
                labels.append(state.labels[t])
                numbers.append((subject, clip))
    shown, (people, clips) = np.array(labels), np.array(numbers).T
    occurs = shown[:, [SYNTHETIC_AUS.index(au) for au in AUS]] >= OCCURRENCE
    none = np.zeros(len(shown))
    return Samples(none, np.array(points, np.float32), occurs, shown, people, clips, none)
