from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxau.faces.landmark_file import LandmarkFile


def write(path: Path, rows: list[tuple], points: int = 5, columns: str = "video,frame,face_id") -> Path:
    names = [f"x_{i}" for i in range(points)] + [f"y_{i}" for i in range(points)]
    lines = [",".join([columns, *names])]
    for *key, value in rows:
        lines.append(",".join(map(str, [*key, *[value + i for i in range(2 * points)]])))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_faces_by_frame(tmp_path):
    rows = [("a.mp4", 0, 0, 10), ("a.mp4", 0, 3, 50), ("a.mp4", 4, 0, 11), ("b b.mp4", 1, 0, 7)]
    file = LandmarkFile(write(tmp_path / "l.csv", rows))
    assert file.videos == ["a.mp4", "b b.mp4"]
    first, second = file.frames("a.mp4")
    assert first[0] == 0 and [face.face_id for face in first[1]] == [0, 3]
    np.testing.assert_array_equal(first[1][0].landmarks, [[10, 15], [11, 16], [12, 17], [13, 18], [14, 19]])
    assert first[1][0].confidence is None
    assert second[0] == 4 and [face.face_id for face in second[1]] == [0]
    ((frame, (face,)),) = file.frames("b b.mp4")
    assert frame == 1 and face.landmarks is not None and face.landmarks[0, 0] == 7
    assert list(file.frames("c.mp4")) == []


@pytest.mark.parametrize("points", [5, 49, 66, 68, 98])
def test_each_scheme(tmp_path, points):
    file = LandmarkFile(write(tmp_path / "l.csv", [("a.mp4", 0, 0, 1)], points))
    ((_, (face,)),) = file.frames("a.mp4")
    assert face.landmarks is not None and face.landmarks.shape == (points, 2)


def test_quotes_other_columns_and_empty_cells(tmp_path):
    path = tmp_path / "l.csv"
    xy = [f"{c}_{i}" for i in range(5) for c in "xy"]
    path.write_text(
        "\ufeff" + ",".join(["frame", "confidence", "video", "face_id", *xy]) + "\r\n"
        '0,0.75,"a, b.mp4",1,' + ",".join("1" * 10) + "\r\n"
        '1,,"a, b.mp4",1,' + ",".join([""] * 10) + "\r\n",
        encoding="utf-8",
    )
    file = LandmarkFile(path)
    assert file.videos == ["a, b.mp4"]
    (_, (first,)), (_, (second,)) = file.frames("a, b.mp4")
    assert first.confidence == 0.75
    assert second.confidence is None and np.isnan(second.landmarks).all()


def test_openface(shared):
    """Its frames count from 1, its header has blanks, and it does not name the video."""
    file = LandmarkFile(shared / "media" / "OpenFace_Test.csv")
    assert file.of_openface and file.videos == []
    frames = list(file.frames("any.mp4"))
    lines = (shared / "media" / "OpenFace_Test.csv").read_text().splitlines()
    header = [name.strip() for name in lines[0].split(",")]
    assert len(frames) == len(lines) - 1
    for (frame, (face,)), line in list(zip(frames, lines[1:], strict=True))[::20]:
        told = dict(zip(header, line.split(","), strict=True))
        assert frame == int(told["frame"]) - 1
        assert face.confidence == float(told["confidence"])
        if float(told["success"]):
            assert face.landmarks is not None and face.landmarks.shape == (68, 2)
            assert face.landmarks[30, 1] == float(told["y_30"])
        else:
            assert face.landmarks is None


def test_openface_lost_face(tmp_path):
    path = write(tmp_path / "l.csv", [(1, 1, 5), (2, 0, 5)], 68, "frame, success")
    (_, (first,)), (_, (second,)) = LandmarkFile(path).frames("")
    assert first.landmarks is not None and second.landmarks is None


@pytest.mark.parametrize(
    "absent, words",
    [
        (["x_5"], r"with 68 points x_i, y_i and without \['x_5'\]"),
        (["y_67"], r"with 68 points x_i, y_i and without \['y_67'\]"),
        (["x_5", "y_5"], r"with 68 points x_i, y_i and without \['x_5', 'y_5'\]"),
        (["x_66", "y_66", "x_67"], r"without \['x_66', 'x_67', 'y_66'\]"),
    ],
)
def test_a_gap_in_the_points_is_not_another_scheme(tmp_path, absent, words):
    path = write(tmp_path / "l.csv", [("a.mp4", 0, 0, 1)], 68)
    table = pd.read_csv(path)
    table.drop(columns=absent).to_csv(path, index=False)
    with pytest.raises(ValueError, match=words):
        LandmarkFile(path)


def test_columns_come_once(tmp_path):
    path = write(tmp_path / "l.csv", [("a.mp4", 0, 0, 1)])
    path.write_text(path.read_text().replace("y_4\n", "y_4,x_0\n").replace("10\n", "10,99\n"))
    with pytest.raises(ValueError, match=r"several columns are named \['x_0'\].*remove the others"):
        LandmarkFile(path)


def test_openface_counts_from_one(tmp_path):
    path = write(tmp_path / "l.csv", [(0, 1, 5), (1, 1, 5)], 68, "frame,success")
    with pytest.raises(ValueError, match="line 2: .*frame 0, but OpenFace counts frames from 1: add 1"):
        list(LandmarkFile(path).frames(""))


def test_what_is_no_csv_in_utf8_is_said(tmp_path):
    path = write(tmp_path / "l.csv", [("a.mp4", 0, 0, 1), ("a.mp4", 1, 0, 1)])
    text = path.read_text()
    for data in (text.replace("\n", "\r").encode(), text.encode("utf-16")):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="l.csv, line 1: cannot be read .*in UTF-8 with lines.*save it"):
            LandmarkFile(path)
    path.write_text(text + "a.mp4,2,0," + "1" * 200_000 + "\n")
    with pytest.raises(ValueError, match="l.csv, line 4: cannot be read .*field larger"):
        list(LandmarkFile(path).frames("a.mp4"))


def test_unusable_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file; check --landmarks"):
        LandmarkFile(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"with 7 points x_i, y_i: must be .*\(5, 49, 66, 68, 98\)"):
        LandmarkFile(write(tmp_path / "l.csv", [("a.mp4", 0, 0, 1)], 7))
    with pytest.raises(ValueError, match=r"without \['face_id'\].*add the columns"):
        LandmarkFile(write(tmp_path / "l.csv", [("a.mp4", 0, 1)], 5, "video,frame"))
    scattered = [("a.mp4", 0, 0, 1), ("b.mp4", 0, 0, 1), ("a.mp4", 1, 0, 1)]
    with pytest.raises(ValueError, match="line 4: rows of 'a.mp4' stand in several places; sort"):
        LandmarkFile(write(tmp_path / "l.csv", scattered))
    for rows in (
        [("a.mp4", 3, 0, 1), ("a.mp4", 2, 0, 1)],
        [("a.mp4", 2, 0, 1), ("a.mp4", 2, 0, 1)],
    ):
        with pytest.raises(ValueError, match="line 3: frame 2, face 0 after frame.*ascending; sort"):
            list(LandmarkFile(write(tmp_path / "l.csv", rows)).frames("a.mp4"))
    path = write(tmp_path / "l.csv", [("a.mp4", "x", 0, 1)])
    with pytest.raises(ValueError, match="line 2: 13 fields cannot be read.*13 columns are needed"):
        list(LandmarkFile(path).frames("a.mp4"))
    path.write_text(path.read_text().splitlines()[0] + "\na.mp4,0,0,1\n")
    with pytest.raises(ValueError, match="line 2: 4 fields cannot be read"):
        list(LandmarkFile(path).frames("a.mp4"))
    path = write(tmp_path / "l.csv", [("a.mp4", -1, 0, 1)])
    with pytest.raises(ValueError, match="line 2.*frame -1, but frames count from 0"):
        list(LandmarkFile(path).frames("a.mp4"))
    path = write(tmp_path / "l.csv", [("a.mp4", 0, "inf", 1)])
    with pytest.raises(ValueError, match="line 2: 13 fields cannot be read .*infinity"):
        list(LandmarkFile(path).frames("a.mp4"))
    path.write_bytes(b"video,frame,face_id," + b",".join(b"x_%d,y_%d" % (i, i) for i in range(5)))
    path.write_bytes(path.read_bytes() + b"\nm\xfcde.mp4,0,0" + b",1" * 10)
    with pytest.raises(ValueError, match="line 2: cannot be read.*must be UTF-8"):
        LandmarkFile(path)
