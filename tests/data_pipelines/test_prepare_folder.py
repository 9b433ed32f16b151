"""The launcher on a folder of videos: a data set by one command, the doctor, kills, memory."""

import csv
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from corpus_folders import faces, write_landmarks, write_video

from data_pipelines import doctor
from data_pipelines.corpora import open_corpus
from data_pipelines.face_source import FaceSource
from data_pipelines.records import Records

pytest.importorskip("av", reason="videos are read and written with PyAV: pip install jaxau[video]")

ROOT = Path(__file__).resolve().parents[2]
SUBJECTS = 10


def write_folder(folder, videos=SUBJECTS, repeats=1):
    """Ten videos of synthetic faces, one person each, with labels and a table of landmarks."""
    rows, table = [], []
    for i in range(videos):
        clip = faces(i) * repeats
        name = f"visit{i % 2}/person{i}.mp4"
        write_video(folder / name, [face.image for face in clip])
        for t, face in enumerate(clip):
            rows.append([name, t, f"P{i}", int((t + i) % 3 == 0), round(float(face.au[9]), 2)])
            table.append((name, t, face.lm68))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["video", "frame", "subject", "AU12_c", "AU14_r"], *rows])
    write_landmarks(folder / "landmarks.csv", table)
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("mine"))


def launch(*arguments):
    command = [sys.executable, "-m", "launch.prepare", "--corpus=folder", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    done = launch(f"--raw_dir={raw}", f"--data_dir={data}", f"--landmarks={raw}/landmarks.csv", "--workers=1")
    assert done.returncode == 0, done.stderr
    assert "prepared 80 frames of 10 videos of 10 subjects" in done.stdout
    return data


def test_the_data_set_is_whole(prepared, raw):
    manifest = Records(prepared, "folder").manifest
    assert [video["video_name"] for video in manifest["videos"]][:2] == [
        "visit0/person0.mp4",
        "visit1/person1.mp4",
    ]
    assert manifest["landmarks"] == 68 and str(raw) not in json.dumps(manifest)
    assert [s["occurs"][0] for s in manifest["subjects"]] == [
        sum((t + i) % 3 == 0 for t in range(8)) for i in range(10)
    ]
    checked = launch(f"--data_dir={prepared}", "--check")
    assert checked.returncode == 0, checked.stderr
    assert "records and manifest agree" in checked.stdout and "80 frames of 10 videos of 10" in checked.stdout
    assert "AU12   33.8 % of 80 coded frames" in checked.stdout


def test_the_command_of_the_readme(raw, tmp_path, shared):
    text = (ROOT / "README.md").read_text()
    (line,) = [line for line in text.splitlines() if "launch.prepare --corpus=folder" in line]
    weights = shared / "weights/yunet_n_640_640.onnx"
    for name, path in (("=mine", raw), ("=data", tmp_path), ("=yunet.onnx", weights)):
        assert line.count(name) == 1
        line = line.replace(name, f"={path}")
    command = shlex.split(line)
    assert command[0] == "python"
    done = subprocess.run([sys.executable, *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    manifest = Records(tmp_path, "folder").manifest
    assert manifest["counts"]["subjects"] == 10 and manifest["landmarks"] == 5
    lost = sum(remark["count"] for remark in manifest["excluded"] if remark["reason"] == "no face found")
    assert manifest["counts"]["records"] + lost == 80 and lost < 40
    assert "five points do not tell where on the face an AU is" in done.stderr


def test_killed_or_not_and_with_any_number_of_workers_the_bytes_are_the_same(prepared, raw, tmp_path):
    arguments = [
        f"--raw_dir={raw}",
        f"--data_dir={tmp_path}",
        f"--landmarks={raw}/landmarks.csv",
        "--workers=2",
    ]
    command = [sys.executable, "-m", "launch.prepare", "--corpus=folder", *arguments]
    first = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    parts = tmp_path / "folder.unfinished" / "parts"
    deadline = time.monotonic() + 120
    while len(list(parts.glob("*.npz"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.002)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "folder").exists() and 3 <= len(list(parts.glob("*.npz"))) < 10
    again = launch(*arguments)
    assert again.returncode == 0, again.stderr
    assert contents(tmp_path / "folder") == contents(prepared / "folder")
    assert not (tmp_path / "folder.unfinished").exists()


WATCHED = """
import atexit, resource, runpy, sys
atexit.register(lambda: print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
sys.argv = ["prepare", *sys.argv[1:]]
runpy.run_module("launch.prepare", run_name="__main__")
"""


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_corpus(tmp_path):
    """5 times as many videos, 6 and 30 MB of records, need no more memory."""
    peaks = []
    for videos in (16, 80):
        raw = write_folder(tmp_path / str(videos), videos, repeats=12)
        arguments = [
            f"--raw_dir={raw}",
            f"--data_dir={raw}/data",
            f"--landmarks={raw}/landmarks.csv",
            "--workers=1",
        ]
        command = [sys.executable, "-c", WATCHED, "--corpus=folder", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    print(f"peak memory of 16 and 80 videos: {peaks[0]:.0f} and {peaks[1]:.0f} MB")
    assert peaks[1] - peaks[0] < 25


@pytest.fixture
def faulty(tmp_path):
    folder = write_folder(tmp_path, videos=4)
    (folder / "visit0/person0.mp4").unlink()
    path = folder / "visit1/person1.mp4"
    path.write_bytes(path.read_bytes()[:2000])
    labels = (folder / "labels.csv").read_text().splitlines()
    labels[20] = labels[20].replace(",P2,", ",P2,7,").rpartition(",")[0]
    (folder / "labels.csv").write_text("\n".join(labels))
    return folder


def test_the_doctor_lists_everything_before_any_work(faulty):
    source = FaceSource("file", faulty / "landmarks.csv")
    corpus = open_corpus("folder", faulty, "jaa256", source)
    found = doctor.examine(corpus, faulty, workers=1)
    reasons = {(what, reason.split(":")[0]): n for (what, reason), n in found.remarks.items()}
    assert reasons[("label", "value '7' in labels.csv, must be 0, 1 or 9")] == 1
    missing = sum(n for (what, _), n in found.remarks.items() if what == "frame")
    assert missing == 16 and str(faulty) not in str(found.remarks)
    assert found.problems == [
        "16 labelled frames cannot be used, see the reasons",
        "1 labels are outside the code book or contradict each other",
    ]
    assert [subject["records"] for subject in found.survey["subjects"]] == [0, 0, 8, 8]
    assert found.survey["subjects"][2]["coded"] == [7, 8]


def test_the_doctors_exit_status(faulty, raw):
    checked = launch(f"--raw_dir={faulty}", "--check", "--workers=1")
    assert checked.returncode == 1 and "16 labelled frames cannot be used" in checked.stderr
    assert "warning: frames left out: 8 (no picture)" in checked.stderr
    checked = launch(f"--raw_dir={faulty}", "--check", "--workers=1", "--go_on")
    assert checked.returncode == 0 and "16 frames of 4 videos of 4 subjects" in checked.stdout
    checked = launch(f"--raw_dir={raw}", "--check", "--workers=1")
    assert checked.returncode == 0, checked.stderr


def test_the_doctor_says_the_same_of_the_records(faulty, tmp_path):
    data = f"--data_dir={tmp_path}/data"
    done = launch(f"--raw_dir={faulty}", data, f"--landmarks={faulty}/landmarks.csv", "--workers=1")
    assert done.returncode == 0 and "seconds of all processes together: labels" in done.stdout
    said = "warning: frames left out: 8 (no picture)"
    assert said in done.stderr and "five points" not in done.stderr
    checked = launch(data, "--check")
    assert checked.returncode == 1 and "records and manifest agree" in checked.stdout
    assert said in checked.stderr and "16 labelled frames cannot be used" in checked.stderr
    assert launch(data, "--check", "--go_on").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--landmarks=a", "--detector=yunet"], "--landmarks and --detector: give one"),
        (["--detector=yunet"], "--detector and --detector_weights: give both"),
        (["--detector=yunet", "--detector_weights=none.onnx"], "detector weights none.onnx: no such file"),
        (["--landmarks=none.csv"], "landmarks none.csv: no such file"),
        ([], "folder: its folder holds no landmarks; give --detector=yunet"),
        (["--only_missing"], "--only_missing: give --detector or --landmarks"),
        (
            ["--landmarks=RAW/landmarks.csv", "--only_missing"],
            "--only_missing: folder has no landmarks of its own",
        ),
        (["--min_intensity=2", "--corpus=bp4d"], "--min_intensity: only for --corpus=folder"),
    ],
)
def test_the_launcher_refuses(raw, tmp_path, arguments, message):
    arguments = [argument.replace("RAW", str(raw)) for argument in arguments]
    done = launch(f"--raw_dir={raw}", f"--data_dir={tmp_path}", *arguments)
    assert done.returncode == 1 and f"error: {message}" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
