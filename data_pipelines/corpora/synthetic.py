"""The synthetic faces as a corpus: rendered, aligned and labelled from `data_pipelines.synthetic`."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds

from data_pipelines import records
from data_pipelines.preparation import Corpus, Part
from data_pipelines.synthetic import Frame, SynthConfig, SynthFaces
from data_pipelines.synthetic.faces import OCCURRENCE
from data_pipelines.synthetic.person import GENERATOR_VERSION
from jaxau import facs
from jaxau.faces.align import align, check_alignment, transform_points

_JPEG_QUALITY = 95
_LANDMARKS = 98
_FOLDS = 3


class Synthetic(tfds.core.GeneratorBasedBuilder):
    """Aligned synthetic faces on ArrayRecord, in order of subject, video and frame."""

    VERSION = tfds.core.Version("1.0.0")
    name = "synthetic"

    def __init__(self, alignment: str, data_dir: Path, parts: Callable[[], Iterator[Part]]):
        self._alignment, self._parts = alignment, parts
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=records.features(self._alignment, _LANDMARKS, len(facs.SYNTHETIC_AUS)),
            disable_shuffling=True,  # a video's frames stay contiguous
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {records.SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        index = 0
        for subject, part in enumerate(self._parts()):
            for i, image in enumerate(part.images):
                yield (
                    index,
                    {
                        "image": image,
                        "landmarks": part.landmarks[i],
                        "au_intensity": part.intensity[i],
                        "subject": subject,
                        "video": part.video[i],
                        "frame": part.frame[i],
                    },
                )
                index += 1


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
    folds = SynthFaces(config).folds(_FOLDS)
    parameters = {**dataclasses.asdict(config), "generator": GENERATOR_VERSION}
    return Corpus(
        name=Synthetic.name,
        request={**parameters, "alignment": alignment},
        subjects=names,
        make=make_part,
        builder=partial(Synthetic, alignment),
        manifest={
            "synthetic": True,
            "description": (
                f"synthetic faces ({GENERATOR_VERSION}, profile {config.profile}, "
                f"nuisance {config.nuisance:g}, seed {config.seed})"
            ),
            "licence": "drawn by this program: no restrictions",
            "generator": parameters,
            "fps": config.fps,
            "aus": list(facs.SYNTHETIC_AUS),
            "label_rule": {"min_intensity": OCCURRENCE},
            "landmarks": _LANDMARKS,
            "alignment": alignment,
            "excluded": [],
            "folds": {"synthetic-3fold": [[names[i] for i in test] for _, test in folds]},
        },
    )


def make_part(request: Mapping[str, Any], subject: int) -> Part:
    """Draw and align all frames of one person."""
    fields = [field.name for field in dataclasses.fields(SynthConfig)]
    config = SynthConfig(**{name: request[name] for name in fields})
    faces = SynthFaces(config)
    frames = [
        _aligned(frame, request["alignment"])
        for clip in range(config.shape.clips)
        for frame in faces.clip(subject, clip)
    ]
    images, landmarks, intensity, video, number = zip(*frames, strict=True)
    return Part(
        list(images),
        np.stack(landmarks).astype(np.float32),
        np.stack(intensity),
        np.array(video, np.int32),
        np.array(number, np.int32),
    )


def _aligned(frame: Frame, alignment: str) -> tuple[bytes, np.ndarray, np.ndarray, int, int]:
    crop, matrix = align(frame.image, frame.lm98, alignment)
    jpeg = simplejpeg.encode_jpeg(crop, quality=_JPEG_QUALITY)
    return jpeg, transform_points(frame.lm98, matrix), frame.au, frame.clip, frame.t
