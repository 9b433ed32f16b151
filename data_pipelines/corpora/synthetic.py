"""The synthetic faces as a corpus: rendered, aligned and labelled from `data_pipelines.synthetic`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_pipelines import records
from data_pipelines.parts import Laps, Part
from data_pipelines.preparation import Corpus
from data_pipelines.synthetic import Frame, SynthConfig, SynthFaces
from data_pipelines.synthetic.faces import OCCURRENCE
from data_pipelines.synthetic.person import GENERATOR_VERSION
from jaxau import facs
from jaxau.faces.align import align, check_alignment, transform_points

_LANDMARKS = 98
_FOLDS = 3


def corpus(config: SynthConfig, alignment: str) -> Corpus:
    """Everything that `data_pipelines.preparation.prepare` needs to write these faces.

    Args:
      config: of the generator.
      alignment: a name in `jaxau.faces.align.ALIGNMENTS`.

    Raises:
      ValueError: unknown alignment, or fewer subjects than folds.
    """
    check_alignment(alignment)
    names = [f"S{subject:03d}" for subject in range(config.shape.subjects)]
    if config.tier == "large":
        raise ValueError(
            "tier 'large' is drawn while training (SynthFaces.stream), not stored; choose a smaller one"
        )
    faces = SynthFaces(config)
    folds = faces.folds(_FOLDS)
    parameters = {**dataclasses.asdict(config), "generator": GENERATOR_VERSION}
    return Corpus(
        name="synthetic",
        request={**parameters, "alignment": alignment},
        subjects=names,
        make=make_part,
        manifest={
            "synthetic": True,
            "description": (
                f"synthetic faces ({GENERATOR_VERSION}, profile {config.profile}, "
                f"nuisance {config.nuisance:g}, seed {config.seed})"
            ),
            "licence": "drawn by this program: no restrictions",
            "generator": parameters,
            "fps": config.shape.fps,
            "aus": list(facs.SYNTHETIC_AUS),
            "label_rule": {"min_intensity": OCCURRENCE},
            "landmarks": _LANDMARKS,
            "alignment": alignment,
            "folds": {"synthetic-3fold": [[names[i] for i in test] for _, test in folds]},
            "attributes": {name: faces.attributes(i) for i, name in enumerate(names)},
        },
    )


def make_part(request: Mapping[str, Any], subject: int) -> Part:
    """Draw and align all frames of one person."""
    fields = [field.name for field in dataclasses.fields(SynthConfig)]
    config = SynthConfig(**{name: request[name] for name in fields})
    faces, laps, frames = SynthFaces(config), Laps(), []
    for clip in range(config.shape.clips):
        drawn = faces.clip(subject, clip)
        laps.lap("drawing")
        frames += [_aligned(frame, request["alignment"], laps) for frame in drawn]
    images, landmarks, intensity, video, number = zip(*frames, strict=True)
    return Part(
        list(images),
        np.stack(landmarks).astype(np.float32),
        np.stack(intensity),
        np.array(video, np.int32),
        np.array(number, np.int32),
        seconds=laps.seconds,
    )


def _aligned(frame: Frame, alignment: str, laps: Laps) -> tuple[bytes, np.ndarray, np.ndarray, int, int]:
    crop, matrix = align(frame.image, frame.lm98, alignment)
    laps.lap("alignment")
    jpeg = records.encode(crop)
    laps.lap("JPEG")
    return jpeg, transform_points(frame.lm98, matrix), frame.coded, frame.clip, frame.t
