"""What the numbers of a reproduced table stand on, in lines of text below it."""

from collections.abc import Sequence

from jaxau import facs, weights
from jaxau.config import Config
from jaxau.report import tables
from jaxau.report.paper_tables import Result

SIZES_LINES = [
    "Counted here from the shapes of the paper's full-size network; nothing is trained, so corpus and "
    "budget change nothing. Multiply-accumulates of convolutions and matrix products, which papers call "
    "FLOPs; those of BatchNorm do not count. Numbers of others' networks are the printed ones alone."
]
"""For a table of sizes."""


def table_lines(budget: str, configs: Sequence[Config], results: Sequence[Result]) -> list[str]:
    """For a table of scores.

    Args:
      budget: in words.
      configs: of the rows.
      results: of the rows.
    """
    scored = [result for result in results if result.scores]
    lines = [tables.provenance(result.scores) for result in scored[:1] if result.scores]
    lines += steps(budget, configs, scored[0].scores if scored else None)
    if not any(result.score("honest") for result in scored):
        lines.append("Accuracy here: one fold, of triplets of its test subjects.")
    elif scored and scored[0].pooled:
        lines.append(
            "F1 here: mean of the folds; interval: 95 % over subjects, of the folds' predictions pooled."
        )
    else:
        lines.append("F1 here: one fold; interval: 95 % over its test subjects.")
    lines.append("Printed numbers are the paper's own, on the corpus named with them.")
    return lines + list(dict.fromkeys(note for result in scored for note in _notes(result)))


def _notes(result: Result) -> list[str]:
    """What a reader must know of the row's F1: too narrow intervals, AUs without F1."""
    score = result.score("honest")
    if score is None:
        return []
    width = (result.pooled or result.scores or {})["stages"][result.stage]["honest"]["interval_note"]
    absent = ", ".join(facs.column(au) for au in score["mean"]["undefined"])
    undefined = (
        f"{absent}: no positive test frame, so F1 is undefined and not in the mean." if absent else None
    )
    return [note for note in (width, undefined) if note]


def steps(budget: str, configs: Sequence[Config], scores: tables.Scores | None) -> list[str]:
    """Budget, seed and steps of all rows in a line; in others, weights, and the AUs that ``scores`` lack."""
    stages = dict.fromkeys(
        f"{name}: {stage.epochs} epochs"
        + (f" or {stage.max_steps} steps, whichever end first" if stage.max_steps else "")
        + f", batches of {stage.batch_size}"
        for config in configs
        for name, stage in config.stages.items()
    )
    seeds = ", ".join(dict.fromkeys(str(config.seed) for config in configs))
    pixels = ", ".join(dict.fromkeys(str(config.data.image_size) for config in configs))
    lines = [" | ".join([f"{budget} | seed {seeds} | {pixels} px", *stages])]
    begun = {f"{prefix}: {folder}" for config in configs for prefix, folder in config.weights.items()}
    if begun:
        lines.append(f"Parts that begin with weights of their own: {', '.join(sorted(begun))}.")
    if random := {prefix for config in configs for prefix in weights.left_random(config)}:
        lines.append(
            f"{', '.join(sorted(random))}: random and not trained, where no weights are given; such numbers "
            "say nothing of the method."
        )
    if scores and (absent := [facs.column(au) for au in configs[0].data.aus if au not in scores["aus"]]):
        lines.append(
            f"{', '.join(absent)}: left out, no training subject shows them in a data set this small."
        )
    return lines
