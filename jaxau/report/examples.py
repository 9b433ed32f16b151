"""Which test faces to look at: typical ones, one expression over time, and the worst mistakes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxau.checkpoint import Model
from jaxau.report.html import Localisation

_SHOWN = 6


def choose_records(predictions: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.int32]]:
    """Pick test frames from what ``evaluate.run`` stored of them.

    Args:
      predictions: of ``<stage>_predictions.npz``.

    Returns:
      ``localisation``: the frame of each subject with the most AUs present, the busiest subjects first;
      ``failures``: the frame of each subject with the highest cross-entropy, the worst first; ``sequence``:
      frames evenly over the video in which AUs come and go most. At most six record indices each.
    """
    truth = predictions["truth"] * predictions["mask"]
    probability = np.clip(predictions["probability"], 1e-6, 1 - 1e-6)
    entropy = -np.where(truth, np.log(probability), np.log(1 - probability))
    error = (entropy * predictions["mask"]).sum(1) / np.maximum(predictions["mask"].sum(1), 1)
    changes: dict[tuple[int, int], int] = {}
    members: dict[tuple[int, int], NDArray[np.intp]] = {}
    for key in zip(predictions["subject"].tolist(), predictions["video"].tolist(), strict=True):
        if key not in members:
            chosen = (predictions["subject"] == key[0]) & (predictions["video"] == key[1])
            members[key] = np.flatnonzero(chosen)[np.argsort(predictions["frame"][chosen])]
            changes[key] = int(np.abs(np.diff(truth[members[key]].astype(int), axis=0)).sum())
    video = members[max(changes, key=lambda key: changes[key])]
    evenly = video[np.linspace(0, len(video) - 1, min(_SHOWN, len(video))).astype(int)]
    record = predictions["record"]
    return {
        "localisation": record[_best_of_each_subject(truth.sum(1), predictions["subject"])],
        "failures": record[_best_of_each_subject(error, predictions["subject"])],
        "sequence": record[evenly],
    }


def read_examples(
    model: Model, batches: Iterable[Mapping[str, NDArray[Any]]], records: Mapping[str, NDArray[np.int32]]
) -> dict[str, Localisation]:
    """Find the chosen records among test batches of stills, and run the network on them.

    Args:
      model: of a stage of stills whose outputs have ``attention``.
      batches: of the view ``frames``.
      records: from ``choose_records``.

    Raises:
      ValueError: a record that the batches do not hold.
    """
    every = np.unique(np.concatenate(list(records.values())))
    faces = find_faces(batches, every, ("image", "au"))
    shown: dict[str, Localisation] = {}
    for name, chosen in records.items():
        rows = np.searchsorted(every, chosen)
        images = faces["image"][rows]
        outputs: Any = model.network.apply(model.variables, images, train=False)
        shown[name] = {
            "images": images,
            "attention": np.asarray(outputs["attention"]),
            "aus": list(model.info["aus"]),
            "probability": 1 / (1 + np.exp(-np.asarray(outputs["logits"]))),
            "truth": faces["au"][rows],
        }
    return shown


def find_faces(
    batches: Iterable[Mapping[str, NDArray[Any]]], records: NDArray[np.int32], fields: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Fields of chosen records, in their order, from batches of the view ``frames``.

    Raises:
      ValueError: a record that the batches do not hold.
    """
    found: dict[int, list[NDArray[Any]]] = {}
    for batch in batches:
        for row in np.flatnonzero(batch["mask"] & np.isin(batch["record"], records)):
            found[int(batch["record"][row])] = [batch[field][row] for field in fields]
        if len(found) == len(set(records.tolist())):
            break
    if lacking := sorted(set(records.tolist()) - set(found)):
        raise ValueError(f"records {lacking} are not among the test frames; score the run again")
    columns = zip(*(found[record] for record in records.tolist()), strict=True)
    return {field: np.stack(column) for field, column in zip(fields, columns, strict=True)}


def _best_of_each_subject(value: NDArray[Any], subject: NDArray[Any]) -> NDArray[np.intp]:
    best = np.array([np.argmax(np.where(subject == s, value, -np.inf)) for s in np.unique(subject)])
    return best[np.argsort(-value[best], kind="stable")][:_SHOWN]
