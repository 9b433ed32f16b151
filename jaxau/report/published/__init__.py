"""The result tables of the five papers as data, one row of a CSV file per printed cell.

Columns of ``<paper>.csv``:

- ``paper``; ``table`` as it is numbered in print (2, IV), ``text`` for numbers of the running text. GLEE-Net
  numbers two tables "I"; the second one, on DISFA, is II here.
- ``corpus``: ``A_to_B`` is trained on A and tested on B; ``mixture`` is BP4D, DISFA and Aff-Wild2 together.
- ``metric``: see `METRICS`.
- ``method``: one spelling in all files, whatever a paper prints: JAA-Net (JÂA-Net, JÄANet), ME-GraphAU
  (MEGraph), MHSA-FFN and KDSSRL (named by their authors in AAR), EAC-Net (EAC). The setting of an ablation
  follows the name after a colon or a comma.
- ``au``: the AU, ``mean`` for the column "Avg.", or empty where a number belongs to no AU.
- ``value``: what is held to be right; empty where that cannot be told.
- ``printed``: what the text shows, where that is something else. Brackets mark ranks.
- ``note``: why; a cell that begins with ``repaired`` has another value than was printed, ``open`` and
  ``suspect`` mark doubt about a value that is as printed.

``not_the_mean.csv`` lists the rows whose printed mean is more than `TOLERANCE` off the mean of their cells.
"""

import csv
from functools import cache
from importlib import resources
from typing import Literal, NamedTuple

PAPERS = ("gtle_net", "aunet", "aar", "glee_net", "lac")

METRICS = {
    "f1": "F1, %",
    "accuracy": "accuracy, %",
    "auc": "area under the ROC curve, %",
    "triplet_accuracy": "share of triplets in the right order, %",
    "occurrence_rate": "share of frames with the AU, %",
    "parameters": "millions",
    "model_size": "parameters, millions",
    "macs": "multiply-accumulates, 10^9 (papers call them FLOPs)",
    "l2_distance": "less distance between adjacency matrices of predictions and truth, %",
    "dependency_f1": "gain in F1 over frames with another AU, %",
    "t_statistic": "paired t-test",
    "p_value": "paired t-test",
    "seconds_per_step": "s",
    "minutes_per_epoch": "min",
}
"""Each metric and its unit."""

TOLERANCE = 0.1
"""How far a printed mean may be off the mean of the printed cells, each of which is rounded."""


class Cell(NamedTuple):
    """One number of a published table; see the module's text for the fields."""

    paper: str
    table: str
    corpus: str
    metric: str
    method: str
    au: int | Literal["mean"] | None
    value: float | None
    printed: str
    note: str


class NotTheMean(NamedTuple):
    """A row of AU cells whose printed mean is something else, and the likely reason."""

    paper: str
    table: str
    metric: str
    method: str
    mean_of_cells: float
    printed_mean: float
    reason: str


@cache
def read(paper: str) -> tuple[Cell, ...]:
    """All cells of a paper in the order of print.

    Raises:
      ValueError: a paper that is not in `PAPERS`.
    """
    if paper not in PAPERS:
        raise ValueError(f"paper {paper!r}: no numbers are kept of it; choose from {list(PAPERS)}")
    return tuple(
        Cell(
            **{field: row[field] for field in ("paper", "table", "corpus", "metric", "method")},
            au=_au(row["au"]),
            value=float(row["value"]) if row["value"] else None,
            printed=row["printed"],
            note=row["note"],
        )
        for row in _rows(f"{paper}.csv")
    )


def read_table(paper: str, table: str) -> tuple[Cell, ...]:
    """The cells of one table, e.g. ``read_table("lac", "IV")``; empty where no number of it is kept."""
    return tuple(cell for cell in read(paper) if cell.table == table)


@cache
def not_the_mean() -> tuple[NotTheMean, ...]:
    """The rows whose printed mean is not the mean of their cells."""
    return tuple(
        NotTheMean(
            **{field: row[field] for field in ("paper", "table", "metric", "method", "reason")},
            mean_of_cells=float(row["mean_of_cells"]),
            printed_mean=float(row["printed_mean"]),
        )
        for row in _rows("not_the_mean.csv")
    )


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files(__package__).joinpath(name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def _au(text: str) -> int | Literal["mean"] | None:
    if text == "mean":
        return "mean"
    return int(text) if text else None
