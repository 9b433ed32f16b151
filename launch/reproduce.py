"""The papers' tables and figures: what they need is trained, or resumed, beside the printed numbers.

    python -m launch.reproduce --list
    python -m launch.reproduce --paper=lac --table=IV --corpus=synthetic --budget=short --data_dir=data \
        --workdir=runs/tables

Writes ``<workdir>/<paper>/table_IV_synthetic_short`` .md, .csv and .tex (figures: .png and .md) and prints
the first. The exit status is 0 only if no row failed.
"""

import json
import sys
from functools import partial
from pathlib import Path

from absl import flags

from configs.tables import PAPERS
from data_pipelines import protocols, records
from data_pipelines.loader import make_data
from jaxau import reproduce
from jaxau.config import Config
from launch import command

_LIST = flags.DEFINE_bool("list", False, "All tables and figures, and which of them can be made here.")
_PAPER = flags.DEFINE_enum("paper", None, list(PAPERS), "The paper.")
_TABLE = flags.DEFINE_string("table", None, "Number of the table: 4 or IV.")
_FIGURE = flags.DEFINE_string("figure", None, "Number of the figure.")
_CORPUS = flags.DEFINE_string("corpus", None, "Data set to train and test on: synthetic, or the paper's.")
_BUDGET = flags.DEFINE_enum("budget", None, list(reproduce.BUDGETS), "How much to train.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the prepared data sets.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all runs and tables.")
_JSON = flags.DEFINE_bool("json", False, "One JSON object on standard output.")


def main() -> None:
    """List, or make one table or figure."""
    if _LIST.value:
        _list()
        return
    needed = (_PAPER, _CORPUS, _BUDGET, _DATA_DIR, _WORKDIR)
    if missing := [flag.name for flag in needed if not flag.value]:
        raise ValueError(f"--{', --'.join(missing)}: give a value, or --list alone")
    if bool(_TABLE.value) == bool(_FIGURE.value):
        raise ValueError("--table and --figure: give one of the two")
    paper = PAPERS[_PAPER.value]
    request = reproduce.Request(
        paper,
        _CORPUS.value,
        _BUDGET.value,
        partial(make_data, data_dir=_DATA_DIR.value),
        _folds,
        Path(_WORKDIR.value),
    )
    if _TABLE.value:
        made = reproduce.make_table(request, reproduce.find(paper.tables, _TABLE.value, "table"))
    else:
        made = reproduce.make_figure(request, reproduce.find(paper.figures, _FIGURE.value, "figure"))
    if _JSON.value:
        print(json.dumps({"files": [str(path) for path in made.files], "failed": made.failed}))
    else:
        print(made.files[0].read_text())
        print("\n".join(map(str, made.files)))
    if made.failed:
        for label, reason in made.failed.items():
            print(f"error: {label}: {reason}", file=sys.stderr)
        sys.exit(1)


def _list() -> None:
    entries = reproduce.catalogue(PAPERS)
    if _JSON.value:
        print(json.dumps({"entries": entries}))
        return
    for entry in entries:
        others = entry.get("others", 0)
        remark = f"; {others} methods of others: published numbers only" if others else ""
        title = f"{entry['title']} [{entry['corpus'] or 'no corpus'}]"
        print(f"{entry['paper']:9} {entry['kind']:6} {entry['number']:5} {title}: {entry['status']}{remark}")


def _folds(config: Config) -> int:
    manifest = records.read_manifest(_DATA_DIR.value, config.data.corpus)
    return len(protocols.folds(config.data.protocol, manifest))


if __name__ == "__main__":
    command.run(main)
