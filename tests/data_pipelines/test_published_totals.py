"""Published frames, rates and weights from label files and lists alone, without a single picture.

The fixtures are built from what is published: frames of each part of the subjects (the lengths of the
sequences are made up, within 90 to 768), which frames lack landmarks, and how often each AU occurs. Only
rates and weights are printed, not the counts behind them: `occurrences_of_fold_1` finds the counts from which
these follow.
"""

import itertools

import numpy as np
import pytest

from data_pipelines import doctor, protocols
from data_pipelines.corpora import bp4d, disfa, lists
from data_pipelines.protocols import PROTOCOLS
from jaxau import facs, losses

# facts of ME-GraphAU's lists: percent of the training frames of fold 1, 2 and 3, and weights of fold 1
BP4D_RATES = np.array([
    [18.4, 14.6, 19.8, 44.0, 57.0, 56.7, 54.0, 45.7, 17.5, 34.2, 16.5, 14.8],
    [21.5, 19.2, 20.6, 45.9, 54.8, 61.4, 58.3, 44.1, 15.4, 33.1, 16.2, 14.9],
    [23.6, 17.6, 20.4, 48.5, 52.8, 60.4, 56.4, 50.0, 17.9, 35.7, 16.9, 15.7],
])  # fmt: skip
BP4D_WEIGHTS = [
    1.342985, 1.689665, 1.248091, 0.561356, 0.433044, 0.435894, 0.457287, 0.541004, 1.408054, 0.722762,
    1.493145, 1.666711,
]  # fmt: skip
DISFA_RATES = np.array([
    [3.8, 2.3, 13.5, 6.8, 2.9, 12.3, 27.6, 10.3],
    [5.8, 5.5, 15.2, 7.8, 4.8, 12.2, 26.4, 8.5],
    [5.4, 5.2, 17.0, 9.1, 4.9, 14.2, 29.1, 7.6],
])  # fmt: skip
DISFA_WEIGHTS = [1.422290, 2.347771, 0.399672, 0.795021, 1.878217, 0.440125, 0.195583, 0.521322]
BP4D_FRAMES = (46_034, 50_182, 50_631)  # tested in fold 1, 2, 3
DISFA_FRAMES = (43_605, 43_605, 43_604)


def occurrences_of_fold_1(rates, weights, frames):
    """Whole numbers whose rates print as ``rates`` and whose weights as ``weights``: the count of the first
    AU decides the others."""
    rates, weights = np.array(rates), np.array(weights)
    low, high = np.ceil((rates[0] - 0.05) / 100 * frames), np.floor((rates[0] + 0.05) / 100 * frames)
    for first in np.arange(low, high + 1):
        counts = np.round(first * weights[0] / weights)
        inverse = 1 / counts
        close = np.abs(inverse / inverse.sum() * len(weights) - weights).max() < 6e-7
        if close and np.abs(100 * counts / frames - rates).max() <= 0.05 + 1e-9:
            return counts.astype(int)
    raise AssertionError("no counts give these rates and weights")


def occurrences_by_part(rates, weights, frames):
    """(3, k) occurrences on the test frames of fold 1, 2 and 3."""
    total = sum(frames)
    train = [np.round(rates[fold] / 100 * (total - frames[fold])).astype(int) for fold in range(3)]
    train[0] = occurrences_of_fold_1(rates[0], weights, total - frames[0])
    train[2] += (sum(train) % 2).astype(int)  # the three sum to twice the whole
    everything = sum(train) // 2
    return np.array([everything - of_fold for of_fold in train])


def lengths(total, minimum, first):
    """Lengths of sequences that sum to ``total``, at least ``minimum`` each."""
    spare = total - minimum.sum()
    room = 768 - minimum
    grown = minimum + np.floor(room * spare / room.sum()).astype(int)
    grown[: total - grown.sum()] += 1
    assert grown.sum() == total and grown.min() >= 90 and grown.max() <= 768, first
    return grown


def bp4d_sequences(part):
    """((subject, task) -> (first frame, frames)) of a part, long enough for what it must leave out."""
    removed = protocols.left_out("bp4d", "aunet")
    names = [(s, f"T{t}") for s in PROTOCOLS["bp4d-3fold"].tests[part] for t in range(1, 9)]
    ranges = [removed.get(f"{s}_{t}", ((1, 90),)) for s, t in names]
    first = np.array([max(1, min(a for a, _ in r) - 60) for r in ranges])
    minimum = np.array([max(90, max(b for _, b in r) - f + 1) for r, f in zip(ranges, first, strict=True)])
    return dict(zip(names, zip(first, lengths(BP4D_FRAMES[part], minimum, part), strict=True), strict=True))


def columns(counts, frames):
    """(frames, k) labels with that many occurrences, not all at the beginning."""
    return np.stack([(np.arange(frames) * count) // frames != (np.arange(1, frames + 1) * count) // frames
                     for count in counts], axis=1).astype(int)  # fmt: skip


@pytest.fixture(scope="module")
def bp4d_labels():
    """(subject, task) -> frame numbers (n,), labels (n, 12)."""
    counts, found = occurrences_by_part(BP4D_RATES, BP4D_WEIGHTS, BP4D_FRAMES), {}
    for part in range(3):
        labels = columns(counts[part], BP4D_FRAMES[part])
        sequences = bp4d_sequences(part)
        ends = np.cumsum([n for _, n in sequences.values()])
        for (name, (first, n)), end in zip(sequences.items(), ends, strict=True):
            found[name] = first + np.arange(n), labels[end - n : end]
    assert len(found) == 328
    return found


def check_bp4d(survey):
    for rule, expected, total in (
        ("all", [46_034, 50_182, 50_631], 146_847),
        ("landmarks", [45_809, 50_166, 50_601], 146_576),
        ("aunet", [45_795, 50_154, 50_589], 146_538),
    ):
        found = protocols.tested_frames("bp4d-3fold", survey, rule)
        assert found == expected and sum(found) == total
    check_rates(survey, "bp4d-3fold", facs.CORPUS_AUS["bp4d"], BP4D_RATES, BP4D_WEIGHTS)


def check_rates(survey, protocol, aus, rates, weights):
    of = {subject["name"]: subject for subject in survey["subjects"]}
    at = [survey["aus"].index(au) for au in aus]
    for fold, test in enumerate(PROTOCOLS[protocol].tests):
        train = [subject for name, subject in of.items() if name not in test]
        occurs = np.array([subject["occurs"] for subject in train]).sum(0)[at]
        coded = np.array([subject["coded"] for subject in train]).sum(0)[at]
        np.testing.assert_allclose(100 * occurs / coded, rates[fold], atol=0.0505)
        if fold == 0:
            np.testing.assert_allclose(losses.rate_weights(occurs, coded), weights, atol=6e-7)


def test_bp4d_from_its_label_files(bp4d_labels, tmp_path):
    folder = tmp_path / "AUCoding/AU_OCC"
    folder.mkdir(parents=True)
    header = ",".join(map(str, [0, *facs.CORPUS_AUS["bp4d"]]))
    for (subject, task), (frames, labels) in bp4d_labels.items():
        rows = np.column_stack([frames, labels])
        np.savetxt(folder / f"{subject}_{task}.csv", rows, "%d", ",", header=header, comments="")
    found = doctor.examine(bp4d.corpus(tmp_path, "jaa256"), tmp_path, labels_only=True)
    assert found.problems == []
    check_bp4d(found.survey)
    (folder / "F017_T3.csv").unlink()
    lines = doctor.examine(bp4d.corpus(tmp_path, "jaa256"), tmp_path, labels_only=True).problems
    assert len(lines) == 3 and all("scores will not be on the published frames" in line for line in lines)


def test_bp4d_from_the_lists(bp4d_labels, tmp_path):
    for part, test in enumerate(PROTOCOLS["bp4d-3fold"].tests):
        mine = {name: of for name, of in bp4d_labels.items() if name[0] in test}
        paths = [f"{s}/{t}/{frame}.jpg" for (s, t), (frames, _) in mine.items() for frame in frames]
        rows = np.concatenate([labels for _, labels in mine.values()])
        (tmp_path / f"BP4D_part{3 - part}_path.txt").write_text("\n".join(paths))
        np.savetxt(tmp_path / f"BP4D_part{3 - part}_AUoccur.txt", rows, "%d")
    found = doctor.examine(lists.corpus(tmp_path, "jaa256", "bp4d"), tmp_path, labels_only=True)
    assert found.problems == []
    check_bp4d(found.survey)


@pytest.fixture(scope="module")
def disfa_labels():
    """Subject -> (n, 8) labels."""
    counts, found = occurrences_by_part(DISFA_RATES, DISFA_WEIGHTS, DISFA_FRAMES), {}
    for part, test in enumerate(PROTOCOLS["disfa-3fold"].tests):
        labels = columns(counts[part], DISFA_FRAMES[part])
        ends = np.cumsum([4845 - (name == "SN010") for name in test])
        for name, end in zip(test, ends, strict=True):
            found[name] = labels[end - 4845 + (name == "SN010") : end]
    return found


def check_disfa(survey):
    for rule, expected, total in (
        ("all", [43_605, 43_605, 43_604], 130_814),
        ("landmarks", [42_627, 40_344, 43_173], 126_144),
        ("aunet", [42_627, 40_344, 43_173], 126_144),
    ):
        found = protocols.tested_frames("disfa-3fold", survey, rule)
        assert found == expected and sum(found) == total
    check_rates(survey, "disfa-3fold", facs.CORPUS_AUS["disfa"], DISFA_RATES, DISFA_WEIGHTS)


def test_disfa_from_its_label_files(disfa_labels, tmp_path):
    scored = facs.CORPUS_AUS["disfa"]
    for name, labels in disfa_labels.items():
        below = tmp_path / f"ActionUnit_Labels/{name}"
        below.mkdir(parents=True)
        for au in facs.DISFA_CODED_AUS:
            occurs = labels[:, scored.index(au)] if au in scored else labels[:, 0]
            # Intensities of which those from 2 on count: 1 and 2 are the neighbours of the rule.
            values = np.where(occurs, 2 + np.arange(len(labels)) % 4, np.arange(len(labels)) % 2)
            rows = (f"{frame},{value}" for frame, value in enumerate(values, 1))
            (below / f"{name}_au{au}.txt").write_text("\r\n".join(rows))
        for path in (f"Videos_LeftCamera/LeftVideo{name}_comp.avi", f"Landmark_Points/{name}/l00001_lm.mat"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
    found = doctor.examine(disfa.corpus(tmp_path, "jaa256"), tmp_path, labels_only=True)
    assert found.problems == []
    check_disfa(found.survey)


def test_disfa_from_the_lists(disfa_labels, tmp_path):
    for part, test in enumerate(PROTOCOLS["disfa-3fold"].tests):
        paths = [f"{name}/{i}.png" for name in test for i in range(len(disfa_labels[name]))]
        (tmp_path / f"DISFA_part{3 - part}_path.txt").write_text("\n".join(paths))
        rows = np.concatenate([disfa_labels[name] for name in test])
        np.savetxt(tmp_path / f"DISFA_part{3 - part}_AUoccur.txt", rows, "%d")
    found = doctor.examine(lists.corpus(tmp_path, "jaa256", "disfa"), tmp_path, labels_only=True)
    assert found.problems == []
    check_disfa(found.survey)


def test_the_frames_without_landmarks_are_counted_by_subject():
    """Of facts: 271 frames lack landmarks, AU-Net's lists lack 38 more; none twice."""

    def numbers(rule):
        ranges = protocols.left_out("bp4d", rule)
        return {
            (n, f) for n, runs in ranges.items() for a, b in runs for f in itertools.chain(range(a, b + 1))
        }

    landmarks, aunet = numbers("landmarks"), numbers("aunet")
    assert len(landmarks) == 271 and landmarks < aunet and len(aunet) == 271 + 38
