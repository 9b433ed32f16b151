"""From a corpus to records, once and offline; the same command again goes on where it was stopped.

python -m launch.prepare --corpus=synthetic --data_dir=data --tier=small --nuisance=0.5
python -m launch.prepare --corpus=disfa --raw_dir=DISFA --data_dir=data
python -m launch.prepare --corpus=folder --raw_dir=mine --data_dir=data --detector=yunet
    --detector_weights=FILE
python -m launch.prepare --corpus=bp4d --raw_dir=BP4D --check [--labels_only]   # before any work
python -m launch.prepare --corpus=bp4d --data_dir=data --check                  # afterwards, of the records
python -m launch.prepare --corpus=bp4d --raw_dir=BP4D --data_dir=data --beam="--runner=DirectRunner"
python -m launch.prepare --protocols [--json] [--data_dir=data]
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from data_pipelines import corpora, doctor, expressions, protocols, records
from data_pipelines.corpora import synthetic
from data_pipelines.face_source import FaceSource
from data_pipelines.preparation import Corpus, prepare
from data_pipelines.synthetic import SynthConfig
from jaxau.faces.align import ALIGNMENTS
from jaxau.morphable.model_files import read_model
from launch import command

FLAGS = flags.FLAGS
_SYNTHETIC = (
    "tier", "subjects", "clips", "frames", "size", "fps", "nuisance", "profile", "seed", "scale", "style",
    "annotator",
)  # fmt: skip
_MOST_REASONS = 20

flags.DEFINE_enum("corpus", None, [*corpora.NAMES, "synthetic"], "what to prepare")
flags.DEFINE_string("raw_dir", None, "the corpus as its owner ships it; synthetic needs none")
flags.DEFINE_bool("lists", False, "--raw_dir holds list files (*_path.txt, *_AUoccur.txt, *_land.txt)")
flags.DEFINE_enum("detector", None, ["yunet", "dlib"], "find faces, in place of the corpus's own landmarks")
flags.DEFINE_string("detector_weights", None, "YuNet's ONNX file, or dlib's shape predictor of 68 points")
flags.DEFINE_string("landmarks", None, "CSV table of landmarks, in place of the corpus's own")
flags.DEFINE_bool(
    "only_missing", False, "--detector or --landmarks only align where the corpus has no landmarks"
)
flags.DEFINE_float("min_intensity", None, "folder: an AU occurs from this intensity on (2)")
flags.DEFINE_string("data_dir", None, "folder of all data sets; this one becomes DATA_DIR/CORPUS")
flags.DEFINE_enum("alignment", "jaa256", sorted(ALIGNMENTS), "how faces are cut out")
flags.DEFINE_integer("workers", 0, "processes; 0 = all cores", lower_bound=0)
flags.DEFINE_string("beam", None, "make the parts on Apache Beam, with these options (docs/beam.md)")
flags.DEFINE_bool("fit_3dmm", False, "fit a face model to the landmarks, for GLEE-Net (also afterwards)")
flags.DEFINE_string(
    "face_model", None, "--fit_3dmm: .npz, BFM's .h5 or ICT-FaceKit's folder, not the built-in"
)
flags.DEFINE_string(
    "face_model_landmarks", None, "text file of 68 vertices, where the model does not say them"
)
flags.DEFINE_bool("check", False, "with --raw_dir: examine the corpus; else: the records and their manifest")
flags.DEFINE_bool("labels_only", False, "with --check --raw_dir: do not look at pictures and landmarks")
flags.DEFINE_bool("go_on", False, "with --check: totals that are not the published ones are no error")
flags.DEFINE_bool("protocols", False, "list protocols with subjects and frames per fold")
flags.DEFINE_bool("json", False, "with --protocols: one JSON object")

flags.DEFINE_string("tier", "small", "synthetic: preset of subjects, clips, frames and size")
flags.DEFINE_integer("subjects", None, "synthetic: people, in place of the tier's")
flags.DEFINE_integer("clips", None, "synthetic: clips of each, in place of the tier's")
flags.DEFINE_integer("frames", None, "synthetic: frames of each clip, in place of the tier's")
flags.DEFINE_integer("size", None, "synthetic: side of the rendered picture in pixels")
flags.DEFINE_float("fps", None, "synthetic: frames per second")
flags.DEFINE_float("nuisance", None, "synthetic: pose, light, blur ...: 0 laboratory to 2 hard")
flags.DEFINE_string("profile", None, "synthetic: which AUs occur how often and together")
flags.DEFINE_integer("seed", None, "synthetic: of people and expressions")
flags.DEFINE_string("scale", None, "synthetic: what an intensity means: linear, or facs's unequal letters")
flags.DEFINE_string("style", None, "synthetic: spontaneous or posed expressions")
flags.DEFINE_bool("annotator", False, "synthetic: labels with the errors of human coders")


def _list_protocols() -> None:
    listed = protocols.describe(records.manifests(FLAGS.data_dir) if FLAGS.data_dir else {})
    if FLAGS.json:
        print(json.dumps({"protocols": listed}))
        return
    for protocol in listed:
        print(f"{protocol['protocol']} ({protocol['corpus']})")
        for fold in protocol["folds"]:
            counts = (f"{count['test']:,} ({rule})" for rule, count in fold["frames"].items())
            frames = ", ".join(counts) or "an unknown number of"
            print(
                f"  fold {fold['fold']}: test {len(fold['test'])} subjects, {frames} frames: "
                f"{' '.join(fold['test'])}"
            )


def main() -> None:
    """Prepare a corpus, check one, or list the protocols."""
    if FLAGS.protocols:
        _list_protocols()
        return
    if FLAGS.check and FLAGS.corpus:
        _check()
        return
    if not FLAGS.corpus or not FLAGS.data_dir:
        raise ValueError("--corpus and --data_dir: give both, or --protocols")
    if FLAGS.beam is not None and FLAGS.workers:
        raise ValueError("--beam and --workers: give one; Beam's options say how many workers it has")
    if FLAGS.face_model and not FLAGS.fit_3dmm:
        raise ValueError("--face_model: only with --fit_3dmm; give both")
    model = read_model(FLAGS.face_model, FLAGS.face_model_landmarks) if FLAGS.face_model else None
    seconds, began = Counter[str](), time.perf_counter()
    made = not _is_only_fitted() and prepare(_corpus(), FLAGS.data_dir, FLAGS.workers, FLAGS.beam, seconds)
    manifest = records.read_manifest(FLAGS.data_dir, FLAGS.corpus)
    counts = manifest["counts"]
    print(
        f"{FLAGS.data_dir}/{FLAGS.corpus}: {'prepared' if made else 'nothing to do, it holds'} "
        f"{counts['records']} frames of {counts['videos']} videos of {counts['subjects']} subjects"
    )
    if made:
        stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items())
        print(f"{time.perf_counter() - began:.1f} s; seconds of all processes together: {stages}")
    _warn(manifest)
    if FLAGS.fit_3dmm:
        about = expressions.fit_records(FLAGS.data_dir, FLAGS.corpus, model)
        print(f"expressions of {about['fitted']} faces, face model {about['model']}")
        for reason, count in about["absent"].items():
            print(f"warning: without expression: {count} ({reason})", file=sys.stderr)


def _is_only_fitted() -> bool:
    """Whether --fit_3dmm is asked of a data set that is there, and nothing else."""
    there = (Path(FLAGS.data_dir) / FLAGS.corpus / records.MANIFEST).is_file()
    return (
        FLAGS.fit_3dmm and there and not FLAGS.raw_dir and not any(FLAGS[name].present for name in _SYNTHETIC)
    )


def _check() -> None:
    """The doctor: of the corpus, or of the records that were made of it."""
    if idle := [name for name in _SYNTHETIC if FLAGS[name].present]:
        raise ValueError(f"--check with --{', --'.join(idle)}: it reads what is there; leave them away")
    if FLAGS.raw_dir:
        found = doctor.examine(_corpus(), Path(FLAGS.raw_dir), FLAGS.labels_only, FLAGS.workers)
        what = FLAGS.raw_dir
    elif FLAGS.data_dir:
        if damaged := records.check(FLAGS.data_dir, FLAGS.corpus):
            raise ValueError("\n".join(damaged))
        what = f"{FLAGS.data_dir}/{FLAGS.corpus}"
        print(f"{what}: records and manifest agree")
        found = doctor.of_manifest(records.read_manifest(FLAGS.data_dir, FLAGS.corpus))
    else:
        raise ValueError("--check: give --raw_dir (the corpus) or --data_dir (the records)")
    _say(found.remarks)
    survey, problems = found.survey, found.problems
    frames = sum(subject["records"] for subject in survey["subjects"])
    print(
        f"{what}: {frames:,} frames of {len(survey['videos'])} videos of {len(survey['subjects'])} subjects"
    )
    _print_rates(survey)
    if problems and not FLAGS.go_on:
        raise ValueError("\n".join([*problems, "(--go_on: say this and end with status 0)"]))
    for line in problems:
        print(f"warning: {line}", file=sys.stderr)


def _print_rates(survey: Mapping[str, Any]) -> None:
    for column, au in enumerate(survey["aus"]):
        coded = sum(subject["coded"][column] for subject in survey["subjects"] if subject["records"])
        occurs = sum(subject["occurs"][column] for subject in survey["subjects"] if subject["records"])
        rate = f"{100 * occurs / coded:5.1f} % of" if coded else "never coded,"
        print(f"  AU{au:<3d} {rate} {coded:,} coded frames")
    for name, count in zip(survey.get("emotions", ()), survey.get("emotion_counts", ()), strict=False):
        print(f"  {name} {count:,}")
    for name, rows in survey.get("triplets", {}).items():
        print(f"  {len(rows):,} triplets of {name}")


def _corpus() -> Corpus:
    """The corpus that the flags describe; flags of another one are refused."""
    given: dict[str, Any] = {name: FLAGS[name].value for name in _SYNTHETIC if FLAGS[name].present}
    if FLAGS.corpus == "synthetic":
        if FLAGS.raw_dir:
            raise ValueError("--raw_dir: synthetic faces are drawn, not read; leave it away")
        return synthetic.corpus(SynthConfig(**given), FLAGS.alignment)
    if given:
        raise ValueError(f"--{', --'.join(given)}: only for --corpus=synthetic; leave it away")
    if not FLAGS.raw_dir:
        raise ValueError(f"--raw_dir: give the folder of {FLAGS.corpus} as its owner ships it")
    return corpora.open_corpus(
        FLAGS.corpus, Path(FLAGS.raw_dir), FLAGS.alignment, _faces(), FLAGS.lists, FLAGS.min_intensity
    )


def _faces() -> FaceSource | None:
    if FLAGS.landmarks and FLAGS.detector:
        raise ValueError("--landmarks and --detector: give one of the two")
    if bool(FLAGS.detector) != bool(FLAGS.detector_weights):
        raise ValueError("--detector and --detector_weights: give both, the file being YuNet's or dlib's")
    if FLAGS.landmarks:
        return FaceSource("file", Path(FLAGS.landmarks), FLAGS.only_missing)
    if FLAGS.detector:
        return FaceSource(FLAGS.detector, Path(FLAGS.detector_weights), FLAGS.only_missing)
    if FLAGS.only_missing:
        raise ValueError("--only_missing: give --detector or --landmarks, which find what is missing")
    return None


def _warn(manifest: records.Manifest) -> None:
    """On standard error: what was left out, masked or replaced, and totals that are not the published."""
    _say(doctor.of_manifest(manifest).remarks)
    for line in protocols.unexpected(manifest):
        print(f"warning: {line}", file=sys.stderr)
    if manifest["landmarks"] == 5 and manifest["aus"]:
        print(
            "note: five points do not tell where on the face an AU is: losses on maps of AUs (LAC, AAR) have "
            "nothing to learn from; --detector=dlib or --landmarks=TABLE.csv give more",
            file=sys.stderr,
        )


_HAPPENED = {
    "frame": "frames left out",
    "uncoded": "frames that nobody labelled",
    "label": "labels masked",
    "intensity": "intensities not used",
    "landmarks": "landmarks replaced",
    "triplet": "triplets left out",
}


def _say(found: Counter[tuple[str, str]]) -> None:
    for (what, reason), count in found.most_common(_MOST_REASONS):
        print(f"warning: {_HAPPENED[what]}: {count} ({reason})", file=sys.stderr)
    if len(found) > _MOST_REASONS:
        print(f"warning: {len(found) - _MOST_REASONS} more reasons", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
