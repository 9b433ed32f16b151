"""Scores of anybody's predictions as tables: for the terminal, Markdown and CSV."""

from typing import Any

import pandas as pd

from jaxau import facs
from jaxau.report.tables import UNDEFINED, au_name, interval, markdown_table, mean_name, number

Report = dict[str, Any]


def score_table(report: Report) -> pd.DataFrame:
    """A row for each AU and for each mean, as text."""
    score, always_on, events = report["score"], report["always_on"], report["events"]
    intensities = {row["au"]: row for row in (report["intensity"] or {"per_au": []})["per_au"]}
    rows = []
    for row, floor, event in zip(score["per_au"], always_on["per_au"], events["per_au"], strict=True):
        numbers = _numbers(row, floor, event, intensities.get(row["au"], {}))
        rows.append({"AU": au_name(row["au"])} | numbers | {"base rate": number(row["base_rate"])})
    mean_intensity = (report["intensity"] or {"mean": {}})["mean"]
    rows.append(
        {"AU": mean_name("mean", score["mean"])}
        | _numbers(score["mean"], always_on["mean"], events["mean"], mean_intensity)
        | {"base rate": ""}
    )
    table = pd.DataFrame(rows)
    is_empty = (table == UNDEFINED).all()
    return table.drop(columns=[name for name in table if is_empty[name] and name != "F1 [95 %]"])


def _numbers(
    row: dict[str, Any], floor: dict[str, Any], event: dict[str, Any], intensity: dict[str, Any]
) -> dict[str, str]:
    return {
        "F1 [95 %]": interval(row),
        "always on": number(floor["f1"]),
        "event F1 [95 %]": interval(event),
        "precision": number(row["precision"]),
        "recall": number(row["recall"]),
        "AUC": number(row["auc"]),
        "AP": number(row["average_precision"]),
        "accuracy": number(row["accuracy"]),
        "ICC": number(intensity.get("icc")),
        "PCC": number(intensity.get("pcc")),
        "MAE": number(intensity.get("mae")),
    }


def print_score(report: Report) -> str:
    """For a terminal: what was joined, the table, the relations, and notes."""
    table = score_table(report).drop(columns=["precision", "recall", "accuracy", "AP"], errors="ignore")
    return "\n".join(
        [*_about(report), "", *aligned_table(table), "", *_below(report)]
        + [f"note: {note}" for note in score_notes(report)]
    )


def score_markdown(report: Report) -> str:
    """The whole table as Markdown, with what it stands on."""
    about, below = ([f"- {line}" for line in lines] for lines in (_about(report), _below(report)))
    lines = [f"# Score of {report['predictions']} against {report['truth']}", "", *about, ""]
    lines += [*markdown_table(score_table(report)), "", *below]
    return "\n".join(lines + [f"- {note}" for note in score_notes(report)]) + "\n"


def score_csv(report: Report) -> str:
    """A row for each AU and mean, numbers unrounded."""
    parts = {"score": "", "always_on": "always_on_", "events": "event_", "intensity": "intensity_"}
    rows: dict[str, dict[str, Any]] = {}
    for part, prefix in parts.items():
        found = report[part] or {"per_au": [], "mean": {}}
        for key, row in [(facs.column(row["au"]), row) for row in found["per_au"]] + [
            ("mean", found["mean"])
        ]:
            names = (
                ["f1"] if part == "always_on" else [name for name in row if name not in ("au", "undefined")]
            )
            numbers = {prefix + name: row[name] for name in names if name in row}
            rows[key] = rows.get(key, {"au": key}) | numbers
    return str(pd.DataFrame(rows.values()).to_csv(index=False))


def _about(report: Report) -> list[str]:
    counts, score = report["join"], report["score"]
    on = "frame number" if counts["on"] == "frame" else "time stamp"
    offset = f", {counts['frame_offset']:+d} on the predictions" if counts["frame_offset"] else ""
    reasons = [
        f"{counts[key]} {what}"
        for key, what in (
            ("without_row", "without a row"),
            ("success_0", "with success 0"),
            ("empty", "with empty AUs"),
        )
        if counts[key]
    ]
    unpredicted = (
        f"{counts['unpredicted']} of {counts['predicted'] + counts['unpredicted']} frames unpredicted"
    )
    if reasons:
        rule = "left out" if report["unpredicted"] == "excluded" else "counted as absent"
        unpredicted += f" ({', '.join(reasons)}), {rule}"
        other = report["other_rule"]
        shown = "counted as absent" if other["unpredicted"] == "absent" else "left out"
        unpredicted += f"; if {shown}, mean F1 {number(other['f1'])}"
    return [
        f"{report['predictions']} ({report['tool']}) against {report['truth']}",
        f"joined by video and {on}{offset}: {counts['joined']} frames; not joined: "
        f"{counts['truth_not_joined']} of {counts['truth_rows']} rows of the truth, "
        f"{counts['predictions_not_joined']} of {counts['prediction_rows']} of the predictions",
        unpredicted,
        f"{report['clusters']}s: {score['subjects']}, videos: {counts['videos']}",
    ]


def aligned_table(table: pd.DataFrame) -> list[str]:
    """The lines of a table of text for a terminal, names to the left and numbers to the right."""
    cells = [list(table), *table.to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]


def _below(report: Report) -> list[str]:
    relations, events = report["relations"], report["events"]
    dependency = relations["dependency"]
    return [
        f"events: segments that overlap by an IoU of {events['overlap']:g} or more, frames {events['step']} "
        "apart",
        f"relations: L2 distance of adjacency matrices {number(relations['l2_distance'])} (pairs: "
        f"{relations['pairs']}, undefined: {relations['undefined_pairs']}), dependency F1 "
        f"{number(dependency['dependency_f1'])} (ordered pairs: {dependency['pairs']}, undefined: "
        f"{dependency['undefined_pairs']})",
    ]


def score_notes(report: Report) -> list[str]:
    """All that a reader must know before believing the table."""
    score = report["score"]
    without = [facs.column(row["au"]) for row in score["per_au"] if row["f1"] is None]
    notes = [*report["notes"], score["interval_note"]]
    if without:
        notes.append(
            f"{', '.join(without)}: no frame with the AU present, so F1 is undefined and not in the mean"
        )
    return [note for note in notes if note]
