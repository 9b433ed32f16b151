"""From a corpus to records, once and offline; the same command again goes on where it was stopped.

python -m launch.prepare --corpus=synthetic --data_dir=data --tier=small --nuisance=0.5
python -m launch.prepare --corpus=disfa --raw_dir=DISFA --data_dir=data
python -m launch.prepare --corpus=disfa --data_dir=data --check
python -m launch.prepare --protocols [--json] [--data_dir=data]
"""

import json
import sys
from collections import Counter
from typing import Any

from absl import flags

from data_pipelines import protocols, records
from data_pipelines.corpora import disfa, synthetic
from data_pipelines.preparation import Corpus, prepare
from data_pipelines.synthetic import SynthConfig
from jaxau.faces.align import ALIGNMENTS
from launch import command

FLAGS = flags.FLAGS
_SYNTHETIC = (
    "tier", "subjects", "clips", "frames", "size", "fps", "nuisance", "profile", "seed", "scale", "style",
    "annotator",
)  # fmt: skip
_MOST_REASONS = 20

flags.DEFINE_enum("corpus", None, ["disfa", "synthetic"], "what to prepare")
flags.DEFINE_string("raw_dir", None, "the corpus as its owner ships it; synthetic needs none")
flags.DEFINE_string("data_dir", None, "folder of all data sets; this one becomes DATA_DIR/CORPUS")
flags.DEFINE_enum("alignment", "jaa256", sorted(ALIGNMENTS), "how faces are cut out")
flags.DEFINE_integer("workers", 0, "processes; 0 = all cores", lower_bound=0)
flags.DEFINE_bool("check", False, "compare the records with their manifest, decode every picture")
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
            frames = ", ".join(f"{count['test']:,} ({rule})" for rule, count in fold["frames"].items())
            print(
                f"  fold {fold['fold']}: test {len(fold['test'])} subjects, {frames} frames: "
                f"{' '.join(fold['test'])}"
            )


def main() -> None:
    """Prepare a corpus, check one, or list the protocols."""
    if FLAGS.protocols:
        _list_protocols()
        return
    if not FLAGS.corpus or not FLAGS.data_dir:
        raise ValueError("--corpus and --data_dir: give both, or --protocols")
    if FLAGS.check:
        if idle := [name for name in (*_SYNTHETIC, "alignment", "workers") if FLAGS[name].present]:
            raise ValueError(f"--check with --{', --'.join(idle)}: it reads what is there; leave them away")
        if problems := records.check(FLAGS.data_dir, FLAGS.corpus):
            raise ValueError("\n".join(problems))
        print(f"{FLAGS.data_dir}/{FLAGS.corpus}: records and manifest agree")
        return
    made = prepare(_corpus(), FLAGS.data_dir, FLAGS.workers)
    manifest = records.read_manifest(FLAGS.data_dir, FLAGS.corpus)
    counts = manifest["counts"]
    print(
        f"{FLAGS.data_dir}/{FLAGS.corpus}: {'prepared' if made else 'nothing to do, it holds'} "
        f"{counts['records']} frames of {counts['videos']} videos of {counts['subjects']} subjects"
    )
    _warn(manifest)


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
    return disfa.corpus(FLAGS.raw_dir, FLAGS.alignment)


def _warn(manifest: records.Manifest) -> None:
    """On standard error: what was left out, masked or replaced, and totals that are not the published."""
    found: Counter[tuple[str, str]] = Counter()
    for remark in manifest["excluded"] + manifest["substituted"]:
        found[remark["what"], remark["reason"]] += remark["count"]
    happened = {"frame": "frames left out", "label": "labels masked", "landmarks": "landmarks replaced"}
    for (what, reason), count in found.most_common(_MOST_REASONS):
        print(f"warning: {happened[what]}: {count} ({reason})", file=sys.stderr)
    if len(found) > _MOST_REASONS:
        print(f"warning: {len(found) - _MOST_REASONS} more reasons in the manifest", file=sys.stderr)
    for line in protocols.unexpected(manifest):
        print(f"warning: {line}", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
