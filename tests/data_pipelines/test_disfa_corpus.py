"""DISFA from its owner's layout: right frames, labels and landmarks, and every fault counted and named."""

import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from disfa_folder import COUNTED_FROM_1, FACES, FRAMES, MARKED, NAMES, OF_68, intensities

from data_pipelines import listing, protocols
from data_pipelines.corpora import disfa
from data_pipelines.loader import make_data
from data_pipelines.preparation import prepare
from data_pipelines.records import Records, check
from data_pipelines.synthetic import SynthFaces
from jaxau import facs
from jaxau.config import Config, DataConfig, Stage
from jaxau.faces.align import align, transform_points
from jaxau.faces.video import open_video

ROOT = Path(__file__).resolve().parents[2]
CODED = facs.DISFA_CODED_AUS


@pytest.fixture(scope="module")
def source(disfa_data):
    return Records(disfa_data, "disfa")


@pytest.fixture(scope="module")
def frames(source):
    """(name of the subject, frame number) -> record."""
    names = [subject["name"] for subject in source.manifest["subjects"]]
    found = [source.frame(index) for index in range(len(source))]
    return {(names[frame.subject], frame.frame): frame for frame in found}


@pytest.fixture
def one_subject(disfa_raw, tmp_path):
    """A copy of SN002's files, which a test may damage."""
    for path in disfa_raw.rglob("*SN002*"):
        if path.is_file() and "SN002" in path.name:
            copy = tmp_path / path.relative_to(disfa_raw)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return tmp_path


def part_of(folder):
    corpus = disfa.corpus(folder, "jaa256")
    return corpus.make(corpus.request, 0)


def config(**data):
    fields = {"image_size": 32, "clip_length": 8, "subsequences": 2, **data}
    return Config(
        name="lac",
        data=DataConfig("disfa", facs.CORPUS_AUS["disfa"], "disfa-3fold", **fields),
        stages={"frames": Stage("frames", 1, 8), "clips": Stage("clips", 1, 4)},
    )


def test_every_fault_is_counted_and_named(source):
    manifest = source.manifest
    assert manifest["counts"] == {"subjects": 27, "videos": 27, "records": 27 * 24 - 6}
    found = {
        (e["subject"], e["what"], *e["aus"], *itertools.chain(*e["frames"])): e for e in manifest["excluded"]
    }
    expected = {
        ("SN003", "frame", 3, 3): (1, "no landmark file"),
        ("SN003", "frame", 22, 22): (1, "the landmark file is empty"),
        ("SN003", "frame", 23, 23): (1, "landmarks of shape (65, 2), must be (66, 2) numbers"),
        ("SN006", "label", 4, 24, 24): (1, "no row in SN006_au4.txt"),
        ("SN006", "label", 20, 1, 24): (24, "not coded: no file SN006_au20.txt"),
        ("SN008", "label", 1, 2, 2): (1, "intensity '7' in SN008_au1.txt, must be 0 to 5"),
        ("SN008", "label", 2): (0, "line 5 of SN008_au2.txt is '#', not frame,intensity"),
        ("SN008", "label", 2, 5, 5): (1, "no row in SN008_au2.txt"),
        ("SN010", "frame", 24, 24): (1, "no row in any label file"),
        ("SN013", "frame", 23, 24): (2, "no picture: the video has 22 frames"),
    }
    assert {key: (e["count"], e["reason"]) for key, e in found.items()} == expected
    assert manifest["substituted"] == []
    assert manifest["missing_labels"] == [{1: 1, 2: 1, 4: 1, 20: 24}.get(au, 0) for au in CODED]
    assert manifest["missing_landmarks"] == []


def test_all_other_frames_are_there_with_the_owners_numbers(frames):
    gone = {("SN003", 3), ("SN003", 22), ("SN003", 23), ("SN010", 24), ("SN013", 23), ("SN013", 24)}
    assert frames.keys() == set(itertools.product(NAMES, range(1, FRAMES + 1))) - gone


def test_labels_are_those_of_the_files(frames):
    masked = {("SN006", 24, 4), ("SN008", 2, 1), ("SN008", 5, 2), *(("SN006", f, 20) for f in range(1, 25))}
    for subject, name in enumerate(NAMES):
        written = intensities(subject)
        for frame in range(1, FRAMES + 1):
            for column, au in enumerate(CODED):
                if (name, frame) in frames:
                    expected = np.nan if (name, frame, au) in masked else written[frame - 1, column]
                    np.testing.assert_equal(frames[name, frame].intensity[column], np.float32(expected))


def test_an_au_occurs_from_intensity_2_on(disfa_raw, source, disfa_data):
    assert source.manifest["label_rule"] == {"min_intensity": 2.0}
    text = (disfa_raw / "ActionUnit_Labels/SN023/SN023_au12.txt").read_text()
    values = [int(line.split(",")[1]) for line in text.splitlines()]
    by_hand = [value >= 2 for value in values]
    subject = source.manifest["subjects"][NAMES.index("SN023")]
    assert {1, 2} <= set(values)  # or the rule would not show
    assert subject["occurs"][CODED.index(12)] == sum(by_hand)
    data = make_data(config(), disfa_data)
    column = facs.CORPUS_AUS["disfa"].index(12)
    found = [
        bool(batch["au"][i, column])
        for batch in data.evaluate("frames", "test", 8)
        for i in np.flatnonzero(batch["mask"] & (batch["subject"] == NAMES.index("SN023")))
    ]
    assert found == by_hand


def test_landmarks_lie_on_the_face(frames):
    """On the green dots that are painted on nose tip and mouth corners, as seen in the aligned picture."""
    name, points = MARKED
    for number in (1, 12, 24):
        frame = frames[name, number]
        red, green, blue = np.moveaxis(frame.image.astype(int), -1, 0)
        dots = green - np.maximum(red, blue) > 90
        y, x = np.nonzero(dots)
        nearest = np.stack([frame.landmarks[OF_68.index(point)] for point in points])
        owner = np.argmin(np.hypot(x[:, None] - nearest[:, 0], y[:, None] - nearest[:, 1]), axis=1)
        for i, point in enumerate(nearest):
            mine = owner == i
            assert mine.sum() > 40
            assert np.hypot(x[mine].mean() - point[0], y[mine].mean() - point[1]) < 1.0


@pytest.mark.parametrize("name", ["SN001", "SN004", "SN010", "SN028"])
def test_landmarks_and_pictures_are_of_the_same_frame(frames, name):
    assert (name in COUNTED_FROM_1) == (name in ("SN010", "SN028"))
    truth = SynthFaces(FACES).clip(NAMES.index(name), 0)
    crops, landmarks = [], []
    for frame in truth:
        crop, matrix = align(frame.image, frame.lm68[OF_68], "jaa256")
        crops.append(crop.astype(int))
        landmarks.append(transform_points(frame.lm68[OF_68], matrix))
    for number in (1, 2, 13, 23):
        record = frames[name, number]
        np.testing.assert_allclose(record.landmarks, landmarks[number - 1], atol=2e-3)
        error = [np.abs(crop - record.image).mean() for crop in crops]
        if name != MARKED[0]:
            assert np.argmin(error) == number - 1 and min(error) < 4


def test_folds_and_batches(disfa_data, source):
    tests = protocols.folds("disfa-3fold", source.manifest)
    assert [len(test) for test in tests] == [9, 9, 9]
    data = make_data(config(fold=2), disfa_data)
    assert set(data.split.test) == set(tests[1]) and len(data.split.train) == 14
    batch = next(iter(data.train("clips")))
    assert batch["landmarks"].shape == (4, 8, 66, 2) and batch["au_centers_mask"].all()
    assert (np.diff(batch["frame"], axis=1) == 1).all()


def test_two_naming_conventions_are_detected_by_file(one_subject):
    before = part_of(one_subject)
    folder = one_subject / "Landmark_Points/SN002/tmp_frame_lm"
    for path in sorted(folder.iterdir())[10:]:
        path.rename(folder / f"l0{int(path.name[6:10]) + 1:04d}_lm.mat")
    after = part_of(one_subject)
    assert not after.remarks
    np.testing.assert_array_equal(before.landmarks, after.landmarks)


def test_the_file_that_the_distribution_lacks_is_taken_from_the_frame_before(one_subject, monkeypatch):
    whole = part_of(one_subject)
    (one_subject / "Landmark_Points/SN002/tmp_frame_lm/SN002_0010_lm.mat").unlink()
    assert 11 not in part_of(one_subject).frame
    monkeypatch.setattr(disfa, "_SAME_LANDMARKS", {("SN002", 11): 10})
    part = part_of(one_subject)
    (remark,) = part.remarks
    assert (remark.what, remark.frames) == ("landmarks", (11,)) and "frame 10's" in remark.reason
    assert part.frame.tolist() == list(range(1, 25))
    np.testing.assert_array_equal(part.landmarks[10], whole.landmarks[9])
    np.testing.assert_array_equal(part.intensity, whole.intensity)


def save(path, **variables):
    scipy.io.savemat(path, variables)


DAMAGES = {
    "not a .mat": (lambda p: p.write_bytes(b"pts" * 100), "the landmark file cannot be read"),
    "cut off": (lambda p: p.write_bytes(p.read_bytes()[:200]), "the landmark file cannot be read"),
    "another variable": (lambda p: save(p, points=np.ones((66, 2))), "has no variable 'pts'"),
    "text": (lambda p: save(p, pts="none"), "landmarks of shape (1,), must be (66, 2) numbers"),
    "a point missing": (lambda p: save(p, pts=np.full((66, 2), np.nan)), "66 of 66 points missing"),
    "all at one place": (lambda p: save(p, pts=np.full((66, 2), 40.0)), "eye centres 0 pixels apart"),
    "elsewhere": (lambda p: save(p, pts=np.arange(132.0).reshape(66, 2) + 500), "outside the picture"),
    "twice": (lambda p: shutil.copy(p, p.with_name("l00007_lm.mat")), "2 landmark files"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_landmarks_leave_their_frame_out(one_subject, damage):
    harm, reason = DAMAGES[damage]
    harm(one_subject / "Landmark_Points/SN002/tmp_frame_lm/SN002_0006_lm.mat")
    part = part_of(one_subject)
    (remark,) = part.remarks
    assert (remark.what, remark.frames) == ("frame", (7,)) and reason in remark.reason
    assert part.frame.tolist() == [n for n in range(1, 25) if n != 7]


def test_a_damaged_video_loses_only_what_cannot_be_read(one_subject):
    path = one_subject / "Videos_LeftCamera/LeftVideoSN002_comp.avi"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    part = part_of(one_subject)
    good = len(part.frame)
    assert 5 < good < 23 and part.frame.tolist() == list(range(1, good + 1))
    (remark,) = part.remarks
    assert remark.frames == tuple(range(good + 1, 25)) and remark.reason.startswith("no picture: ")


def test_a_decoding_error_is_the_reason_for_all_later_frames(one_subject, monkeypatch):
    def damaged(path):
        yield from itertools.islice(open_video(path), 10)
        raise ValueError(f"{path}: damaged after frame 9 (invalid data)")

    monkeypatch.setattr(listing, "open_video", damaged)
    part = part_of(one_subject)
    assert part.frame.tolist() == list(range(1, 11))
    (remark,) = part.remarks
    assert remark.frames == tuple(range(11, 25))
    # Without the folder, which would be a machine's path in the manifest.
    assert remark.reason == "no picture: LeftVideoSN002_comp.avi: damaged after frame 9 (invalid data)"


def test_a_frame_whose_labels_are_all_invalid_is_left_out(one_subject):
    for path in one_subject.glob("ActionUnit_Labels/SN002/*.txt"):
        rows = path.read_text().splitlines()
        path.write_text("\n".join([*rows[:3], "4,9", *rows[4:], "8,0"]))
    part = part_of(one_subject)
    assert 4 not in part.frame and 8 not in part.frame
    left_out = {r.reason: r.frames for r in part.remarks if r.what == "frame"}
    assert left_out == {"no valid label": (4, 8)}
    assert sum(r.reason.startswith("more than one row") for r in part.remarks) == 12


def test_a_subject_of_whom_nothing_can_be_used(one_subject):
    for path in one_subject.rglob("*_lm.mat"):
        path.write_bytes(b"")
    part = part_of(one_subject)
    assert not part.images and len(part.intensity) == 0
    (remark,) = part.remarks
    assert remark.subject == "SN002" and remark.frames == tuple(range(1, 25))
    assert remark.reason == "the landmark file is empty"
    next(one_subject.rglob("*.avi")).write_bytes(b"not a video")
    (remark,) = part_of(one_subject).remarks
    assert remark.frames == tuple(range(1, 25))
    assert remark.reason.startswith("no picture: LeftVideoSN002_comp.avi: not a video that can be read")
    with pytest.raises(ValueError, match=r"disfa: no frame can be used \(no picture: LeftVideoSN002"):
        prepare(disfa.corpus(one_subject, "jaa256"), one_subject / "data", workers=1)
    # What was found out about a folder is not remembered when it is mended.
    assert not list((one_subject / "data").rglob("*.npz"))


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(ValueError, match=r"Looked for ActionUnit_Labels/.*Found there: no such folder"):
        disfa.corpus(tmp_path / "nowhere", "jaa256")
    with pytest.raises(ValueError, match=r"LeftVideoSN001_comp.avi .*Found there: nothing\. Unpack"):
        disfa.corpus(tmp_path, "jaa256")
    (tmp_path / "BP4D.zip").touch()
    with pytest.raises(ValueError, match=r"\(0 subjects\).*Found there: BP4D\.zip\."):
        disfa.corpus(tmp_path, "jaa256")


def test_subjects_without_video_or_landmarks_are_all_listed(disfa_raw, tmp_path):
    shutil.copytree(
        disfa_raw, tmp_path / "D", ignore=shutil.ignore_patterns("*SN004_*.avi", "SN007_*_lm.mat")
    )
    with pytest.raises(ValueError, match="SN004: no Videos_LeftCamera; SN007: no Landmark_Points"):
        disfa.corpus(tmp_path / "D", "jaa256")


def test_a_frame_rule_drops_frames_from_batches_and_counts(disfa_data, monkeypatch, source, frames):
    monkeypatch.setitem(protocols.FRAME_RULES, "disfa", {"landmarks": {"SN002": ((1, 9), (22, 22))}})
    everything, fewer = (make_data(config(fold=1, frames=rule), disfa_data) for rule in ("all", "landmarks"))
    assert everything.split == fewer.split
    part = next(p for p in ("train", "inner") if "SN002" in getattr(fewer.split, p))
    kept = []
    for batch in fewer.evaluate("clips", part, 4):
        assert all((np.diff(f[m]) == 1).all() for f, m in zip(batch["frame"], batch["mask"], strict=True))
        mine = batch["mask"] & (batch["subject"] == NAMES.index("SN002"))
        kept += batch["frame"][mine].tolist()
    assert kept == [*range(10, 22), 23, 24]
    assert protocols.tested_frames("disfa-3fold", source.manifest, "landmarks") == [213, 214, 205]

    seed = next(s for s in range(9) if "SN002" in protocols.split_subjects(
        source.manifest, "disfa-3fold", 1, 0.2, s).train)  # fmt: skip
    fewer = make_data(Config(**{**vars(config(fold=1, frames="landmarks")), "seed": seed}), disfa_data)
    columns = [CODED.index(au) for au in facs.CORPUS_AUS["disfa"]]
    trained = [
        frame.intensity[columns]
        for (name, number), frame in frames.items()
        if name in fewer.split.train and (name != "SN002" or number in kept)
    ]
    assert fewer.statistics["n"] == len(trained)
    np.testing.assert_array_equal(fewer.statistics["n_occ"], (np.array(trained) >= 2).sum(0))
    np.testing.assert_array_equal(fewer.statistics["n_coded"], np.isfinite(trained).sum(0))
    drawn = itertools.islice(fewer.train("clips"), 4 * fewer.num_examples("clips"))
    for batch in drawn:
        assert (np.diff(batch["frame"], axis=1) == 1).all()
        mine = batch["subject"] == NAMES.index("SN002")
        assert not mine.any() or (batch["frame"][mine].min() >= 10 and batch["frame"][mine].max() <= 21)


def test_a_rule_that_a_corpus_does_not_have(tiny_faces):
    data = DataConfig("synthetic", (1, 2), "synthetic-3fold", frames="landmarks")
    with pytest.raises(ValueError, match=r"config.data.frames='landmarks': .*'synthetic' .*only \['all'\]"):
        make_data(Config("lac", data, {"frames": Stage("frames", 1, 8)}), tiny_faces)


def launch(*arguments):
    command = [sys.executable, "-m", "launch.prepare", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_killed_and_started_again_the_launcher_makes_the_same_data_set(tmp_path, disfa_raw, disfa_data):
    arguments = ["--corpus=disfa", f"--raw_dir={disfa_raw}", f"--data_dir={tmp_path}", "--workers=2"]
    command = [sys.executable, "-m", "launch.prepare", *arguments]
    first = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    parts = tmp_path / "disfa.unfinished" / "parts"
    deadline = time.monotonic() + 120
    while not list(parts.glob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.002)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "disfa").exists()
    assert 1 <= len(list(parts.glob("*.npz"))) < 27
    again = launch(*arguments)
    assert again.returncode == 0, again.stderr
    assert "prepared 642 frames of 27 videos of 27 subjects" in again.stdout
    assert "frames left out: 1 (the landmark file is empty)" in again.stderr
    assert "labels masked: 24 (not coded: no file SN006_au20.txt)" in again.stderr
    assert "213 + 214 + 215 = 642 frames, the whole corpus has 43,605 + 43,605 + 43,604" in again.stderr
    manifests = [json.loads((d / "disfa/manifest.json").read_text()) for d in (tmp_path, disfa_data)]
    assert manifests[0] == manifests[1] and str(disfa_raw) not in json.dumps(manifests[0])
    assert check(tmp_path, "disfa") == []
    checked = launch("--corpus=disfa", f"--data_dir={tmp_path}", "--check")
    assert checked.returncode == 1 and "records and manifest agree" in checked.stdout
    assert "213 + 214 + 215 = 642 frames, the whole corpus has 43,605" in checked.stderr
    checked = launch("--corpus=disfa", f"--data_dir={tmp_path}", "--check", "--go_on")
    assert checked.returncode == 0 and "warning: protocol 'disfa-3fold'" in checked.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus=disfa"], "--raw_dir: give the folder of disfa"),
        (["--corpus=disfa", "--raw_dir=x", "--subjects=3"], "--subjects: only for --corpus=synthetic"),
        (["--corpus=synthetic", "--raw_dir=x"], "--raw_dir: synthetic faces are drawn"),
        (["--corpus=disfa", "--raw_dir=x"], "--raw_dir=x: not DISFA as its owner ships it"),
    ],
)  # fmt: skip
def test_the_launcher_refuses(tmp_path, arguments, message):
    done = launch(*arguments, f"--data_dir={tmp_path}")
    assert done.returncode == 1 and f"error: {message}" in done.stderr
    assert not list(tmp_path.iterdir())
