"""What a run on synthetic faces leans on that is not the AU.

    python -m launch.shortcuts --workdir=runs/lac --data_dir=data

Scores the run, if that is not done; draws its people once more with every AU on its own (profile "factorial",
one clip each, into ``<data_dir>/factorial``; a second time this is skipped), scores the test subjects there;
and compares groups of test frames by skin tone, age, sex, glasses and pose. Writes ``shortcuts.json`` and
``shortcuts.md`` beside the scores.
"""

import dataclasses
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from data_pipelines import records
from data_pipelines.corpora import synthetic
from data_pipelines.loader import make_data
from data_pipelines.preparation import prepare
from data_pipelines.synthetic import SynthConfig, SynthFaces
from jaxau import checkpoint, files, shortcuts
from jaxau.evaluate import Predictions
from jaxau.report import shortcuts as text
from launch import command

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the prepared data sets.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_WORKERS = flags.DEFINE_integer("workers", 0, "processes that draw; 0 = all cores", lower_bound=0)
_JSON = flags.DEFINE_bool("json", False, "one JSON object on standard output")


def main() -> None:
    """Examine the run, write the report, print it."""
    workdir, data_dir = Path(_WORKDIR.value), Path(_DATA_DIR.value)
    trained_on = checkpoint.read_info(workdir)["corpus"]
    if trained_on != "synthetic":
        raise ValueError(
            f"{workdir} was trained on {trained_on}: shortcuts are known of synthetic faces only; "
            "launch.evaluate compares groups of subjects of other corpora"
        )
    manifest = records.read_manifest(data_dir, trained_on)
    drawn = _config(manifest)
    if drawn.profile == "factorial":
        raise ValueError(
            f"{data_dir}/{trained_on} has the profile factorial already: train on one in which AUs occur "
            "together, such as balanced"
        )
    alone = dataclasses.replace(drawn, profile="factorial", clips=1)
    prepare(synthetic.corpus(alone, manifest["alignment"]), data_dir / "factorial", _WORKERS.value)
    path = shortcuts.examine(
        workdir,
        partial(make_data, data_dir=data_dir),
        partial(make_data, data_dir=data_dir / "factorial"),
        partial(_yaw, SynthFaces(drawn)),
    )
    report = files.read_json(path)
    path.with_suffix(".md").write_text(text.markdown(report), encoding="utf-8")
    print(json.dumps(report) if _JSON.value else f"{text.print_report(report)}\nreport: {path}")


def _config(manifest: Mapping[str, Any]) -> SynthConfig:
    """What the faces of a data set were drawn with."""
    names = {field.name for field in dataclasses.fields(SynthConfig)}
    return SynthConfig(**{name: value for name, value in manifest["generator"].items() if name in names})


def _yaw(faces: SynthFaces, found: Predictions) -> np.ndarray:
    """(n,) degrees, as the frames were drawn."""
    yaw = np.empty(len(found["frame"]))
    for subject, clip in np.unique(np.stack([found["subject"], found["video"]], 1), axis=0):
        rows = (found["subject"] == subject) & (found["video"] == clip)
        yaw[rows] = faces.poses(int(subject), int(clip))[found["frame"][rows], 0]
    return yaw


if __name__ == "__main__":
    command.run(main)
