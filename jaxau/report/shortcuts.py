"""What a run leans on, as tables: for the terminal and Markdown."""

from typing import Any

import pandas as pd

from jaxau.report.tables import aligned_table, au_name, markdown_table, number


def drop_table(report: dict[str, Any]) -> pd.DataFrame:
    """Scores with the usual company and alone, a row for each AU and for the mean of those that have both."""
    rows = [
        {
            "AU": au_name(drop["au"]),
            "F1": number(usual["f1"]),
            "alone": number(alone["f1"]),
            "skew-normalised F1": number(usual["skew_f1"]),
            "alone ": number(alone["skew_f1"]),
            "lost": _signed(drop["skew_f1"]),
            "AUC lost": _signed(drop["auc"]),
        }
        for drop, usual, alone in zip(
            report["drop"]["per_au"],
            report["usual"]["per_au"],
            report["independent"]["per_au"],
            strict=True,
        )
    ]
    mean = dict.fromkeys(rows[0], "") | {"AU": f"mean of {len(report['drop']['aus'])} AUs"}
    return pd.DataFrame([*rows, mean | {"lost": _signed(report["drop"]["mean"])}])


def group_table(report: dict[str, Any]) -> pd.DataFrame:
    """Mean scores of each group, a row each, and how far the groups of an attribute are apart."""
    rows = []
    for attribute, found in report["groups"].items():
        for value, score in found["groups"].items():
            rows.append(
                {
                    "group": f"{attribute}: {value}",
                    "subjects": str(score["subjects"]),
                    "frames": str(score["frames"]),
                    "mean F1": number(score["mean"]["f1"]),
                    "skew-normalised F1": number(score["mean"]["skew_f1"]),
                    "apart": number(found["gap"]) if value == found["worst"] else "",
                }
            )
    return pd.DataFrame(rows)


def print_report(report: dict[str, Any]) -> str:
    """For a terminal."""
    lines = [*_about(report), "", *aligned_table(drop_table(report))]
    return "\n".join([*lines, "", *aligned_table(group_table(report)), "", *_notes()])


def markdown(report: dict[str, Any]) -> str:
    """The same as Markdown."""
    lines = ["# Shortcuts (synthetic)", "", "  \n".join(_about(report)), "", "## AUs that come alone", ""]
    lines += [*markdown_table(drop_table(report)), "", "## Groups", "", *markdown_table(group_table(report))]
    return "\n".join([*lines, "", *_notes()]) + "\n"


def _about(report: dict[str, Any]) -> list[str]:
    return [
        f"synthetic | stage {report['stage']}, {report['selection']} thresholds | protocol "
        f"{report['protocol']}, fold {report['fold']} | {len(report['subjects'])} test subjects",
        f"trained on {report['trained_on']}",
        f"alone: {report['independent_on']}",
    ]


def _notes() -> list[str]:
    return [
        "Lost: usual less alone, of the skew-normalised F1, which does not follow how often an AU occurs (F1 "
        "does). What is lost had been read from AUs that occur together.",
        "Apart: best less worst group, over the AUs that all groups have; groups of few subjects differ by "
        "chance.",
    ]


def _signed(value: float | None) -> str:
    return number(value) if value is None or value >= 0 else f"-{number(-value)}"
