"""The comparison of two runs as tables: for the terminal, Markdown and CSV."""

from typing import Any

import pandas as pd

from jaxau import facs
from jaxau.compare import Comparison, excludes_zero
from jaxau.report.referee import aligned_table
from jaxau.report.tables import SELECTIONS, UNDEFINED, au_name, markdown_table, mean_name, number


def difference_table(result: Comparison, rule: str) -> pd.DataFrame:
    """F1 of both runs and their difference, a row for each AU and for the mean.

    Args:
      result: of `jaxau.compare.compare`.
      rule: "chosen", each run's own thresholds, or "at_half".
    """
    found = result[rule]
    mean = found["mean"]
    named = [(au_name(row["au"]), row) for row in found["per_au"]] + [(mean_name("mean", mean), mean)]
    return pd.DataFrame(
        [
            {
                "AU": name,
                "F1 of A": number(row["f1_a"]),
                "F1 of B": number(row["f1_b"]),
                "A - B [95 %]": _difference(row),
                " ": "*" if excludes_zero(row) else "",
            }
            for name, row in named
        ]
    )


def print_comparison(result: Comparison) -> str:
    """For a terminal: what is compared, the table at each run's own thresholds, one line of verdict."""
    lines = [*_compared(result), "", *aligned_table(difference_table(result, "chosen")), ""]
    return "\n".join([*lines, *_tests(result)] + [f"note: {note}" for note in result["notes"]])


def markdown(result: Comparison) -> str:
    """Both tables, at each run's own thresholds and at .5, as Markdown."""
    lines = [f"# {result['a']['run']} (A) against {result['b']['run']} (B)", "", *_listed(_compared(result))]
    for rule, title in (("chosen", "Each run's own thresholds"), ("at_half", "Threshold .5")):
        lines += ["", f"## {title}", "", *markdown_table(difference_table(result, rule))]
    return "\n".join([*lines, "", *_listed(_tests(result)), *_listed(result["notes"])]) + "\n"


def long_csv(result: Comparison) -> str:
    """A row for each rule for thresholds and AU or mean, numbers unrounded."""
    rows = []
    for rule in ("chosen", "at_half"):
        rows += [
            {"thresholds": rule} | row | {"au": facs.column(row["au"])} for row in result[rule]["per_au"]
        ]
        rows.append({"thresholds": rule, "au": "mean"} | result[rule]["mean"])
    return str(pd.DataFrame(rows).to_csv(index=False))


def _listed(lines: list[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _signed(value: float) -> str:
    return ("-" if value < 0 else "+") + number(abs(value))


def _difference(row: dict[str, Any]) -> str:
    if row["difference"] is None:
        return UNDEFINED
    if row["low"] is None:
        return _signed(row["difference"])
    return f"{_signed(row['difference'])} [{_signed(row['low'])}, {_signed(row['high'])}]"


def _compared(result: Comparison) -> list[str]:
    lines = []
    for name in "ab":
        run = result[name]
        synthetic = "synthetic | " if run["synthetic"] else ""
        lines.append(
            f"{name.upper()}  {run['run']}: stage {run['stage']}, {SELECTIONS[run['thresholds']]} | "
            f"{synthetic}corpus {run['corpus']} | protocol {run['protocol']}, {run['fold']}, frames "
            f"{run['frames']} | selection {run['selection']} | manifest {run['manifest_hash'][:12]}"
        )
    matched = result["matched"]
    return [*lines, f"{matched['frames']} frames of {matched['subjects']} subjects, tested by both"]


def _tests(result: Comparison) -> list[str]:
    half, test = result["at_half"]["mean"], result["chosen"]["t_test"]
    lines = [f"at threshold .5, mean over {half['aus']} AUs: A - B = {_difference(half)}"]
    if test["t"] is not None:
        lines.append(f"paired t-test over {test['n']} subjects: t = {test['t']:.2f}, p = {test['p']:.3g}")
    for name in "ab":
        relations = result["relations"][name]
        dependency = relations["dependency"]
        lines.append(
            f"relations of {name.upper()}: L2 distance of adjacency matrices "
            f"{number(relations['l2_distance'])} (pairs: {relations['pairs']}), dependency F1 "
            f"{number(dependency['dependency_f1'])} (ordered pairs: {dependency['pairs']})"
        )
    return [*lines, f"verdict: {result['verdict']}"]
