"""Tables of other tools are read as their authors write them; what cannot be right is one clear line."""

import numpy as np
import pytest

from jaxau import au_tables


@pytest.fixture
def write(tmp_path):
    def write(text, name="table.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def columns(frame):
    return {au: frame[au].tolist() for au in frame}


def test_openface_with_spaces_in_the_header(write):
    path = write(
        "frame, timestamp, confidence, success, gaze_0_x, x_0, AU12_r, AU45_r, AU12_c, AU28_c\n"
        "1, 0.000, 0.98, 1, 0.1, 5.0, 0.25, 1.5, 1, 0\n"
        "2, 0.033, 0.02, 0, 0.0, 0.0, 0.00, 0.0, 0, 0\n"
    )
    table = au_tables.read_predictions([path])
    assert table.tool == "OpenFace" and not table.has_video and table.aus == [12, 28, 45]
    assert columns(table.occurrence) == {12: [1, 0], 28: [0, 0]}
    assert columns(table.intensity) == {12: [0.25, 0], 45: [1.5, 0]} and table.probability.empty
    assert table.rows["frame"].tolist() == [1, 2] and table.rows["time"].tolist() == [0, 0.033]
    assert table.rows["success"].tolist() == [1, 0] and table.rows["line"].tolist() == [2, 3]


def test_our_own_table(write):
    path = write(
        "video,frame,face_id,timestamp,confidence,success,reason,x,y,w,h,AU01_p,AU12_p,AU01_c,AU12_c\n"
        "a.mp4,0,0,0.0,0.9,1,,1,2,3,4,0.25,0.75,0,1\n"
        "a.mp4,1,,0.04,,0,no_face,,,,,,,,\n"
    )
    table = au_tables.read_predictions([path])
    assert table.tool == "jaxau" and table.has_video and table.rows["video"].tolist() == ["a.mp4"] * 2
    assert table.probability[12][0] == 0.75 and np.isnan(table.probability[12][1])
    assert table.occurrence[12][0] == 1 and np.isnan(table.occurrence[1][1])


def test_py_feat(write):
    header = "FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight,FaceScore,x_0,AU01,AU11,AU43,anger,input,frame"
    path = write(f"{header}\n1,2,3,4,0.99,7,0.2,1.0,0.0,0.1,/videos/a.mp4,0\n,,,,,,,,,,/videos/a.mp4,1\n")
    table = au_tables.read_predictions([path])
    assert table.tool == "py-feat" and table.aus == [1, 11, 43]
    assert table.probability[1][0] == 0.2 and np.isnan(table.probability[1][1]) and table.occurrence.empty
    assert table.rows["video"].tolist() == ["/videos/a.mp4"] * 2 and table.rows["confidence"][0] == 0.99


def test_py_feats_yes_or_no_detectors_give_no_probabilities(write):
    path = write("frame,FaceScore,AU01,AU12\n0,0.9,1,0\n1,0.9,0,0\n")
    table = au_tables.read_predictions([path])
    assert columns(table.occurrence) == {1: [1, 0], 12: [0, 0]} and table.probability.empty


def test_libreface(write):
    path = write(
        ",frame_idx,frame_time_in_ms,path_to_frame,facial_expression,au_1,au_12,au_12_intensity,au_25_intensity\n"
        "0,0,0.0,tmp/a/0.png,Neutral,0,1,2.75,0.0\n1,1,33.367,tmp/a/1.png,Neutral,1,0,0.5,-0.125\n"
    )
    table = au_tables.read_predictions([path])
    assert table.tool == "LibreFace" and table.aus == [1, 12, 25]
    assert columns(table.occurrence) == {1: [0, 1], 12: [1, 0]}
    assert columns(table.intensity) == {12: [2.75, 0.5], 25: [0, -0.125]}
    assert table.rows["time"].tolist() == pytest.approx([0, 0.033367])


def test_truth_masks_what_is_not_coded(write):
    path = write("Frame,Subject,AU1,AU02_c,AU4_r\n0,S1,1,0,3.5\n\n1,S1,,-1,9\n2,S2,9,1,-1\n")
    table = au_tables.read_truth(path)
    np.testing.assert_array_equal(table.occurrence[1], [1, np.nan, np.nan])
    np.testing.assert_array_equal(table.occurrence[2], [0, np.nan, 1])
    np.testing.assert_array_equal(table.intensity[4], [3.5, np.nan, np.nan])
    assert table.rows["subject"].tolist() == ["S1", "S1", "S2"]
    assert table.rows["line"].tolist() == [2, 4, 5]  # as an editor counts them


def test_several_files_of_one_tool(write):
    paths = [write("frame,AU12_c\n0,1\n1,0\n", "a.csv"), write("frame,AU12_c\n0,0\n", "b.csv")]
    table = au_tables.read_predictions(paths)
    assert table.rows["video"].tolist() == ["a", "a", "b"] and table.occurrence[12].tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="c.csv: other columns than a.csv"):
        au_tables.read_predictions([*paths, write("frame,AU12_c,AU15_c\n0,0,1\n", "c.csv")])


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "no Action Unit among the columns"),
        ("frame;AU12\n0;1\n", "no Action Unit .* frame;AU12; name them AU12, .* separated by commas"),
        ("frame,smile\n0,1\n", "no Action Unit among the columns frame, smile"),
        ("video,AU12\na,1\n", "neither frame nor timestamp"),
        ("frame,AU12\n", "no row below the header"),
        ("frame,AU12\n0,1\n1,yes\n", "line 3, column AU12: 'yes' is no number"),
        ("frame,AU12\n0,1\nx,0\n", "line 3, column frame: 'x' is no number"),
        ("frame,AU12\n0,1\n1,3\n", "line 3, column AU12: 3 .* must be 0 or 1; .* like AU12_r"),
        (
            "frame,AU12_r\n0,1\n1,6.5\n",
            "line 3, column AU12_r: 6.5 .* from 0 to 5; what is not coded is empty",
        ),
        ("frame,AU12\n0.5,1\n", "line 2: frame 0.5 is not a whole number"),
        ("frame,AU12\n,1\n", "line 2: frame nan is not a whole number"),
        ("timestamp,AU12\n0,1\n,1\n", "line 3: no time stamp"),
        ("frame,subject,AU12\n0,S,1\n1,,1\n", "line 3: no subject"),
        ("frame,AU12,AU12\n0,1,1\n", r"columns \['AU12'\] say the same"),
        ("frame,AU12,AU12_c\n0,1,1\n", r"columns \['AU12', 'AU12_c'\] say the same"),
        ("frame,AU1,AU01\n0,1,1\n", r"columns \['AU1', 'AU01'\] say the same"),
        ("frame,AU12\n0,1,5\n1,1,5\n", "line 2: 3 cells below a header of 2"),
        ("frame,AU12\n0,1\n1\n", "line 3: 1 cells below a header of 2"),
    ],
)
def test_a_wrong_truth_is_one_clear_line(write, text, message):
    with pytest.raises(ValueError, match=message) as error:
        au_tables.read_truth(write(text))
    assert "table.csv" in str(error.value) and "\n" not in str(error.value)


def test_wrong_predictions_and_files(write, tmp_path):
    with pytest.raises(
        ValueError, match=r"column AU12: 2.5 .* a probability in \[0, 1\]; intensities belong"
    ):
        au_tables.read_predictions([write("frame,AU12\n0,2.5\n")])
    with pytest.raises(ValueError, match="no Action Unit .* au_12_intensity .LibreFace."):
        au_tables.read_predictions([write("frame,smile\n0,1\n")])
    with pytest.raises(ValueError, match="no such file"):
        au_tables.read_truth(tmp_path / "none.csv")
    binary = tmp_path / "picture.csv"
    binary.write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(ValueError, match="picture.csv: not a table"):
        au_tables.read_truth(binary)


def test_columns_of_unknown_aus_are_named(write):
    table = au_tables.read_predictions([write("frame,AU12_c,AU99_c\n0,1,1\n")])
    assert table.unknown == ["AU99_c"] and table.aus == [12]


def test_the_real_openface_table(shared):
    table = au_tables.read_predictions([shared / "media/OpenFace_Test.csv"])
    assert table.tool == "OpenFace" and len(table.rows) == 100 and not table.unknown
    assert len(table.occurrence.columns) == 18 and len(table.intensity.columns) == 17
