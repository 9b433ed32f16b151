"""Protocols: which subjects are tested in which fold, as named lists.

A protocol pins folds by subject, because public repositories number the same parts differently. The
lists of BP4D and DISFA are those that JAA-Net, ME-GraphAU and AU-Net share; the folds of both are
numbered as in ME-GraphAU (fold 1 tests part 3, fold 2 part 2, fold 3 part 1), whose recipe LAC
inherits. (AU-Net numbers DISFA the other way round: its subset k tests part k.)
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Folds = tuple[tuple[str, ...], ...]
"""The names of the test subjects of fold 1, 2, ..."""


@dataclass(frozen=True)
class Protocol:
    """Subject lists of a corpus.

    Attributes:
      corpus: the corpus that it belongs to.
      tests: test subjects of each fold; None where the manifest of the data set holds them.
      test_frames: coded frames of each fold's test subjects, all frames counted.
    """

    corpus: str
    tests: Folds | None = None
    test_frames: tuple[int, ...] | None = None


_BP4D_PARTS = (
    "F001 M007 F018 F008 F002 M004 F010 F009 M012 M001 F016 M014 F023 M008",
    "M011 F003 M010 M002 F005 F022 M018 M017 F013 M016 F020 F011 M013 M005",
    "F007 F015 F006 F019 M006 M009 F012 M003 F004 F021 F017 M015 F014",
)
_DISFA_PARTS = (
    "SN002 SN010 SN001 SN026 SN027 SN032 SN030 SN009 SN016",
    "SN013 SN018 SN011 SN028 SN012 SN006 SN031 SN021 SN024",
    "SN003 SN029 SN023 SN025 SN008 SN005 SN007 SN017 SN004",
)


def _last_part_first(parts: Sequence[str]) -> Folds:
    return tuple(tuple(part.split()) for part in reversed(parts))


PROTOCOLS: dict[str, Protocol] = {
    "bp4d-3fold": Protocol("bp4d", _last_part_first(_BP4D_PARTS), (46_034, 50_182, 50_631)),
    "disfa-3fold": Protocol("disfa", _last_part_first(_DISFA_PARTS), (43_605, 43_605, 43_604)),
    "synthetic-3fold": Protocol("synthetic"),
}


@dataclass(frozen=True)
class Split:
    """Names of the subjects that train, that select epoch and thresholds, and that are tested."""

    train: tuple[str, ...]
    inner: tuple[str, ...]
    test: tuple[str, ...]


def folds(name: str, manifest: Mapping[str, Any]) -> Folds:
    """The test subjects of each fold of a protocol on a prepared data set.

    Args:
      name: a key of `PROTOCOLS`.
      manifest: of the data set.

    Returns:
      Names of subjects, which cover the data set exactly once.

    Raises:
      ValueError: unknown protocol, one of another corpus, a subject in two folds or in none, or a
        listed subject that the data set lacks.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"protocol {name!r}: not one of {sorted(PROTOCOLS)}; choose one of these")
    protocol = PROTOCOLS[name]
    if protocol.corpus != manifest["corpus"]:
        raise ValueError(
            f"protocol {name!r} belongs to the corpus {protocol.corpus!r}, the data set is "
            f"{manifest['corpus']!r}: use a protocol of that corpus"
        )
    tests = protocol.tests or tuple(tuple(fold) for fold in manifest["folds"][name])
    listed = [subject for fold in tests for subject in fold]
    twice = sorted({subject for subject in listed if listed.count(subject) > 1})
    if twice:
        raise ValueError(
            f"protocol {name!r}: subjects {twice} are in more than one fold; folds must not share "
            "subjects, list each subject once"
        )
    present = {subject["name"] for subject in manifest["subjects"]}
    nowhere, absent = sorted(present - set(listed)), sorted(set(listed) - present)
    if nowhere:
        raise ValueError(
            f"protocol {name!r}: subjects {nowhere} of the data set are in no fold; each must be "
            "in one, add them to the protocol or use another"
        )
    if absent:
        raise ValueError(
            f"protocol {name!r}: subjects {absent} are not in the data set; its scores would not "
            "be comparable, prepare the whole corpus"
        )
    return tests


def split_subjects(
    manifest: Mapping[str, Any], protocol: str, fold: int, inner_fraction: float, seed: int
) -> Split:
    """Training, inner and test subjects of one fold.

    The inner subjects, drawn from the training subjects, select epoch and thresholds, so that the
    test subjects are read only once.

    Args:
      manifest: of the data set.
      protocol: a key of `PROTOCOLS`.
      fold: counted from 1.
      inner_fraction: share of the training subjects held back, in [0, 1); above 0, at least one.
      seed: of the draw, which also depends on protocol and fold.

    Raises:
      ValueError: as `folds`, a fold that does not exist, or no subject left to train on.
    """
    tests = folds(protocol, manifest)
    if not 1 <= fold <= len(tests):
        raise ValueError(
            f"fold {fold}: protocol {protocol!r} has folds 1 to {len(tests)}; choose one of these"
        )
    test = tests[fold - 1]
    others = sorted(subject for other in tests if other is not test for subject in other)
    held_back = max(round(inner_fraction * len(others)), 1) if inner_fraction > 0 else 0
    if held_back >= len(others):
        raise ValueError(
            f"inner_fraction {inner_fraction}: holds back {held_back} of {len(others)} training "
            f"subjects of fold {fold} and leaves none to train on; choose a smaller fraction or "
            "prepare more subjects"
        )
    digest = hashlib.sha256(f"{protocol} {fold} {seed}".encode()).digest()
    rng = np.random.default_rng(list(digest))
    inner = {others[i] for i in rng.permutation(len(others))[:held_back]}
    return Split(
        train=tuple(subject for subject in others if subject not in inner),
        inner=tuple(sorted(inner)),
        test=tuple(sorted(test)),
    )


def describe(manifests: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All protocols with subjects and frames per fold, for people and for programs.

    Args:
      manifests: of prepared data sets, by corpus; without one, folds that only a manifest holds
        are empty, and frames are those of the whole corpus.

    Returns:
      For each protocol ``{"protocol", "corpus", "folds": [{"fold", "test", "train", "test_frames",
      "train_frames"}]}``; frames are None where they are not known.
    """
    described = []
    for name, protocol in PROTOCOLS.items():
        tests: Folds = protocol.tests or ()
        frames: Sequence[int | None] = protocol.test_frames or (None,) * len(tests)
        if manifest := manifests.get(protocol.corpus):
            tests = folds(name, manifest)
            records = {subject["name"]: subject["records"] for subject in manifest["subjects"]}
            frames = [sum(records[subject] for subject in test) for test in tests]
        total = None if None in frames else sum(f for f in frames if f is not None)
        described.append(
            {
                "protocol": name,
                "corpus": protocol.corpus,
                "folds": [
                    {
                        "fold": i + 1,
                        "test": list(test),
                        "train": [s for other in tests if other is not test for s in other],
                        "test_frames": count,
                        "train_frames": None if total is None or count is None else total - count,
                    }
                    for i, (test, count) in enumerate(zip(tests, frames, strict=True))
                ],
            }
        )
    return described
