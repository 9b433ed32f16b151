"""Protocols: which subjects are tested in which fold, and which frames count, as named lists.

A protocol pins folds by subject, because public repositories number the same parts differently. The
lists of BP4D and DISFA are those that JAA-Net, ME-GraphAU and AU-Net share; the folds of both are
numbered as in ME-GraphAU (fold 1 tests part 3, fold 2 part 2, fold 3 part 1), whose recipe LAC
inherits. (AU-Net numbers DISFA the other way round: its subset k tests part k.)

Papers also differ in the frames. The rule "all" keeps every frame of the data set (ME-GraphAU, MDHR,
LAC); "landmarks" leaves out those whose landmarks the corpus's owner lists as bad (JAA-Net, AU-Net).
Scores under different rules are not on the same test frames.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Folds = tuple[tuple[str, ...], ...]
"""The names of the test subjects of fold 1, 2, ..."""


Ranges = tuple[tuple[int, int], ...]
"""First and last frame number, both included, of each of several runs of frames."""


@dataclass(frozen=True)
class Protocol:
    """Subject lists of a corpus.

    Attributes:
      corpus: the corpus that it belongs to.
      tests: test subjects of each fold; None where the manifest of the data set holds them.
      test_frames: frames of each fold's test subjects in the whole corpus, by frame rule.
      strata: attributes of subjects that its folds share evenly, where the manifest has them.
    """

    corpus: str
    tests: Folds | None = None
    test_frames: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    strata: tuple[str, ...] = ()


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
    "bp4d-3fold": Protocol("bp4d", _last_part_first(_BP4D_PARTS), {"all": (46_034, 50_182, 50_631)}),
    "disfa-3fold": Protocol(
        "disfa",
        _last_part_first(_DISFA_PARTS),
        {"all": (43_605, 43_605, 43_604), "landmarks": (42_627, 40_344, 43_173)},
    ),
    "synthetic-3fold": Protocol("synthetic", strata=("sex", "skin tone", "glasses")),
}

EVERYONE = "all"
"""The protocol of any corpus that nothing is trained on: one fold, in which every subject is tested."""

# As DISFA's owner lists them; frames count from 1.
_DISFA_BAD_LANDMARKS: dict[str, Ranges] = {
    "SN001": ((398, 420), (3190, 3243)),
    "SN002": ((800, 826),),
    "SN004": ((4541, 4555),),
    "SN006": ((1349, 1405),),
    "SN009": ((1736, 1808), (1851, 1885)),
    "SN011": ((4529, 4533), (4830, 4845)),
    "SN021": (
        (574, 616), (985, 1164), (1190, 1205), (1305, 1338), (1665, 1710), (1862, 2477), (2554, 4657),
        (4710, 4722),
    ),
    "SN023": ((1021, 1049), (3378, 3557), (3584, 3668), (4547, 4621), (4741, 4772), (4825, 4845)),
    "SN025": ((4596, 4662), (4816, 4835)),
    "SN027": ((3461, 3494), (4738, 4785)),
    "SN028": ((1875, 1885), (4571, 4690)),
    "SN029": ((4090, 4543),),
    "SN030": ((939, 962), (1406, 1422), (2100, 2132), (2893, 2955)),
}  # fmt: skip

FRAME_RULES: dict[str, dict[str, Mapping[str, Ranges]]] = {"disfa": {"landmarks": _DISFA_BAD_LANDMARKS}}
"""Corpus -> rule -> subject -> frames that the rule leaves out; every corpus has the rule "all" besides."""


def left_out(corpus: str, rule: str) -> Mapping[str, Ranges]:
    """The frames that a frame rule leaves out, by name of the subject.

    Raises:
      ValueError: the corpus has no such rule.
    """
    rules = {"all": {}, **FRAME_RULES.get(corpus, {})}
    if rule not in rules:
        raise ValueError(
            f"config.data.frames={rule!r}: the corpus {corpus!r} has no such list of frames, only "
            f"{list(rules)}; choose one of these"
        )
    return rules[rule]


def kept(frames: ArrayLike, ranges: Ranges) -> np.ndarray:
    """(n,) bool: which of n frame numbers lie in none of the ranges."""
    numbers = np.asarray(frames)
    inside = [(first <= numbers) & (numbers <= last) for first, last in ranges]
    return ~np.any(inside, axis=0) if inside else np.ones(len(numbers), bool)


@dataclass(frozen=True)
class Split:
    """Names of the subjects that train, that select epoch and thresholds, and that are tested."""

    train: tuple[str, ...]
    inner: tuple[str, ...]
    test: tuple[str, ...]


def folds(name: str, manifest: Mapping[str, Any], fold_seed: int = 0) -> Folds:
    """The test subjects of each fold of a protocol on a prepared data set.

    Args:
      name: a key of `PROTOCOLS`, or `EVERYONE`.
      manifest: of the data set.
      fold_seed: 0 = the protocol's own folds; n > 0 = as many folds, drawn at random from all subjects,
        whose sizes differ by one at most and which share the protocol's strata evenly.

    Returns:
      Names of subjects, which cover the data set exactly once.

    Raises:
      ValueError: unknown protocol, one of another corpus, a subject in two folds or in none, or a
        listed subject that the data set lacks.
    """
    if name == EVERYONE:
        return (tuple(subject["name"] for subject in manifest["subjects"]),)
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
    if not fold_seed:
        return tests
    of = manifest.get("attributes", {})
    strata = {
        subject: tuple(of.get(subject, {}).get(key, "") for key in protocol.strata) for subject in listed
    }
    return _redraw(strata, len(tests), _generator(f"{name} redrawn {fold_seed}"))


def _redraw(strata: Mapping[str, tuple[str, ...]], number: int, rng: np.random.Generator) -> Folds:
    """Deal subjects into folds: with alike ones side by side, each next ``number`` go to one fold each."""
    shuffled = [sorted(strata)[i] for i in rng.permutation(len(strata))]
    alike = sorted(shuffled, key=lambda subject: strata[subject])
    tests: list[list[str]] = [[] for _ in range(number)]
    for start in range(0, len(alike), number):
        block = alike[start : start + number]
        for fold, subject in zip(rng.permutation(number), block, strict=False):
            tests[fold].append(subject)
    return tuple(tuple(sorted(test)) for test in tests)


def _generator(name: str) -> np.random.Generator:
    """Random numbers of a name, the same on every machine."""
    return np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))


def split_subjects(
    manifest: Mapping[str, Any],
    protocol: str,
    fold: int,
    inner_fraction: float,
    seed: int,
    fold_seed: int = 0,
) -> Split:
    """Training, inner and test subjects of one fold.

    The inner subjects, drawn from the training subjects, select epoch and thresholds, so that the
    test subjects are read only once.

    Args:
      manifest: of the data set.
      protocol: a key of `PROTOCOLS`, or `EVERYONE`, which leaves nobody to train on.
      fold: counted from 1.
      inner_fraction: share of the training subjects held back, in [0, 1); above 0, at least one.
      seed: of the draw, which also depends on protocol, fold and redraw.
      fold_seed: see `folds`.

    Raises:
      ValueError: as `folds`, a fold that does not exist, or no subject left to train on.
    """
    tests = folds(protocol, manifest, fold_seed)
    if not 1 <= fold <= len(tests):
        raise ValueError(
            f"fold {fold}: protocol {protocol!r} has folds 1 to {len(tests)}; choose one of these"
        )
    test = tests[fold - 1]
    if protocol == EVERYONE:
        return Split(train=(), inner=(), test=tuple(sorted(test)))
    others = sorted(subject for other in tests if other is not test for subject in other)
    held_back = max(round(inner_fraction * len(others)), 1) if inner_fraction > 0 else 0
    if held_back >= len(others):
        raise ValueError(
            f"inner_fraction {inner_fraction}: holds back {held_back} of {len(others)} training "
            f"subjects of fold {fold} and leaves none to train on; choose a smaller fraction or "
            "prepare more subjects"
        )
    rng = _generator(f"{protocol} {fold} {seed}" + (f" {fold_seed}" if fold_seed else ""))
    inner = {others[i] for i in rng.permutation(len(others))[:held_back]}
    return Split(
        train=tuple(subject for subject in others if subject not in inner),
        inner=tuple(sorted(inner)),
        test=tuple(sorted(test)),
    )


def tested_frames(name: str, manifest: Mapping[str, Any], rule: str) -> list[int]:
    """How many frames of a prepared data set each fold tests under a frame rule."""
    removed = left_out(manifest["corpus"], rule)
    counts = {subject["name"]: 0 for subject in manifest["subjects"]}
    for video in manifest["videos"]:
        subject = video["subject_name"]
        counts[subject] += int(kept(video["frames"], removed.get(subject, ())).sum())
    return [sum(counts[subject] for subject in test) for test in folds(name, manifest)]


def unexpected(manifest: Mapping[str, Any]) -> list[str]:
    """What makes a data set another than the one that published scores are on.

    Returns:
      One line for each protocol of the corpus that does not fit the subjects, and for each frame rule whose
      frames per fold are not those of the whole corpus; none if all is as published.
    """
    lines = []
    for name, protocol in PROTOCOLS.items():
        if protocol.corpus != manifest["corpus"]:
            continue
        try:
            folds(name, manifest)
        except ValueError as error:
            lines.append(str(error))
            continue
        for rule, published in protocol.test_frames.items():
            found = tested_frames(name, manifest, rule)
            if found != list(published):
                lines.append(
                    f"protocol {name!r}, frames {rule!r}: the folds test {_sum(found)} frames, the whole "
                    f"corpus has {_sum(published)}; scores will not be on the published frames"
                )
    return lines


def _sum(counts: Sequence[int]) -> str:
    return f"{' + '.join(f'{count:,}' for count in counts)} = {sum(counts):,}"


def describe(manifests: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All protocols with subjects and frames per fold, for people and for programs.

    Args:
      manifests: of prepared data sets, by corpus; without one, folds that only a manifest holds
        are empty, and frames are those of the whole corpus.

    Returns:
      For each protocol ``{"protocol", "corpus", "folds": [{"fold", "test", "train", "test_frames",
      "train_frames", "frames": {rule: {"test", "train"}}}]}``, where ``test_frames`` and
      ``train_frames`` are those of the rule "all"; a rule whose frames are not known is absent, frames of
      "all" are None then.
    """
    described = []
    for name, protocol in PROTOCOLS.items():
        tests: Folds = protocol.tests or ()
        frames: dict[str, Sequence[int]] = dict(protocol.test_frames)
        if manifest := manifests.get(protocol.corpus):
            tests = folds(name, manifest)
            rules = ("all", *FRAME_RULES.get(protocol.corpus, ()))
            frames = {rule: tested_frames(name, manifest, rule) for rule in rules}
        listed = []
        for i, test in enumerate(tests):
            counts = {
                rule: {"test": count[i], "train": sum(count) - count[i]} for rule, count in frames.items()
            }
            every = counts.get("all", {"test": None, "train": None})
            listed.append(
                {
                    "fold": i + 1,
                    "test": list(test),
                    "train": [subject for other in tests if other is not test for subject in other],
                    "test_frames": every["test"],
                    "train_frames": every["train"],
                    "frames": counts,
                }
            )
        described.append({"protocol": name, "corpus": protocol.corpus, "folds": listed})
    return described
