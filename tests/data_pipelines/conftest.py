"""A prepared data set of flat pictures, whose contents tests know in closed form."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

from data_pipelines.parts import Part
from data_pipelines.preparation import Corpus, prepare
from jaxau.config import Augment, Config, DataConfig, Stage

AUS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 18, 20, 23, 24, 25, 26, 27, 43)
SUBJECTS = [f"P{i}" for i in range(9)]
VIDEOS, FRAMES = 2, 24
UNCODED = (0, 0, 3, AUS.index(12))  # subject, video, position, column
NO_LANDMARKS = (1, 1, 5)  # subject, video, position


def flat_part(request: Mapping[str, Any], subject: int) -> Part:
    """Frame i of video v: grey level, landmarks and labels that follow from (subject, v, i)."""
    n = VIDEOS * FRAMES
    video, position = np.divmod(np.arange(n), FRAMES)
    levels = (subject * 20 + video * 10 + position * 3) % 256
    images = [simplejpeg.encode_jpeg(np.full((256, 256, 3), level, np.uint8), quality=95) for level in levels]
    # Numbers jump by 10 in the middle of subject 2's first video: a gap.
    frame = position + 10 * ((subject == 2) & (video == 0) & (position >= 11))
    intensity = (np.arange(n)[:, None] + np.arange(len(AUS)) + subject) % 6 * 0.75
    face = np.random.default_rng(0).uniform(40, 210, (98, 2))
    landmarks = face + position[:, None, None] / 2 + subject
    if subject == UNCODED[0]:
        intensity[UNCODED[1] * FRAMES + UNCODED[2], UNCODED[3]] = np.nan
    if subject == NO_LANDMARKS[0]:
        landmarks[NO_LANDMARKS[1] * FRAMES + NO_LANDMARKS[2]] = np.nan
    return Part(
        images,
        landmarks.astype(np.float32),
        intensity.astype(np.float32),
        video.astype(np.int32),
        frame.astype(np.int32),
    )


def flat_corpus(**request: Any) -> Corpus:
    return Corpus(
        name="synthetic",
        request={"level": 1, **request},
        subjects=SUBJECTS,
        make=flat_part,
        manifest={
            "synthetic": True,
            "description": "flat pictures",
            "licence": "none",
            "generator": "test",
            "fps": 8,
            "aus": list(AUS),
            "label_rule": {"min_intensity": 1.5},
            "landmarks": 98,
            "alignment": "jaa256",
            "folds": {"synthetic-3fold": [SUBJECTS[:3], SUBJECTS[3:6], SUBJECTS[6:]]},
        },
    )


@pytest.fixture(scope="session")
def flat_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the data set of `flat_corpus`; not to be changed."""
    folder = tmp_path_factory.mktemp("flat_faces")
    prepare(flat_corpus(), folder, workers=1)
    return folder


@pytest.fixture
def new_flat_faces(flat_faces: Path, tmp_path: Path) -> Path:
    """A copy of `flat_faces` that a test may damage."""
    shutil.copytree(flat_faces, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture(scope="session")
def flat_config() -> Config:
    return Config(
        name="lac",
        seed=3,
        data=DataConfig(
            corpus="synthetic",
            aus=(12, 1, 43, 17),
            protocol="synthetic-3fold",
            fold=1,
            image_size=32,
            inner_fraction=0.34,
            clip_length=5,
            subsequences=3,
        ),
        stages={
            "stills": Stage("frames", epochs=2, batch_size=6, augment=Augment(0.5, 0.3, 40)),
            "sequences": Stage("clips", epochs=2, batch_size=4, augment=Augment(0.5, 0.3, 0)),
        },
    )


@pytest.fixture(scope="session")
def make_flat_corpus():
    return flat_corpus


@pytest.fixture
def truncated(tmp_path: Path) -> Path:
    """The flat faces, where the JPEG of record 5 ends in its middle and that of 50 is small."""

    def make(request: Mapping[str, Any], subject: int) -> Part:
        part = flat_part(request, subject)
        if subject == 0:
            part.images[5] = part.images[5][: len(part.images[5]) // 2]
        if subject == 1:
            part.images[2] = simplejpeg.encode_jpeg(np.zeros((64, 64, 3), np.uint8))
        return part

    prepare(dataclasses.replace(flat_corpus(), make=make), tmp_path, workers=1)
    return tmp_path
