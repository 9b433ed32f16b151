"""Parts made on Apache Beam: the same data set, resumable, and a failure in one line."""

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from corpus_folders import faces, write_landmarks, write_picture

from data_pipelines.preparation import prepare

ROOT = Path(__file__).resolve().parents[2]


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def need_beam():
    pytest.importorskip("apache_beam", reason="pip install jaxau[beam]")


def test_beam_that_is_not_installed(tmp_path, make_flat_corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ValueError, match=r"Apache Beam is not installed .*pip install jaxau\[beam\]"):
        prepare(make_flat_corpus(), tmp_path, beam="")


@pytest.mark.parametrize(
    "options",
    [
        "--runner=DirectRunner",
        "--runner=DirectRunner --direct_running_mode=multi_processing --direct_num_workers=2",
    ],
)
def test_the_bytes_are_those_without_beam(tmp_path, options):
    need_beam()
    rows, table = [], []
    for subject in range(3):
        for i, face in enumerate(faces(subject)):
            name = f"P{subject}/{i}.jpg"
            write_picture(tmp_path / "raw" / name, face.image)
            rows.append([name, f"P{subject}", (i + subject) % 2, i % 6])
            table.append((name, 0, face.lm68))
    (tmp_path / "raw/P1/3.jpg").unlink()  # a remark travels, too
    with (tmp_path / "raw/labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["video", "subject", "AU12_c", "AU14_r"], *rows])
    write_landmarks(tmp_path / "landmarks.csv", table)

    def launch(data, *arguments):
        command = [sys.executable, "-m", "launch.prepare", "--corpus=folder", f"--raw_dir={tmp_path}/raw"]
        command += [f"--landmarks={tmp_path}/landmarks.csv", f"--data_dir={tmp_path / data}", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    launch("alone", "--workers=1")
    done = launch("beam", f"--beam={options}")
    assert "prepared 23 frames of 23 videos of 3 subjects" in done.stdout
    assert "frames left out: 1 (no picture)" in done.stderr
    assert contents(tmp_path / "beam") == contents(tmp_path / "alone")


def test_a_part_that_fails_is_named_and_the_others_are_kept(tmp_path, flat_faces, make_flat_corpus):
    need_beam()
    whole, made = make_flat_corpus(), tmp_path / "made.txt"

    def make(request, subject, log=str(made), bad=(4,)):
        if subject in bad:
            raise ValueError(f"P{subject}: two pictures of one number; take one away")
        with open(log, "a") as file:
            file.write(f"{subject}\n")
        return whole.make(request, subject)

    with pytest.raises(ValueError, match="P4: two pictures of one number; take one away"):
        prepare(dataclasses.replace(whole, make=make), tmp_path / "data", beam="")
    before = made.read_text().split()
    assert "4" not in before and not (tmp_path / "data/synthetic").exists()
    mended = dataclasses.replace(whole, make=lambda request, subject: make(request, subject, bad=()))
    assert prepare(mended, tmp_path / "data", beam="") is True
    again = made.read_text().split()
    assert sorted(again) == [str(subject) for subject in range(9)] and again[: len(before)] == before
    assert contents(tmp_path / "data/synthetic") == contents(flat_faces / "synthetic")


def test_beams_own_errors_end_in_one_line(tmp_path, make_flat_corpus):
    need_beam()
    with pytest.raises(ValueError, match="Unexpected pipeline runner: Nowhere"):
        prepare(make_flat_corpus(), tmp_path, beam="--runner=Nowhere")
