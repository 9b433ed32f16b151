"""Preparation: the same data set after any interruption, one folder one data set, nothing lost."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import simplejpeg

from data_pipelines import records
from data_pipelines.parts import Part
from data_pipelines.preparation import prepare
from data_pipelines.records import Records, read_manifest


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_records_hold_what_the_parts_held(flat_faces, make_flat_corpus):
    corpus = make_flat_corpus()
    source = Records(flat_faces, "synthetic")
    parts = [corpus.make(corpus.request, subject) for subject in range(9)]
    assert len(source) == sum(len(part.images) for part in parts) == 432
    index = 0
    for subject, part in enumerate(parts):
        for i, jpeg in enumerate(part.images):
            frame = source.frame(index)
            np.testing.assert_array_equal(frame.image, simplejpeg.decode_jpeg(jpeg))
            np.testing.assert_array_equal(frame.landmarks, part.landmarks[i])
            np.testing.assert_array_equal(frame.intensity, part.intensity[i])
            assert (frame.subject, frame.video, frame.frame) == (
                subject,
                part.video[i],
                part.frame[i],
            )
            index += 1


def test_manifest_counts_by_hand(flat_faces, make_flat_corpus):
    manifest = read_manifest(flat_faces, "synthetic")
    corpus = make_flat_corpus()
    intensity = np.concatenate([corpus.make(corpus.request, s).intensity for s in range(9)])
    assert manifest["counts"] == {"subjects": 9, "videos": 18, "records": 432}
    assert manifest["missing_labels"] == [int(au == 12) for au in manifest["aus"]]
    assert manifest["missing_landmarks"] == [48 + 24 + 5]
    assert manifest["without_centers"] == [5, 16, 18, 20, 27, 43]  # not in LAC's Table I
    coded = np.isfinite(intensity)
    np.testing.assert_allclose(manifest["base_rates"], (intensity >= 1.5).sum(0) / coded.sum(0))
    third = manifest["subjects"][2]
    assert (third["name"], third["records"]) == ("P2", 48)
    assert third["occurs"] == (intensity[96:144] >= 1.5).sum(0).tolist()
    video = manifest["videos"][4]
    assert (video["subject_name"], video["video"], video["start"]) == ("P2", 0, 96)
    assert video["frames"] == [*range(11), *range(21, 34)]
    assert manifest["alignment"] == "jaa256" and manifest["synthetic"] is True
    assert manifest["corpus"] == "synthetic" and manifest["excluded"] == []


def test_hash_sees_the_records_and_what_they_mean():
    record = {
        "image": b"jpeg",
        "landmarks": np.ones((98, 2), np.float32),
        "au_intensity": np.full(2, 2.0, np.float32),
        "subject": 0,
        "video": 0,
        "frame": 7,
    }
    variants = [
        {},
        {"image": b"JPEG"},
        {"landmarks": np.zeros((98, 2), np.float32)},
        {"au_intensity": np.array([2.0, 1.0], np.float32)},
        {"subject": 1},
        {"video": 1},
        {"frame": 8},
    ]
    described = {"aus": [1, 2], "label_rule": {"min_intensity": 1.5}, "folds": {"p": [["A"], ["B"]]}}
    meanings = [
        {"aus": [1, 4]},
        {"label_rule": {"min_intensity": 2}},
        {"folds": {"p": [["B"], ["A"]]}},
        {"alignment": "jaa200"},
    ]
    names = ["A", "B"]
    hashes = [records.summarize([{**record, **v}], described, names)["hash"] for v in variants]
    hashes += [records.summarize([record], {**described, **m}, names)["hash"] for m in meanings]
    hashes.append(records.summarize([record], described, ["A", "C"])["hash"])
    assert len(set(hashes)) == len(variants) + len(meanings) + 1


def test_a_second_run_has_nothing_to_do(new_flat_faces, make_flat_corpus):
    before = contents(new_flat_faces)
    assert prepare(make_flat_corpus(), new_flat_faces, workers=1) is False
    assert contents(new_flat_faces) == before


def test_other_arguments_are_refused_and_nothing_is_lost(new_flat_faces, make_flat_corpus):
    before = contents(new_flat_faces)
    with pytest.raises(ValueError, match=r"made with level=1, now asked is level=2: .*--data_dir"):
        prepare(make_flat_corpus(level=2), new_flat_faces, workers=1)
    assert contents(new_flat_faces) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path, make_flat_corpus):
    (tmp_path / "synthetic").mkdir()
    (tmp_path / "synthetic" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="no finished data set"):
        prepare(make_flat_corpus(), tmp_path, workers=1)
    assert (tmp_path / "synthetic" / "thesis.txt").read_text() == "mine"


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, flat_faces, make_flat_corpus):
    whole = make_flat_corpus()
    made = []

    def make(request, subject):
        if not made.count(subject) and subject == 4:
            made.append(subject)
            raise KeyboardInterrupt
        made.append(subject)
        return whole.make(request, subject)

    corpus = dataclasses.replace(whole, make=make)
    with pytest.raises(KeyboardInterrupt):
        prepare(corpus, tmp_path, workers=1)
    assert not (tmp_path / "synthetic").exists()
    # What a kill in the middle of a write, and one while assembling, leave behind:
    unfinished = tmp_path / "synthetic.unfinished"
    (unfinished / "parts" / "00004.npz.99.partial").write_bytes(b"half")
    (unfinished / "assembly" / "synthetic" / "incomplete.X_1.0.0").mkdir(parents=True)
    (unfinished / "assembly" / "synthetic" / "incomplete.X_1.0.0" / "shard").write_bytes(b"half")
    with pytest.raises(ValueError, match="was begun with level=1, now asked is level=2"):
        prepare(make_flat_corpus(level=2), tmp_path, workers=1)
    assert prepare(corpus, tmp_path, workers=1) is True
    assert made == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8]  # what was finished is not made again
    assert not unfinished.exists()
    assert contents(tmp_path / "synthetic") == contents(flat_faces / "synthetic")


def test_a_kill_between_moving_and_cleaning_up(new_flat_faces, make_flat_corpus):
    left = new_flat_faces / "synthetic.unfinished"
    left.mkdir()
    (left / "request.json").write_text(json.dumps({"level": 1}))
    assert prepare(make_flat_corpus(), new_flat_faces, workers=1) is False
    assert not left.exists()


def test_labels_and_frames_of_different_length():
    with pytest.raises(ValueError, match=r"3 frames, 3 landmarks, 2 labels, .*as many of each"):
        Part([b""] * 3, np.zeros((3, 98, 2)), np.zeros((2, 21)), np.zeros(3), np.zeros(3))


def test_check_finds_nothing_wrong(flat_faces):
    assert records.check(flat_faces, "synthetic") == []


def test_check_finds_a_changed_manifest(new_flat_faces):
    path = new_flat_faces / "synthetic" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["hash"] = "0" * 64
    manifest["subjects"][1]["occurs"][0] += 1
    path.write_text(json.dumps(manifest))
    problems = records.check(new_flat_faces, "synthetic")
    assert [problem.split(":")[0] for problem in problems] == ["hash", "subjects"]


def test_manifest_with_another_number_of_frames(new_flat_faces):
    path = new_flat_faces / "synthetic" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["videos"][3]["frames"].pop()
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="lists 431 frames, the records hold 432; .*prepare it"):
        Records(new_flat_faces, "synthetic")


def test_manifest_with_another_number_of_aus(new_flat_faces):
    path = new_flat_faces / "synthetic" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["aus"].pop()
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="lists 20 AUs, the records hold 21 intensities"):
        Records(new_flat_faces, "synthetic")


def test_unreadable_pictures_are_named(truncated):
    source = Records(truncated, "synthetic")
    with pytest.raises(ValueError, match=r"record 5 \(subject P0, video 0, frame 5\).*whole JPEG"):
        source.frame(5)
    with pytest.raises(ValueError, match=r"record 50 .*64 x 64 pixels.*launch.prepare --corpus=syn"):
        source.frame(50)
    assert source.frame(4).frame == 4
    problems = records.check(truncated, "synthetic")
    assert [problem.split(" (")[0] for problem in problems] == ["record 5", "record 50"]


def test_records_travel_to_another_process(flat_faces):
    source = Records(flat_faces, "synthetic")
    content = pickle.dumps(source)
    assert len(content) < 100_000
    np.testing.assert_array_equal(pickle.loads(content).frame(77).image, source.frame(77).image)


def test_no_data_set(tmp_path):
    command = r"python -m launch.prepare --corpus=synthetic --data_dir=.*"
    with pytest.raises(ValueError, match=rf"{tmp_path}/synthetic: holds no .*{command}"):
        Records(tmp_path, "synthetic")
