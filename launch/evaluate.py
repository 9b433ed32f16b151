"""Score a run on the test subjects of its fold, or on all subjects of another corpus.

    python -m launch.evaluate --workdir=runs/lac --data_dir=data
    python -m launch.evaluate --workdir=runs/lac --data_dir=data --corpus=disfa

Writes ``<workdir>/eval/<corpus>/scores.json``, tables (Markdown, CSV) and the predictions of each frame. What
is already scored with the same model and data is not scored again.
"""

from functools import partial
from pathlib import Path

from absl import flags

from data_pipelines import records
from data_pipelines.loader import make_data
from jaxau import checkpoint, evaluate
from jaxau.report import tables
from launch import command

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the prepared data sets.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_CORPUS = flags.DEFINE_string("corpus", None, "Another corpus than the run's own: scores all its subjects.")


def main() -> None:
    """Evaluate, write tables, print the summary."""
    workdir = Path(_WORKDIR.value)
    open_data = partial(make_data, data_dir=_DATA_DIR.value)
    corpus = _CORPUS.value
    if corpus in (None, checkpoint.read_info(workdir)["corpus"]):
        folder = evaluate.run(workdir, open_data)
    else:
        coded = records.read_manifest(_DATA_DIR.value, corpus)["aus"]
        folder = evaluate.cross_corpus(workdir, open_data, corpus, coded)
    scores = evaluate.read_scores(folder)
    tables.write_tables(scores, folder)
    print(tables.print_summary(scores))
    print(f"scores: {folder}")


if __name__ == "__main__":
    command.run(main)
