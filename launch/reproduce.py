"""The papers' tables and figures: what they need is trained, or resumed, beside the printed numbers.

    python -m launch.reproduce --list
    python -m launch.reproduce --paper=lac --table=IV --corpus=synthetic --budget=short --data_dir=data \
        --workdir=runs/tables
    python -m launch.reproduce --paper=lac --all --corpus=synthetic --budget=smoke --data_dir=data \
        --workdir=runs/tables

Writes ``<workdir>/<paper>/table_IV_synthetic_short`` .md, .csv and .tex (figures: .png and .md) and prints
the first. The exit status is 0 only if no row failed.
"""

import json
from functools import partial
from pathlib import Path

from absl import flags

from configs.tables import PAPERS
from data_pipelines import protocols, records
from data_pipelines.loader import make_data
from jaxau import reproduce
from jaxau.config import Config
from launch import command

FLAGS = flags.FLAGS
flags.DEFINE_bool("list", False, "all tables and figures, and which of them can be made here")
flags.DEFINE_enum("paper", None, list(PAPERS), "the paper")
flags.DEFINE_string("table", None, "number of the table: 4 or IV")
flags.DEFINE_string("figure", None, "number of the figure")
flags.DEFINE_bool("all", False, "all tables and figures of the paper that can be made here")
flags.DEFINE_string("corpus", None, "data set to train and test on: synthetic, or a corpus of the paper")
flags.DEFINE_enum("budget", None, list(reproduce.BUDGETS), "how much to train")
flags.DEFINE_string("data_dir", None, "folder of the prepared data sets")
flags.DEFINE_string("workdir", None, "folder of all runs and tables")
flags.DEFINE_integer("seed", 0, "of all rows; other seeds give other files", lower_bound=0)
flags.DEFINE_list(
    "weights", [], "PREFIX=FOLDER,...: what rows begin with that have such parameters, e.g. fan=runs/fan"
)
flags.DEFINE_bool("json", False, "one JSON object on standard output")


def main() -> None:
    """List, or make one table or figure."""
    if FLAGS.list:
        _list()
        return
    needed = ("paper", "corpus", "budget", "data_dir", "workdir")
    if missing := [name for name in needed if not FLAGS[name].value]:
        raise ValueError(f"--{', --'.join(missing)}: give a value, or --list alone")
    if [bool(FLAGS[name].value) for name in ("table", "figure", "all")].count(True) != 1:
        raise ValueError("--table, --figure and --all: give one of the three")
    paper = PAPERS[FLAGS.paper]
    data = partial(make_data, data_dir=FLAGS.data_dir)
    request = reproduce.Request(
        paper, FLAGS.corpus, FLAGS.budget, data, _folds, Path(FLAGS.workdir), FLAGS.seed, _weights()
    )
    written: list[Path] = []
    failed: dict[str, str] = {}
    for kind, number in _wanted(paper):
        try:
            made = (reproduce.make_table if kind == "table" else reproduce.make_figure)(request, number)
        except ValueError as error:
            if not FLAGS.all:
                raise
            failed[f"{kind} {number}"] = str(error)  # the others can be made all the same
            continue
        written += made.files
        failed |= {f"{kind} {number}, {label}": reason for label, reason in made.failed.items()}
        if not FLAGS.json:
            print(made.files[0].read_text())
            print("\n".join(map(str, made.files)))
    if FLAGS.json:
        print(json.dumps({"files": [str(path) for path in written], "failed": failed}))
    if failed:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in failed.items())
        raise ValueError(f"{len(failed)} rows failed: {reasons}")


def _wanted(paper: reproduce.Paper) -> list[tuple[str, int]]:
    """Kind and number of each table and figure that is asked for."""
    if FLAGS.table:
        return [("table", reproduce.find(paper.tables, FLAGS.table, "table"))]
    if FLAGS.figure:
        return [("figure", reproduce.find(paper.figures, FLAGS.figure, "figure"))]
    return [
        (kind, number)
        for kind, entries in (("table", paper.tables), ("figure", paper.figures))
        for number, entry in entries.items()
        if reproduce.status(paper, entry) == reproduce.RUNNABLE
    ]


def _list() -> None:
    entries = reproduce.catalogue(PAPERS)
    if FLAGS.json:
        print(json.dumps({"entries": entries}))
        return
    for entry in entries:
        others = entry.get("others", 0)
        remark = f"; {others} methods of others: published numbers only" if others else ""
        title = f"{entry['title']} [{entry['corpus'] or 'no corpus'}]"
        print(f"{entry['paper']:9} {entry['kind']:6} {entry['number']:5} {title}: {entry['status']}{remark}")


def _weights() -> dict[str, str]:
    pairs = [item.partition("=") for item in FLAGS.weights]
    wrong = ["".join(pair) for pair in pairs if not all(pair)]
    if wrong:
        raise ValueError(f"--weights={','.join(wrong)}: give PREFIX=FOLDER")
    return {prefix: folder for prefix, _, folder in pairs}


def _folds(config: Config) -> int:
    manifest = records.read_manifest(FLAGS.data_dir, config.data.corpus)
    return len(protocols.folds(config.data.protocol, manifest))


if __name__ == "__main__":
    command.run(main)
