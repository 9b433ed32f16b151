"""The papers' tables in their own shape, what came out here beside what was printed.

F1 is in percent, as the papers print it. A printed number always stands under the name of the paper's
corpus, a number of ours under that of the data it was measured on; the two are never in one column.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from jaxau import facs
from jaxau.report import tables
from jaxau.report.published import Cell
from jaxau.report.tables import UNDEFINED, Scores

SELECTIONS = {"honest": "honest thresholds", "at_half": "threshold .5"}
"""The rules for thresholds that a table shows, the honest one first."""

CORPUS_NAMES = {
    "bp4d": "BP4D",
    "disfa": "DISFA",
    "bp4d_plus": "BP4D+",
    "bp4dplus": "BP4D+",
    "gft": "GFT",
    "aff_wild2": "Aff-Wild2",
    "aff_wild2_8au": "Aff-Wild2 (8 AUs)",
    "raf_au": "RAF-AU",
    "fec": "FEC",
    "mixture": "BP4D + DISFA + Aff-Wild2",
    "synthetic": "synthetic faces",
}

PER_AU = {"f1": "F1", "accuracy": "accuracy", "auc": "AUC"}
"""What the papers print of each AU, under the names of the published numbers and of ``metrics.score``."""

_FAILED = "failed"


class Result(NamedTuple):
    """One row as it came out here.

    Attributes:
      label: of the row.
      published: the row's method among the published numbers; "" where it has none.
      about: columns that only the CSV has, such as the run's folder and seed.
      scores: of one run (``scores.json``), or the mean of its folds; None where nothing came out.
      pooled: of all folds' predictions, whose intervals stand beside the mean of folds.
      stage: the stage that the row is about.
      size: ``parameters`` and ``macs`` of the row's network.
      compared: the row's run as ``a`` and the first row's as ``b``, of ``jaxau.compare.compare``.
      error: why nothing came out.
    """

    label: str
    published: str
    about: Mapping[str, Any] = {}
    scores: Scores | None = None
    pooled: Scores | None = None
    stage: str = ""
    size: Mapping[str, int] = {}
    compared: Mapping[str, Any] = {}
    error: str = ""

    def score(self, selection: str) -> dict[str, Any] | None:
        """What ``metrics.score`` returned for the row, with the intervals of the pooled predictions."""
        if self.scores is None or self.stage not in self.scores["stages"]:
            return None
        score: dict[str, Any] = self.scores["stages"][self.stage][selection]
        if self.pooled is None:
            return score
        pooled = self.pooled["stages"][self.stage][selection]
        ends = ("f1_low", "f1_high")
        per_au = [
            row | {end: of_all[end] for end in ends}
            for row, of_all in zip(score["per_au"], pooled["per_au"], strict=True)
        ]
        return score | {"mean": score["mean"] | {e: pooled["mean"][e] for e in ends}, "per_au": per_au}

    @property
    def triplet_accuracy(self) -> float | None:
        """Share of the test triplets that the row's stage puts in the right order."""
        if self.scores is None:
            return None
        return self.scores.get("other_stages", {}).get(self.stage, {}).get("terms", {}).get("accuracy")


def corpus_name(corpus: str) -> str:
    """``BP4D``; ``BP4D to DISFA`` of "bp4d_to_disfa", trained on the one and tested on the other."""
    return " to ".join(CORPUS_NAMES.get(part, part) for part in corpus.split("_to_"))


def percent(value: float | None) -> str:
    """A share as ``61.2``, or a dash."""
    return UNDEFINED if value is None else f"{100 * value:.1f}"


def percent_interval(row: Mapping[str, Any], metric: str = "f1") -> str:
    """``61.2 [55.1, 66.8]``, without brackets where there is no interval."""
    low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
    if low is None:
        return percent(row[metric])
    return f"{percent(row[metric])} [{percent(low)}, {percent(high)}]"


def setting_table(results: Sequence[Result], cells: Sequence[Cell], printed: str, ours: str) -> pd.DataFrame:
    """A row per setting: mean F1 of ours under each rule for thresholds, and the printed one.

    Args:
      results: rows in order.
      cells: published cells of the table.
      printed: corpus of the paper's numbers.
      ours: corpus of ours.
    """
    means = {cell.method: cell.value for cell in cells if cell.metric == "f1" and cell.au == "mean"}
    rows = []
    for result in results:
        row = {"setting": result.label}
        for selection, name in SELECTIONS.items():
            score = result.score(selection)
            column = f"F1 [95 %], {corpus_name(ours)}, {name}"
            row[column] = percent_interval(score["mean"]) if score else _FAILED
        rows.append(row | {f"printed F1, {corpus_name(printed)}": _plain(means.get(result.published))})
    return pd.DataFrame(rows)


def method_table(results: Sequence[Result], cells: Sequence[Cell], printed: str, ours: str) -> pd.DataFrame:
    """A row per method, published ones first and ours last: F1 of each AU, and their mean.

    Where the paper prints accuracy or area under the ROC curve, a row for each of what it prints. An AU that
    one side does not have is a dash there. Arguments as `setting_table`.
    """
    cells = [cell for cell in cells if cell.metric in PER_AU and cell.au is not None]
    scored = [score for result in results if (score := result.score("honest"))]
    published = [cell.au for cell in cells if isinstance(cell.au, int)]
    aus = sorted({*published, *(row["au"] for score in scored for row in score["per_au"])})
    metrics = list(dict.fromkeys(cell.metric for cell in cells)) or ["f1"]
    rows = []
    for metric in metrics:
        named = {} if metrics == ["f1"] else {"metric": PER_AU[metric]}
        own = [cell for cell in cells if cell.metric == metric]
        for method in dict.fromkeys(cell.method for cell in own):
            values = {cell.au: cell.value for cell in own if cell.method == method}
            row = {"method": method, "data": f"{corpus_name(printed)} (printed)", **named}
            row |= {facs.column(au): _plain(values.get(au)) for au in aus}
            rows.append(row | {"mean [95 %]": _plain(values.get("mean"))})
        for result in results:
            for selection, name in SELECTIONS.items():
                score = result.score(selection)
                found = {row["au"]: percent(row[metric]) for row in score["per_au"]} if score else {}
                row = {"method": f"{result.label}, here, {name}", "data": corpus_name(ours), **named}
                row |= {facs.column(au): found.get(au, UNDEFINED) for au in aus}
                mean = percent_interval(score["mean"], metric) if score else _FAILED
                rows.append(row | {"mean [95 %]": mean})
    return pd.DataFrame(rows)


def triplet_table(results: Sequence[Result], cells: Sequence[Cell], printed: str, ours: str) -> pd.DataFrame:
    """A row per setting: share of test triplets in the right order, ours and printed; chance is a third.

    Arguments as `setting_table`.
    """
    values = {cell.method: cell.value for cell in cells if cell.metric == "triplet_accuracy"}
    rows = []
    for result in results:
        own = result.triplet_accuracy
        rows.append(
            {
                "setting": result.label,
                f"triplet accuracy, {corpus_name(ours)}": _FAILED if own is None else percent(own),
                f"printed, {corpus_name(printed)}": _plain(values.get(result.published)),
            }
        )
    return pd.DataFrame(rows)


def relation_table(results: Sequence[Result], cells: Sequence[Cell], printed: str, ours: str) -> pd.DataFrame:
    """A row per setting: distance of the adjacency matrices and dependency F1, and how much better they are.

    A distance is over the pairs of AUs that a row predicts neither always nor never; only distances over as
    many are compared. The printed numbers are differences, too; those of a method stand in the rows whose
    ``published`` their names begin with. Arguments as `setting_table`.
    """
    rows = []
    for result in results:
        row, found = {"setting": result.label, "data": corpus_name(ours)}, result.compared
        pairs = [found["relations"][run]["pairs"] for run in "ab"] if found else []
        row["pairs of AUs"] = str(pairs[0]) if pairs else UNDEFINED
        for metric, name in (("l2_distance", "L2 distance"), ("dependency_f1", "dependency F1")):
            own, first = (_relation(found["relations"][run], metric) if found else None for run in "ab")
            better = None if own is None or first is None else own - first
            if better is not None and metric == "l2_distance":
                better = -better if pairs[0] == pairs[1] else None
            is_first = result is results[0]
            scaled = percent if metric == "dependency_f1" else _number
            row[name] = _FAILED if result.error else scaled(own)
            row[f"{name}: better than {results[0].label} by"] = UNDEFINED if is_first else scaled(better)
            for cell in cells:
                if cell.metric == metric:
                    shown = result.published and cell.method.startswith(result.published)
                    row[f"printed, %, {corpus_name(cell.corpus)}: {name}"] = _plain(
                        cell.value if shown else None
                    )
        rows.append(row)
    return pd.DataFrame(rows)


def paired_table(results: Sequence[Result], cells: Sequence[Cell], printed: str, ours: str) -> pd.DataFrame:
    """A row per setting but the first: the difference of its mean F1 from the first's, and the paired t-test.

    Arguments as `setting_table`.
    """
    values = {(cell.method, cell.metric): cell.value for cell in cells}
    rows = []
    for result in results[1:]:
        test = result.compared["chosen"]["t_test"] if result.compared else {}
        mean = result.compared["chosen"]["mean"] if result.compared else {}
        difference = UNDEFINED if result.compared else _FAILED
        if mean.get("low") is not None:
            difference = " ".join(
                [percent(mean["difference"]), f"[{percent(mean['low'])}, {percent(mean['high'])}]"]
            )
        elif mean.get("difference") is not None:
            difference = percent(mean["difference"])
        row = {"setting": f"{result.label} less {results[0].label}", "data": corpus_name(ours)}
        row |= {"F1 [95 %]": difference, "t": _number(test.get("t")), "p": _short(test.get("p"))}
        row["subjects"] = str(test.get("n", UNDEFINED))
        # In print it is the first that the other is taken from, so that a better one has t below 0.
        for metric, name in (("t_statistic", f"t of {results[0].label} less it"), ("p_value", "p")):
            row[f"printed {name}, {corpus_name(printed)}"] = _short(values.get((result.published, metric)))
        rows.append(row)
    return pd.DataFrame(rows)


SHAPES = {
    "settings": setting_table,
    "methods": method_table,
    "triplets": triplet_table,
    "relations": relation_table,
    "paired": paired_table,
}
"""What a table can look like, but for that of sizes."""


def _relation(found: Mapping[str, Any], metric: str) -> float | None:
    value: float | None = (found["dependency"] if metric == "dependency_f1" else found)[metric]
    return value


def size_table(results: Sequence[Result], cells: Sequence[Cell]) -> pd.DataFrame:
    """A row per method: parameters and multiply-accumulates, counted here and printed."""
    printed = {(cell.method, cell.metric): cell.value for cell in cells}
    counted = {result.published or result.label: result for result in results}
    labels = {key: result.label for key, result in counted.items()}
    rows = []
    for method in dict.fromkeys([*(cell.method for cell in cells), *counted]):
        row = {"method": labels.get(method, method)}
        for key, unit, scale, digits in (("parameters", "M", 1e6, 2), ("macs", "G", 1e9, 2)):
            size = counted[method].size.get(key) if method in counted else None
            failed = _FAILED if method in counted else UNDEFINED
            row[f"{key}, {unit}, counted"] = failed if size is None else f"{size / scale:.{digits}f}"
            row[f"{key}, {unit}, printed"] = _plain(printed.get((method, key)))
        rows.append(row)
    return pd.DataFrame(rows)


def long_table(results: Sequence[Result], cells: Sequence[Cell], printed: str) -> pd.DataFrame:
    """All numbers unrounded: a row per setting, rule for thresholds and AU (or mean).

    F1 of ours is a share; ``printed`` is in the unit of print, on ``printed_corpus``.
    """
    values = {(cell.method, cell.metric, cell.au): cell.value for cell in cells}
    metrics = [m for m in PER_AU if any(cell.metric == m for cell in cells)] or ["f1"]
    rows: list[dict[str, Any]] = []
    for result in results:
        key = {"row": result.label, **result.about}
        if result.error:
            rows.append(key | {"error": result.error})
        for metric, size in result.size.items():
            print_value = values.get((result.published, metric, None))
            rows.append(key | {"metric": metric, "value": size, "printed": print_value})
        for selection in SELECTIONS:
            if score := result.score(selection):
                each = [("mean", score["mean"])] + [(row["au"], row) for row in score["per_au"]]
                for metric, (au, row) in itertools.product(metrics, each):
                    rows.append(
                        key
                        | {"selection": selection, "metric": metric, "au": au, "value": row[metric]}
                        | {"low": row.get(f"{metric}_low"), "high": row.get(f"{metric}_high")}
                        | {"printed": values.get((result.published, metric, au)), "printed_corpus": printed}
                    )
        if result.triplet_accuracy is not None:
            print_value = values.get((result.published, "triplet_accuracy", None))
            found = {"metric": "triplet_accuracy", "value": result.triplet_accuracy}
            rows.append(key | found | {"printed": print_value, "printed_corpus": printed})
    return pd.DataFrame(rows)


def document(title: str, lines: Sequence[str], table: pd.DataFrame) -> tuple[str, str]:
    """The table as Markdown and as LaTeX, below and above ``lines`` of what it stands on."""
    markdown = [f"# {title}", "", *tables.markdown_table(table), "", *(f"{line}\n" for line in lines)]
    return "\n".join(markdown).rstrip() + "\n", tables.latex_table(table, " ".join([f"{title}.", *lines]))


def _number(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.2f}"


def _short(value: float | None) -> str:
    """Two decimals, or a power of ten where these would be 0."""
    if value is None:
        return UNDEFINED
    return f"{value:.2g}" if abs(value) < 0.01 else f"{value:.2f}"


def _plain(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.1f}"
