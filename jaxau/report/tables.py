"""Scores as tables: for the terminal, as Markdown and LaTeX to read, as CSV to compute with.

The input is the content of a run's ``scores.json``. Each table says what the scores stand on
(corpus, protocol, fold, selection, manifest) and carries the word ``synthetic`` where they come from
synthetic faces.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from jaxau import facs, metrics

Scores = dict[str, Any]

UNDEFINED = "–"
BASELINES = {"always_on": "always on", "pixels_logistic_regression": "pixels + logistic regression"}
SELECTIONS = {
    "at_half": "threshold .5",
    "honest": "honest thresholds",
    "optimistic": "optimistic thresholds",
    "model": "the model's thresholds",
}
"""Honest: chosen with the epoch on inner subjects of the training set, before the test is read. Optimistic:
chosen with the epoch on the test subjects. The model's: on another corpus than the one it was trained on."""


class System(NamedTuple):
    """One set of scores of a run: a stage with one rule for thresholds, or a baseline."""

    name: str
    selection: str
    score: dict[str, Any]


def systems(scores: Scores) -> list[System]:
    """All sets of scores in reading order: each stage with each rule for thresholds, then baselines."""
    listed = [
        System(stage, _selection(scores, rule), numbers[rule])
        for stage, numbers in scores["stages"].items()
        for rule in rules(numbers)
    ]
    return listed + [
        System(BASELINES.get(name, name), SELECTIONS["at_half"], score)
        for name, score in scores["baselines"].items()
    ]


def rules(stage: dict[str, Any]) -> list[str]:
    """The keys of `SELECTIONS` that a stage has scores for; the last is what the run stands for."""
    return [rule for rule in SELECTIONS if rule in stage]


def _selection(scores: Scores, rule: str) -> str:
    """No score of an optimistic run goes without the word: the test subjects chose the epoch, too."""
    name = SELECTIONS[rule]
    return f"optimistic epoch, {name}" if _optimistic(scores) and rule == "at_half" else name


def _optimistic(scores: Scores) -> bool:
    return bool(scores["selection"] == "optimistic")


def number(value: float | None) -> str:
    """``.612``, ``1.000`` or a dash for what is undefined."""
    return UNDEFINED if value is None else f"{value:.3f}".removeprefix("0")


def interval(row: dict[str, Any], metric: str = "f1") -> str:
    """``.612 [.551, .668]``, without brackets where there is no interval."""
    if row[f"{metric}_low"] is None:
        return number(row[metric])
    return f"{number(row[metric])} [{number(row[f'{metric}_low'])}, {number(row[f'{metric}_high'])}]"


def au_name(au: int) -> str:
    """``AU12 lip corner puller``."""
    return f"{facs.column(au)} {facs.ACTION_UNITS[au].name}"


def provenance(scores: Scores) -> str:
    """One line of what the scores stand on."""
    synthetic = "synthetic | " if scores["synthetic"] else ""
    trained = f" | trained on {scores['trained_on_corpus']}" if "trained_on_corpus" in scores else ""
    return (
        f"{synthetic}corpus {scores['corpus']}{trained} | protocol {scores['protocol']}, "
        f"{fold_name(scores['fold'])}, frames {scores['frames']} | "
        f"{len(scores['subjects']['test'])} test subjects | selection {scores['selection']} | "
        f"manifest {scores['manifest_hash'][:12]}"
    )


def stage_table(scores: Scores, stage: str) -> pd.DataFrame:
    """One stage as text: a row per AU and per mean, F1 at .5 and at the thresholds that were chosen."""
    half = scores["stages"][stage]["at_half"]
    rule = rules(scores["stages"][stage])[-1]
    chosen = scores["stages"][stage][rule] if rule != "at_half" else None
    name = f"{'model thresholds' if rule == 'model' else rule} F1 [95 %]"
    baselines = scores["baselines"]
    rates = {"AUC": "auc", "accuracy": "accuracy", "base rate": "base_rate"}
    rows = []
    for index, row in enumerate(half["per_au"]):
        of_au = chosen["per_au"][index] if chosen else {}
        rows.append(
            {"AU": au_name(row["au"]), "F1 at .5 [95 %]": interval(row)}
            | ({name: interval(of_au), "threshold": number(of_au["threshold"])} if of_au else {})
            | {BASELINES.get(n, n): number(s["per_au"][index]["f1"]) for n, s in baselines.items()}
            | {name: number(row[key]) for name, key in rates.items()}
        )
    for key in MEANS:
        if key in half:
            rows.append(
                {"AU": mean_name(key, half[key]), "F1 at .5 [95 %]": interval(half[key])}
                | ({name: interval(chosen[key]), "threshold": ""} if chosen else {})
                | {BASELINES.get(n, n): number(s[key]["f1"]) for n, s in baselines.items()}
                | {"AUC": number(half[key]["auc"]), "accuracy": number(half[key]["accuracy"])}
                | {"base rate": ""}
            )
    return pd.DataFrame(rows)


def group_table(scores: Scores) -> pd.DataFrame:
    """The last stage as text, by attribute of the subjects: a row per group; empty without attributes."""
    return pd.DataFrame(
        {
            "group": f"{attribute}: {value}",
            "subjects": str(score["subjects"]),
            "AUs": str(score["mean"]["aus"]),
        }
        | {"mean F1 [95 %]": interval(score["mean"]), "AUC": number(score["mean"]["auc"])}
        | {"warning": "few subjects" if score["interval_note"] else ""}
        for attribute, values in scores.get("groups", {}).items()
        for value, score in values.items()
    )


def of_last_stage(scores: Scores) -> str:
    """``stage clips, honest thresholds (synthetic)``: what groups, events and relations are of."""
    stage, numbers = list(scores["stages"].items())[-1]
    return f"stage {stage}, {_selection(scores, rules(numbers)[-1])}{_words(scores)}"


def events_and_relations(scores: Scores) -> list[str]:
    """A sentence on each of the last stage, where they were scored."""
    if "events" not in scores:
        return []
    events, relations = scores["events"], scores["relations"]
    adjacency, dependency = relations["adjacency"], relations["dependency"]
    return [
        f"Events, {of_last_stage(scores)}: mean F1 {interval(events['mean'])} over "
        f"{events['mean']['aus']} AUs; a segment from onset to offset is found by one whose frames, shared "
        f"over covered by either, are {events['overlap']:.0%} or more.",
        f"Relations, {of_last_stage(scores)}: L2 distance of adjacency {number(adjacency['l2_distance'])} "
        f"over {adjacency['pairs']} pairs of AUs; dependency F1 {number(dependency['dependency_f1'])} over "
        f"{dependency['pairs']} ordered pairs.",
    ]


def other_stages(scores: Scores) -> list[str]:
    """A sentence on each stage that detects no AUs: the means of its loss and of its terms."""
    found = scores.get("other_stages", {})
    terms = {s: ", ".join(f"{name} {x:.4g}" for name, x in of["terms"].items()) for s, of in found.items()}
    words = f"{_words(scores)}, means over the test subjects"
    return [f"Stage {s}, {_epoch(of)}{words}: {terms[s]}." for s, of in found.items()]


MEANS = {"mean": "mean", "bp4d_mean": "mean of BP4D's"}

_OTHER_MEANS = {
    "precision": ("precision", "precision_aus"),
    "recall": ("recall", "aus"),
    "average_precision": ("average precision", "aus"),
    "mcc": ("MCC", "mcc_aus"),
    "skew_f1": ("skew-normalised F1", "auc_aus"),
    "calibration_error": ("calibration error", "accuracy_aus"),
}
"""Means that have no column in a table, their names, and the key of over how many AUs they are."""


def other_means(mean: dict[str, Any]) -> str:
    """One sentence; ``(2 AUs)`` after a mean that is over fewer or more AUs than the mean F1."""
    found = []
    for metric, (name, counted) in _OTHER_MEANS.items():
        over = "" if mean[counted] == mean["aus"] else f" ({mean[counted]} AUs)"
        found.append(f"{name} {interval(mean, metric)}{over}")
    return f"Other means at threshold .5, [95 %]: {', '.join(found)}."


def mean_name(key: str, mean: dict[str, Any]) -> str:
    """``mean of 12 AUs``, and ``mean of BP4D's 12 AUs``: over how many AUs the mean F1 is."""
    joint = "" if key == "bp4d_mean" else " of"
    return f"{MEANS[key]}{joint} {mean['aus']} AUs"


def notes(scores: Scores) -> list[str]:
    """What a reader must know before believing a table: who chose, undefined AUs, too narrow intervals."""
    found = []
    if _optimistic(scores):
        found.append(
            "optimistic: the test subjects were read to choose the epoch and the thresholds; the network's "
            "scores are what the field prints, not what to expect of new subjects"
        )
    for key, reason in (("not_coded", "the corpus does not code"), ("not_predicted", "the model lacks")):
        if scores.get(key):
            listed = ", ".join(facs.column(au) for au in scores[key])
            found.append(f"{listed}: {reason} it, so it is in no score and no mean")
    for system, selection, score in systems(scores):
        found.append(score["interval_note"])
        rows = score["per_au"]
        without_f1 = [facs.column(row["au"]) for row in rows if row["f1"] is None]
        without_auc = [facs.column(row["au"]) for row in rows if row["f1"] is not None and row["auc"] is None]
        in_some = [facs.column(row["au"]) for row in rows if 0 < row.get("folds", 0) < score.get("folds", 0)]
        never_found = [
            facs.column(row["au"]) for row in rows if row["f1"] is not None and row["precision"] is None
        ]
        if never_found:
            found.append(
                f"{', '.join(never_found)} ({system}, {selection}): nothing predicted present, so precision "
                "and MCC are undefined and not in their means"
            )
        if in_some:
            found.append(
                f"{', '.join(in_some)}: no positive frame in some folds; the mean is over the other folds"
            )
        if without_f1:
            found.append(
                f"{', '.join(without_f1)}: no positive frame, so F1 is undefined and not in the mean"
            )
        if without_auc:
            found.append(
                f"{', '.join(without_auc)}: no negative frame, so AUC is undefined and not in the mean"
            )
    return [note for note in dict.fromkeys(found) if note]


def print_summary(scores: Scores) -> str:
    """The scores for a terminal: provenance, one compact table per stage, the mean of each baseline."""
    lines = [provenance(scores)]
    for stage, numbers in scores["stages"].items():
        left_out = ("base rate", "threshold", "accuracy", BASELINES["pixels_logistic_regression"])
        table = stage_table(scores, stage).drop(columns=list(left_out), errors="ignore")
        lines += ["", f"stage {stage}, {_epoch(numbers)}{_words(scores)}"]
        lines += [f"  {line}" for line in aligned_table(table)]
    lines += ["", *other_stages(scores), *events_and_relations(scores)]
    if scores["baselines"]:
        lines += ["", f"baselines, mean F1 [95 %]{_synthetic(scores)}"]
    for name, score in scores["baselines"].items():
        mean = score["mean"]
        lines.append(f"  {BASELINES.get(name, name):<30}{interval(mean)}   AUC {number(mean['auc'])}")
    return "\n".join(lines + [f"note: {note}" for note in notes(scores)])


def markdown(scores: Scores) -> str:
    """All stages as Markdown tables under one line of provenance."""
    lines = [f"# Scores{_words(scores)}", "", provenance(scores), "", str(scores["trained_on"])]
    for stage, numbers in scores["stages"].items():
        table = stage_table(scores, stage)
        lines += ["", f"## Stage {stage}, {_epoch(numbers)}{_words(scores)}", ""]
        lines += [*markdown_table(table), "", other_means(numbers["at_half"]["mean"])]
    lines += [f"\n{line}" for line in other_stages(scores) + events_and_relations(scores)]
    groups = group_table(scores)
    if len(groups):
        lines += ["", f"## Groups, {of_last_stage(scores)}", "", *markdown_table(groups)]
        lines += ["", "Groups differ in more than their name; read a difference beside its intervals."]
    if len(groups) and groups["warning"].any():
        lines += ["Few subjects: intervals may be too narrow, and one subject has none."]
    return "\n".join(lines + [f"\n{note}" for note in notes(scores)]) + "\n"


def latex(scores: Scores) -> str:
    """All stages as LaTeX tables (packages booktabs and, for their width, adjustbox if you like)."""
    about = provenance(scores).replace(" | ", "; ")
    return "\n".join(
        latex_table(stage_table(scores, stage), f"Stage {stage}, {_epoch(numbers)}; {about}.")
        for stage, numbers in scores["stages"].items()
    )


def long_table(scores: Scores) -> pd.DataFrame:
    """One row for each system, rule for thresholds, group ("" = all) and AU (or mean), numbers unrounded."""
    about = {
        key: scores[key] for key in ("corpus", "synthetic", "protocol", "fold", "frames", "manifest_hash")
    }
    listed = [(*system, "") for system in systems(scores)]
    for attribute, values in scores.get("groups", {}).items():
        stage, numbers = list(scores["stages"].items())[-1]
        selection = _selection(scores, rules(numbers)[-1])
        listed += [(stage, selection, score, f"{attribute}: {value}") for value, score in values.items()]
    rows = []
    for system, selection, score, group in listed:
        key, about = {"system": system, "selection": selection}, about | {"group": group}
        rows += [key | row | {"au": facs.column(row["au"])} | about for row in score["per_au"]]
        for name in MEANS:
            if name in score:
                mean = {k: v for k, v in score[name].items() if k != "undefined"}
                rows.append(key | {"au": name} | mean | about)
    table = pd.DataFrame(rows)
    whole = [c for c in ("positives", "coded", "subjects", *metrics.AU_COUNTS) if c in table]
    return table.astype(dict.fromkeys(whole, "Int64"))  # empty, not .0, where a row has no such number


def write_tables(scores: Scores, folder: Path) -> list[Path]:
    """Write ``scores.md``, ``scores.csv`` and ``scores.tex`` into ``folder`` and return their paths."""
    contents = markdown(scores), long_table(scores).to_csv(index=False), latex(scores)
    return write_files(folder, "scores", contents)


def write_files(folder: Path, name: str, contents: tuple[str, str, str]) -> list[Path]:
    """Write Markdown, CSV and LaTeX to ``<folder>/<name>.md``, ``.csv`` and ``.tex``; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{ending}" for ending in ("md", "csv", "tex")]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content, encoding="utf-8")
    return paths


def fold_table(crossval: Scores, stage: str, selection: str) -> pd.DataFrame:
    """F1 of each fold, their mean and the pooled predictions: a row each, a column per AU and for the mean.

    Args:
      crossval: what ``jaxau.crossval.merge`` wrote.
      stage: of the network.
      selection: a key of `SELECTIONS` that the stage has.
    """
    rows = []
    for scores in _parts(crossval):
        score = scores["stages"][stage][selection]
        row = {"fold": fold_name(scores["fold"])}
        row |= {facs.column(one["au"]): number(one["f1"]) for one in score["per_au"]}
        rows.append(row | {"mean F1 [95 %]": interval(score["mean"])})
    return pd.DataFrame(rows)


def print_crossval_summary(crossval: Scores) -> str:
    """The folds of a cross-validation for a terminal."""
    pooled = crossval["pooled"]
    lines = [provenance(pooled)]
    for title, table in _fold_tables(crossval):
        lines += ["", title, *(f"  {line}" for line in aligned_table(table))]
    lines += ["", f"baselines, pooled, mean F1 [95 %]{_synthetic(pooled)}"]
    for name, score in pooled["baselines"].items():
        lines.append(f"  {BASELINES.get(name, name):<30}{interval(score['mean'])}")
    return "\n".join(lines + [f"note: {note}" for note in notes(crossval["mean_of_folds"]) + notes(pooled)])


def print_noise_floor(floor: dict[str, Any]) -> str:
    """What ``jaxau.crossval.noise_floor`` found, for a terminal."""
    words = _words(floor)
    listed = f"{len(floor['redraws'])} redraws of {floor['protocol']}, stage {floor['stage']}"
    lines = [
        f"noise floor{words}: corpus {floor['corpus']}, {listed}, {_selection(floor, floor['thresholds'])}"
    ]
    for way, name in (("pooled", "folds pooled"), ("mean_of_folds", "mean of folds")):
        found = floor[way]
        each = " ".join(number(redraw[way]) for redraw in floor["redraws"])
        lines.append(
            f"  mean F1{words}, {name}: {each}; mean {number(found['mean'])}, standard deviation "
            f"{number(found['sd'])} [{number(found['sd_low'])}, {number(found['sd_high'])}], range "
            f"{number(found['range'])}; two single runs differ by chance up to {number(found['difference'])} "
            f"[{number(found['difference_low'])}, {number(found['difference_high'])}]"
        )
    return "\n".join([*lines, "  brackets: 95 % interval from so few redraws; more redraws narrow it"])


def write_crossval_tables(crossval: Scores, folder: Path) -> list[Path]:
    """Write ``scores.md``, ``scores.csv`` and ``scores.tex`` of a cross-validation; returns their paths."""
    summaries = crossval["mean_of_folds"], crossval["pooled"]
    lines = [f"# Scores of {len(crossval['folds'])} folds{_words(crossval['pooled'])}", ""]
    for title, table in _fold_tables(crossval):
        lines += [f"## {title}", "", *markdown_table(table), ""]
    contents = (
        "\n".join([*lines, *map(markdown, summaries)]),
        pd.concat([long_table(scores) for scores in _parts(crossval)]).to_csv(index=False),
        "\n".join(map(latex, summaries)),
    )
    return write_files(folder, "scores", contents)


def _fold_tables(crossval: Scores) -> list[tuple[str, pd.DataFrame]]:
    """Title and table for each stage and rule for thresholds."""
    return [
        (
            f"F1 of stage {stage}, {_selection(crossval['pooled'], rule)}{_words(crossval['pooled'])}",
            fold_table(crossval, stage, rule),
        )
        for stage, numbers in crossval["pooled"]["stages"].items()
        for rule in rules(numbers)
    ]


def _parts(crossval: Scores) -> list[Scores]:
    return [*crossval["folds"], crossval["mean_of_folds"], crossval["pooled"]]


def fold_name(fold: int | str) -> str:
    """``fold 2``; several folds have a description already."""
    return f"fold {fold}" if isinstance(fold, int) else fold


def _epoch(numbers: dict[str, Any]) -> str:
    """``epoch 7``, or ``epochs 7, 9, 8`` of several folds."""
    epoch = numbers["epoch"]
    return f"epoch {epoch}" if isinstance(epoch, int) else f"epochs {', '.join(map(str, epoch))}"


def _synthetic(scores: Scores) -> str:
    return " (synthetic)" if scores["synthetic"] else ""


def _words(scores: Scores) -> str:
    """What each heading says of the network's numbers."""
    return _synthetic(scores) + (" (optimistic)" if _optimistic(scores) else "")


def aligned_table(table: pd.DataFrame) -> list[str]:
    """The lines of a table of text for a terminal, names to the left and numbers to the right."""
    cells = [list(table), *table.to_numpy().tolist()]
    first, *rest = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([row[0].ljust(first), *(cell.rjust(w) for cell, w in zip(row[1:], rest, strict=True))])
        for row in cells
    ]


def markdown_table(table: pd.DataFrame) -> list[str]:
    """The lines of a table of text."""
    lines = [_markdown_row(list(table)), _markdown_row([":--"] + ["--:"] * (table.shape[1] - 1))]
    return lines + [_markdown_row(list(row)) for row in table.itertuples(index=False)]


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def latex_table(table: pd.DataFrame, caption: str) -> str:
    """A table of text, with a caption of plain text (packages booktabs and, for its width, adjustbox)."""
    escaped = table.map(_latex_text).rename(columns=_latex_text)
    latex = escaped.style.hide(axis="index").to_latex(
        hrules=True, caption=_latex_text(caption), column_format="l" + "r" * (table.shape[1] - 1)
    )
    return latex.replace(UNDEFINED, "--")


def _latex_text(text: str) -> str:
    for character in "\\&%$#_{}":  # the backslash first
        replacement = r"\textbackslash " if character == "\\" else f"\\{character}"
        text = text.replace(character, replacement)
    return text
