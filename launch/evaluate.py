"""Score a run on the test subjects of its fold.

    python -m launch.evaluate --workdir=runs/lac --data_dir=data

Writes ``<workdir>/eval/<corpus>/scores.json``, tables (Markdown, CSV) and the predictions of each frame. What
is already scored with the same model and data is not scored again.
"""

from functools import partial
from pathlib import Path

from absl import flags

from data_pipelines.loader import make_data
from jaxau import evaluate
from jaxau.report import tables
from launch import command

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the prepared data sets.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)


def main() -> None:
    """Evaluate, write tables, print the summary."""
    workdir = Path(_WORKDIR.value)
    folder = evaluate.run(workdir, partial(make_data, data_dir=_DATA_DIR.value))
    scores = evaluate.read_scores(folder)
    tables.write_tables(scores, folder)
    print(tables.print_summary(scores))
    print(f"scores: {folder}")


if __name__ == "__main__":
    command.run(main)
