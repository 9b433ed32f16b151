"""A job among other files, other jobs and other runs: nothing is skipped, mixed or replaced unsaid."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prediction_kit import AUS, fake_model, landmark_rows, picture, write_landmarks

from jaxau.faces.detect import YuNet
from jaxau.faces.landmark_file import LandmarkFile
from jaxau.faces.video import VideoWriter, open_video, read_image, write_image, write_video
from jaxau.predict import Predictor
from jaxau.sources import find_sources

PROBABILITIES = [f"AU{au:02d}_p" for au in AUS]


def table(folder: Path, name: str = "a.mp4") -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv")


HOLD = """
import pathlib, sys
from jaxau import files
with files.exclusive_name(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_jobs_do_not_write_the_same_results(run, small_video, tmp_path):
    video, landmarks = small_video
    write_image(tmp_path / "b.png", picture(0))
    out = tmp_path / "out"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, out / "a.mp4"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout.readline() == b"held\n"
    (out / "a.mp4.partial.csv").write_text("of the other\n")
    status, said = run(video, tmp_path / "b.png", "--landmarks", landmarks)
    assert status == 1 and f"another process is working here (process {other.pid})" in said
    assert (out / "a.mp4.partial.csv").read_text() == "of the other\n"
    assert sorted(p.name for p in out.iterdir()) == [
        "a.mp4.lock", "a.mp4.partial.csv", "b.png.csv", "b.png.json", "b.png.parquet"
    ]  # fmt: skip
    other.kill()
    other.wait()
    assert (out / "a.mp4.lock").exists()  # it could not take it away, but holds nothing
    assert run(video, tmp_path / "b.png", "--landmarks", landmarks)[0] == 0
    assert len(table(out)) == 20 and not (out / "a.mp4.lock").exists()


def test_jobs_at_the_same_time(small_video, tmp_path):
    """Of two processes one writes whole results; the other says that it did not, or comes after."""
    video, landmarks = small_video
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "import prediction_kit, jaxau.cli, jaxau.checkpoint\n"
        "jaxau.checkpoint.load_model = lambda path: prediction_kit.fake_model()\n"
        "sys.exit(jaxau.cli.main(sys.argv[1:]))"
    )
    arguments = ["predict", video, "--landmarks", landmarks, "--checkpoint", "c", "--out", tmp_path / "out"]
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", program, Path(__file__).parent, *arguments, "--batch_size", size],
            stderr=subprocess.PIPE,
            text=True,
        )
        for size in ("1", "2")
    ]
    said = [job.communicate()[1] for job in jobs]
    for job, text in zip(jobs, said, strict=True):
        assert job.returncode == 0 or "another process is working here" in text, text
    assert 0 in [job.returncode for job in jobs]
    assert len(table(tmp_path / "out")) == 20
    assert len(pd.read_parquet(tmp_path / "out" / "a.mp4.parquet")) == 20
    assert json.loads((tmp_path / "out" / "a.mp4.json").read_text())["rows"] == 20
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_results_of_another_file_are_not_replaced(run, small_video, tmp_path):
    video, landmarks = small_video
    run(video, "--landmarks", landmarks)
    before = table(tmp_path / "out")
    (tmp_path / "other").mkdir()
    write_video(tmp_path / "other" / "a.mp4", [picture(i) for i in range(3)])
    write_image(tmp_path / "b.png", picture(0))
    status, said = run(tmp_path / "other" / "a.mp4", tmp_path / "b.png", "--landmarks", landmarks)
    assert status == 1
    assert f"a.mp4.json is of {video.resolve()}: results of another file are not replaced; give" in said
    pd.testing.assert_frame_equal(table(tmp_path / "out"), before)
    assert len(table(tmp_path / "out", "b.png")) == 1
    sidecar = json.loads((tmp_path / "out" / "a.mp4.json").read_text())
    assert sidecar["input"]["path"] == str(video.resolve())


def test_an_input_that_became_unreadable_keeps_whole_results(run, small_video, tmp_path):
    """Table and sidecar of the earlier state stay together, and it is said that they are old."""
    video, landmarks = small_video
    run(video, "--landmarks", landmarks)
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    video.write_bytes(video.read_bytes()[:500])
    status, said = run(video, "--landmarks", landmarks)
    assert status == 1 and "a.mp4.csv is of an earlier run" in said
    assert {name: (tmp_path / "out" / name).read_bytes() for name in before} == before
    assert not json.loads((tmp_path / "out" / "a.mp4.partial.json").read_text())["complete"]


def test_what_is_left_out_of_a_folder_is_said(tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("a.3gp", "b.MTS", "take1.partial.mp4", "x.overlay.mp4", "sub/c.jpg", "notes.txt", "d.mp5"):
        (folder / name).touch()
    (tmp_path / "elsewhere" / "e.mp4").touch()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "gone.mp4").symlink_to(tmp_path / "nothing.mp4")
    (folder / "sub" / "up").symlink_to(folder)
    for ending in (".csv", ".partial.parquet", ".json", ".overlay.mp4", ".overlay.partial.mp4", ".lock"):
        (folder / f"a.3gp{ending}").touch()  # results
    sources, problems, remarks = find_sources([folder, tmp_path / "none.mp4"])
    assert [source.name for source in sources] == [
        "a.3gp", "b.MTS", "linked/e.mp4", "sub/c.jpg", "take1.partial.mp4", "x.overlay.mp4"
    ]  # fmt: skip
    (remark,) = remarks
    assert "left out 2 that are no known kind of picture or video: d.mp5, notes.txt" in remark
    assert len(problems) == 3
    assert "gone.mp4: a link to nothing" in problems[0] and "up: a link to a folder above" in problems[1]
    assert "none.mp4: no such file" in problems[2]


def test_left_out_files_and_dangling_links_in_a_job(run, small_video, tmp_path):
    video, landmarks = small_video
    folder = tmp_path / "in"
    folder.mkdir()
    video.rename(folder / "a.mp4")
    (folder / "notes.txt").touch()
    status, said = run(folder, "--landmarks", landmarks)
    assert status == 0 and "left out 1 " in said and "notes.txt" in said
    (folder / "b.mp4").symlink_to("nothing")
    status, said = run(folder, "--landmarks", landmarks)
    assert status == 1 and "b.mp4: a link to nothing" in said and "already done" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read all")
def test_a_closed_folder_is_a_problem(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    assert "cannot be opened" in find_sources([tmp_path])[1][0]


def test_a_missing_overlay_is_made_again(run, small_video, tmp_path):
    video, landmarks = small_video
    write_image(tmp_path / "b.png", picture(0))
    arguments = [video, tmp_path / "b.png", "--landmarks", landmarks, "--overlay"]
    assert run(*arguments)[0] == 0
    for ending in ("a.mp4.overlay.mp4", "b.png.overlay.jpg"):
        (tmp_path / "out" / ending).unlink()
        status, said = run(*arguments)
        assert status == 0 and said.count("already done") == 1
        assert (tmp_path / "out" / ending).is_file()
    assert run(*arguments)[1].count("already done") == 2


def test_a_bad_landmark_line_does_not_stop_the_job(run, tmp_path):
    names = ["a.png", "b.png", "c.png", "d.png"]
    for name in names:
        write_image(tmp_path / name, picture(0))
    rows = [landmark_rows(name, [0])[0] for name in names]
    rows[0] = rows[0].replace("a.png,0,0", "a.png,0,inf")
    rows[1] += "1" * 200_000
    rows[2] += "\n" + rows[2].replace("c.png,0,0", "c.png,1,x")  # after the last frame
    landmarks = write_landmarks(tmp_path / "l.csv", rows)
    status, said = run(*(tmp_path / name for name in names), "--landmarks", landmarks)
    assert status == 1 and "3 not done" in said
    for line in (2, 3, 5):
        assert f"l.csv, line {line}:" in said
    assert len(table(tmp_path / "out", "d.png")) == 1


@pytest.mark.parametrize("clip_length", [0, 4])
def test_every(run, small_video, tmp_path, clip_length):
    """The rows are those of the whole video: a network with time still gets true neighbours."""
    video, landmarks = small_video
    run(video, "--landmarks", landmarks, clip_length=clip_length)
    whole = table(tmp_path / "out")
    assert run(video, "--landmarks", landmarks, "--every", 3, "--overlay", clip_length=clip_length)[0] == 0
    some = table(tmp_path / "out")
    assert some.frame.tolist() == [0, 3, 6, 9, 12, 15, 18]
    expected = whole[whole.frame % 3 == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, expected, atol=1e-5)
    assert len(list(open_video(tmp_path / "out" / "a.mp4.overlay.mp4"))) == 7


def test_a_face_keeps_its_id_over_long_steps(run, shared, tmp_path):
    """A face every 1.5 seconds is the same face."""
    image = read_image(shared / "media" / "single_face.jpg")
    scale = 320 / max(image.shape[:2])
    height, width = (2 * round(side * scale / 2) for side in image.shape[:2])
    import cv2

    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for i in range(13):
            writer.write(small, i / 2)
    weights = shared / "weights" / "yunet_n_640_640.onnx"
    detector = ["--detector", "yunet", "--detector_weights", weights]
    assert run(tmp_path / "a.mp4", *detector, "--every", 3)[0] == 0
    assert table(tmp_path / "out").face_id.tolist() == [0] * 5


def test_notes_about_a_video_stand_in_the_sidecar(run, tmp_path):
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for i in range(6):
            writer.write(picture(i), i / 10 + (2 if i > 3 else 0))
    landmarks = write_landmarks(tmp_path / "l.csv", landmark_rows("a.mp4", list(range(6))))
    status, said = run(tmp_path / "a.mp4", "--landmarks", landmarks, "--every", 3)
    assert status == 0 and "warning: a.mp4: no frames from 0.30 to 2.40 s" in said
    sidecar = json.loads((tmp_path / "out" / "a.mp4.json").read_text())
    assert sidecar["notes"] == ["no frames from 0.30 to 2.40 s: some may be missing"]


def test_predictor_of_a_detector_and_landmarks_agree(shared):
    """Landmarks that are given go before the detector."""
    yunet = YuNet(shared / "weights" / "yunet_n_640_640.onnx")
    image = read_image(shared / "media" / "single_face.jpg")
    (face,) = yunet.detect(image)
    found = Predictor(fake_model(), yunet)([image])
    given = Predictor(fake_model(), yunet)([image], [face.landmarks])
    np.testing.assert_array_equal(found[PROBABILITIES], given[PROBABILITIES])
    assert given.confidence.isna().all() and found.confidence.notna().all()


def test_a_landmark_file_of_the_wrong_encoding_is_said(run, small_video):
    video, landmarks = small_video
    landmarks.write_bytes(landmarks.read_text().encode("utf-16"))
    status, said = run(video, "--landmarks", landmarks)
    assert status == 1 and "l.csv, line 1: cannot be read" in said and "Traceback" not in said
    with pytest.raises(ValueError, match="UTF-8"):
        LandmarkFile(landmarks)
