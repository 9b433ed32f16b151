"""From a corpus to records, once and offline; the same command again goes on where it was stopped.

python -m launch.prepare --corpus=synthetic --data_dir=data --tier=small --nuisance=0.5
python -m launch.prepare --corpus=synthetic --data_dir=data --check
python -m launch.prepare --protocols [--json] [--data_dir=data]
"""

import json
from typing import Any

from absl import flags

from data_pipelines import protocols, records
from data_pipelines.corpora import synthetic
from data_pipelines.preparation import prepare
from data_pipelines.synthetic import SynthConfig
from jaxau.faces.align import ALIGNMENTS
from launch import command

FLAGS = flags.FLAGS

flags.DEFINE_enum("corpus", None, ["synthetic"], "what to prepare")
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


def _list_protocols() -> None:
    listed = protocols.describe(records.manifests(FLAGS.data_dir) if FLAGS.data_dir else {})
    if FLAGS.json:
        print(json.dumps({"protocols": listed}))
        return
    for protocol in listed:
        print(f"{protocol['protocol']} ({protocol['corpus']})")
        for fold in protocol["folds"]:
            print(
                f"  fold {fold['fold']}: test {len(fold['test'])} subjects, "
                f"{fold['test_frames']} frames: {' '.join(fold['test'])}"
            )


def main() -> None:
    """Prepare a corpus, check one, or list the protocols."""
    if FLAGS.protocols:
        _list_protocols()
        return
    if not FLAGS.corpus or not FLAGS.data_dir:
        raise ValueError("--corpus and --data_dir: give both, or --protocols")
    if FLAGS.check:
        if problems := records.check(FLAGS.data_dir, FLAGS.corpus):
            raise ValueError("\n".join(problems))
        print(f"{FLAGS.data_dir}/{FLAGS.corpus}: records and manifest agree")
        return
    chosen = ("subjects", "clips", "frames", "size", "fps", "nuisance", "profile", "seed")
    given: dict[str, Any] = {name: FLAGS[name].value for name in chosen if FLAGS[name].value is not None}
    corpus = synthetic.corpus(SynthConfig(tier=FLAGS.tier, **given), FLAGS.alignment)
    made = prepare(corpus, FLAGS.data_dir, FLAGS.workers)
    counts = records.read_manifest(FLAGS.data_dir, FLAGS.corpus)["counts"]
    print(
        f"{FLAGS.data_dir}/{FLAGS.corpus}: {'prepared' if made else 'nothing to do, it holds'} "
        f"{counts['records']} frames of {counts['videos']} videos of {counts['subjects']} subjects"
    )


if __name__ == "__main__":
    command.run(main)
