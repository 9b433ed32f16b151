"""Folds: pinned lists, subject-exclusive splits, and clear refusals."""

import pytest

from data_pipelines import protocols
from data_pipelines.protocols import PROTOCOLS, Protocol, describe, folds, split_subjects


def manifest(subjects, corpus="synthetic", parts=None):
    return {
        "corpus": corpus,
        "subjects": [{"name": name} for name in subjects],
        "videos": [{"subject_name": name, "frames": list(range(10 + i))} for i, name in enumerate(subjects)],
        "folds": {"synthetic-3fold": parts},
    }


NAMES = [f"S{i:02d}" for i in range(12)]
FACES = manifest(NAMES, parts=[NAMES[:4], NAMES[4:8], NAMES[8:]])


def listed(name):
    return [subject for test in PROTOCOLS[name].tests for subject in test]


def of_corpus(name):
    return manifest(listed(name), PROTOCOLS[name].corpus)


@pytest.mark.parametrize(
    ("name", "sizes", "first_of_fold_1", "frames"),
    [("bp4d-3fold", (13, 14, 14), "F007", 146_847), ("disfa-3fold", (9, 9, 9), "SN003", 130_814)],
)
def test_published_lists(name, sizes, first_of_fold_1, frames):
    tests = folds(name, of_corpus(name))
    assert tuple(map(len, tests)) == sizes
    assert tests[0][0] == first_of_fold_1  # ME-GraphAU: fold 1 tests part 3
    assert sum(PROTOCOLS[name].test_frames["all"]) == frames


def test_the_listed_landmarks_of_disfa_leave_the_published_frames():
    """4,845 frames of each subject but SN010, who has one fewer."""
    bad = protocols.left_out("disfa", "landmarks")
    frames = {name: list(range(1, 4846 - (name == "SN010"))) for name in listed("disfa-3fold")}
    counts = {name: int(protocols.kept(numbers, bad.get(name, ())).sum()) for name, numbers in frames.items()}
    assert [sum(counts[name] for name in test) for test in PROTOCOLS["disfa-3fold"].tests] == [
        42_627,
        40_344,
        43_173,
    ]
    assert sum(map(len, frames.values())) == 130_814 and sum(counts.values()) == 126_144
    assert counts["SN001"] == 4845 - 23 - 54  # both ends of a range are included
    assert counts["SN021"] == 4845 - 43 - 180 - 16 - 34 - 46 - 616 - 2104 - 13


def test_a_whole_corpus_is_as_published_and_a_shorter_one_is_not():
    videos = [
        {"subject_name": name, "frames": list(range(1, 4846 - (name == "SN010")))}
        for name in listed("disfa-3fold")
    ]
    whole = {**of_corpus("disfa-3fold"), "videos": videos}
    assert protocols.unexpected(whole) == []
    videos[0]["frames"].pop()
    every, landmarks = protocols.unexpected(whole)
    assert "'all': the folds test 43,604 + 43,605 + 43,604 = 130,813 frames, the whole corpus" in every
    assert "'landmarks': the folds test 42,626 + 40,344 + 43,173 = 126,143 frames" in landmarks
    whole["subjects"].pop()
    (line,) = protocols.unexpected(whole)
    assert "are not in the data set" in line


def test_frame_rules_are_described():
    known = {p["protocol"]: p for p in describe({})}
    assert known["disfa-3fold"]["folds"][1]["frames"] == {
        "all": {"test": 43_605, "train": 87_209},
        "landmarks": {"test": 40_344, "train": 85_800},
    }


def test_bp4d_has_all_41_subjects_and_disfa_its_27():
    bp4d = {s for fold in PROTOCOLS["bp4d-3fold"].tests for s in fold}
    assert bp4d == {f"F{i:03d}" for i in range(1, 24)} | {f"M{i:03d}" for i in range(1, 19)}
    disfa = {s for fold in PROTOCOLS["disfa-3fold"].tests for s in fold}
    absent = {14, 15, 19, 20, 22}
    assert disfa == {f"SN{i:03d}" for i in range(1, 33) if i not in absent}


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_split_is_a_partition(fold):
    split = split_subjects(FACES, "synthetic-3fold", fold, inner_fraction=0.25, seed=0)
    assert split.test == tuple(NAMES[4 * (fold - 1) : 4 * fold])
    assert len(split.inner) == 2
    assert sorted(split.train + split.inner + split.test) == NAMES


def test_inner_subjects_depend_on_the_seed_alone():
    inner = [split_subjects(FACES, "synthetic-3fold", 1, 0.25, seed).inner for seed in range(8)]
    again = [split_subjects(FACES, "synthetic-3fold", 1, 0.25, seed).inner for seed in range(8)]
    assert inner == again
    assert len(set(inner)) > 2


def test_a_small_fraction_holds_back_one_subject_and_none_holds_back_none():
    assert len(split_subjects(FACES, "synthetic-3fold", 1, 0.01, 0).inner) == 1
    assert split_subjects(FACES, "synthetic-3fold", 1, 0.0, 0).inner == ()


def test_unknown_protocol_lists_the_known():
    with pytest.raises(ValueError, match=r"'bp4d-5fold'.*bp4d-3fold.*disfa-3fold.*synthetic-3fold"):
        folds("bp4d-5fold", FACES)


def test_protocol_of_another_corpus():
    with pytest.raises(ValueError, match="belongs to the corpus 'disfa', the data set is 'synth"):
        folds("disfa-3fold", FACES)


@pytest.mark.parametrize("fold", [0, 4])
def test_fold_out_of_range(fold):
    with pytest.raises(ValueError, match=f"fold {fold}: .*folds 1 to 3"):
        split_subjects(FACES, "synthetic-3fold", fold, 0.2, 0)


def test_overlapping_folds_name_the_subjects():
    parts = [NAMES[:5], NAMES[4:8], [*NAMES[8:], "S00"]]
    with pytest.raises(ValueError, match=r"\['S00', 'S04'\] are in more than one fold"):
        folds("synthetic-3fold", manifest(NAMES, parts=parts))


def test_subject_in_no_fold_is_named():
    parts = [NAMES[:4], NAMES[4:8], NAMES[8:11]]
    with pytest.raises(ValueError, match=r"\['S11'\] of the data set are in no fold"):
        folds("synthetic-3fold", manifest(NAMES, parts=parts))


def test_listed_subject_that_is_not_there_is_named():
    short = of_corpus("disfa-3fold")
    short["subjects"] = [s for s in short["subjects"] if s["name"] != "SN010"]
    with pytest.raises(ValueError, match=r"\['SN010'\] are not in the data set"):
        folds("disfa-3fold", short)


def test_a_fraction_that_leaves_nobody():
    three = manifest(NAMES[:3], parts=[[n] for n in NAMES[:3]])
    with pytest.raises(ValueError, match="holds back 2 of 2 training subjects of fold 1"):
        split_subjects(three, "synthetic-3fold", 1, 0.8, 0)


def test_describe_counts_frames_per_fold():
    known = {p["protocol"]: p for p in describe({"synthetic": FACES})}
    assert [f["test_frames"] for f in known["synthetic-3fold"]["folds"]] == [46, 62, 78]
    assert [f["train_frames"] for f in known["synthetic-3fold"]["folds"]] == [140, 124, 108]
    fold_1 = known["bp4d-3fold"]["folds"][0]
    assert (fold_1["test_frames"], fold_1["train_frames"]) == (46_034, 100_813)
    assert len(fold_1["train"]) == 28
    assert {p["protocol"]: p["folds"] for p in describe({})}["synthetic-3fold"] == []


def test_a_protocol_in_code_may_not_overlap_either(monkeypatch):
    monkeypatch.setitem(protocols.PROTOCOLS, "twice", Protocol("x", (("A", "B"), ("B",))))
    with pytest.raises(ValueError, match=r"\['B'\] are in more than one fold"):
        folds("twice", manifest(["A", "B"], "x"))


@pytest.mark.parametrize("name", ["bp4d-3fold", "disfa-3fold", "synthetic-3fold"])
def test_a_redraw_is_a_partition_of_equal_folds_that_follows_from_its_seed(name):
    data = FACES if name == "synthetic-3fold" else of_corpus(name)
    own = folds(name, data)
    redraws = [folds(name, data, fold_seed=seed) for seed in range(1, 6)]
    for drawn in redraws:
        assert sorted(s for test in drawn for s in test) == sorted(s for test in own for s in test)
        sizes = sorted(map(len, drawn))
        assert len(drawn) == len(own) and sizes[-1] - sizes[0] <= 1
    assert redraws == [folds(name, data, fold_seed=seed) for seed in range(1, 6)]
    partitions = {frozenset(map(frozenset, drawn)) for drawn in [own, *redraws]}
    assert len(partitions) == 6  # other groups of subjects, not only other numbers of the same groups
    assert folds(name, data, fold_seed=0) == own


def test_redrawn_folds_share_the_strata_evenly():
    attributes = {
        name: {"sex": "fm"[i % 2], "skin tone": "ld"[i % 4 // 2], "glasses": "no"}
        for i, name in enumerate(NAMES)
    }
    data = FACES | {"attributes": attributes}
    for seed in range(1, 9):
        drawn = folds("synthetic-3fold", data, seed)
        for test in drawn:
            cells = sorted(attributes[name]["sex"] + attributes[name]["skin tone"] for name in test)
            assert cells == ["fd", "fl", "md", "ml"]  # 12 subjects, 3 of each kind, 3 folds
    assert len({folds("synthetic-3fold", data, seed) for seed in range(1, 9)}) == 8
    alone = FACES | {"attributes": {name: {"sex": name} for name in NAMES}}  # nobody is like anybody else
    assert len({folds("synthetic-3fold", alone, seed) for seed in range(1, 9)}) > 6


def test_inner_subjects_of_a_redraw_are_of_its_own_training_subjects():
    for seed in range(1, 4):
        split = split_subjects(FACES, "synthetic-3fold", 2, 0.25, 0, fold_seed=seed)
        assert split.test == folds("synthetic-3fold", FACES, seed)[1]
        assert len(split.inner) == 2 and sorted(split.train + split.inner + split.test) == NAMES


def test_everyone_is_tested_and_nobody_trains():
    for data in (FACES, of_corpus("disfa-3fold")):
        split = split_subjects(data, protocols.EVERYONE, 1, 0.2, 0)
        assert split.test == tuple(sorted(s["name"] for s in data["subjects"]))
        assert split.train == split.inner == ()
    assert protocols.EVERYONE not in {p["protocol"] for p in describe({})}
