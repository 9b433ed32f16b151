"""Corpora as list files: BP4D, DISFA and GFT, their frames, labels, landmarks and faults."""

import numpy as np
import pytest
from corpus_folders import faces, parts, remarks, shows, which, write_picture

from data_pipelines.corpora import lists
from data_pipelines.records import ABSENT, OCCURS
from jaxau import facs
from jaxau.faces.align import align, transform_points

GFT = facs.CORPUS_AUS["gft"]


def code(frame, k):
    return (frame + k) % 2


def write_list(folder, stem, paths, columns, points=None, labels=None):
    rows = labels or [" ".join(str(code(i, k)) for k in range(columns)) for i in range(len(paths))]
    (folder / f"{stem}_path.txt").write_text("\n".join(paths) + "\n")
    (folder / f"{stem}_AUoccur.txt").write_text("\n".join(rows) + "\n")
    (folder / f"{stem}_weight.txt").write_text("1 " * columns)
    if points is not None:
        (folder / f"{stem}_land.txt").write_text(
            "\n".join(" ".join(map(str, p.ravel())) for p in points) + "\n"
        )


@pytest.fixture
def bp4d(tmp_path):
    """Two parts and a combination; lists name frames un-padded, the files have four digits."""
    paths = {}
    for stem, subject, person in (("BP4D_part1", 0, "F001"), ("BP4D_part2", 1, "M011")):
        for i, face in enumerate(faces(subject)):
            write_picture(tmp_path / f"imgs/{person}/T2/{i + 9:04d}.jpg", face.image)
        paths[stem] = [f"{person}/T2/{i + 9}.jpg" for i in range(8)]
        write_list(tmp_path, stem, paths[stem], 12, [face.lm49 for face in faces(subject)])
    write_list(tmp_path, "BP4D_combine_1_2", paths["BP4D_part1"] + paths["BP4D_part2"], 12)
    return tmp_path


def test_frames_labels_and_landmarks(bp4d):
    found = parts(lists.corpus(bp4d, "jaa256", "bp4d"))
    assert list(found) == ["F001_T2", "M011_T2"]
    for subject, part in enumerate(found.values()):
        assert part.frame.tolist() == list(range(9, 17)) and not part.remarks
        for i, face in enumerate(faces(subject)):
            assert shows(part.images[i], face) and which(part.images[i], subject) == i
            _, matrix = align(face.image, face.lm49, "jaa256")
            np.testing.assert_allclose(part.landmarks[i], transform_points(face.lm49, matrix), atol=1e-3)
            assert part.intensity[i].tolist() == [(ABSENT, OCCURS)[code(i, k)] for k in range(12)]


def test_a_file_counts_from_0_where_disfas_labels_count_from_1(tmp_path):
    for i, face in enumerate(faces(0)):
        write_picture(tmp_path / f"imgs/SN003/{i}.jpg", face.image)
    points = np.stack([face.lm68 for face in faces(0)])
    write_list(tmp_path, "DISFA_part1", [f"SN003/{i}.png" for i in range(8)], 8, points)
    part = parts(lists.corpus(tmp_path, "jaa256", "disfa"))["SN003"]
    assert part.frame.tolist() == list(range(1, 9))
    assert [which(image, 0) for image in part.images] == list(range(8))


def test_gft_from_lists_with_9_for_what_is_not_coded(tmp_path):
    rows = [[code(i, k) for k in range(10)] for i in range(8)]
    rows[2][GFT.index(12)] = 9
    rows[3] = [9] * 10
    rows[5][GFT.index(1)] = 2
    for stem, subject, person in (("GFT_train", 0, "001A"), ("GFT_test", 1, "014B")):
        for i, face in enumerate(faces(subject)):
            write_picture(tmp_path / f"{person}/frame/{i + 1:06d}.jpg", face.image)
        labels = [", ".join(map(str, row)) for row in rows]
        points = [face.lm49 for face in faces(subject)]
        write_list(tmp_path, stem, [f"{person}/frame/{i + 1:06d}.jpg" for i in range(8)], 10, points, labels)
    corpus = lists.corpus(tmp_path, "jaa200", "gft")
    assert corpus.manifest["folds"] == {"gft-official": [["014B"]]}
    assert corpus.manifest["aus"] == list(GFT)
    part = parts(corpus)["001A_frame"]
    assert part.frame.tolist() == [1, 2, 3, 5, 6, 7, 8]
    assert np.isnan(part.intensity[2]).tolist() == [au == 12 for au in GFT]
    assert np.isnan(part.intensity[4]).tolist() == [au == 1 for au in GFT]
    assert remarks(part) == {
        ("label", (1,), (6,)): "value '2' in the list of labels, must be 0, 1 or 9",
        ("uncoded", (), (4,)): "no AU of its row is coded",
    }


def test_missing_pictures_and_landmarks(bp4d):
    (bp4d / "imgs/F001/T2/0010.jpg").unlink()
    path = bp4d / "BP4D_part1_land.txt"
    rows = path.read_text().splitlines()
    rows[3] = " ".join(rows[3].split()[:97])
    rows[5] = " ".join(["nan"] * 98)
    path.write_text("\n".join(rows))
    part = parts(lists.corpus(bp4d, "jaa256", "bp4d"))["F001_T2"]
    assert remarks(part) == {
        ("frame", (), (10,)): "no picture",
        ("frame", (), (12, 14)): "no landmarks in the owner's list",
    }


def break_lines(folder, name, change):
    path = folder / name
    path.write_text("\n".join(change(path.read_text().splitlines())))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("BP4D_part1_AUoccur.txt", lambda rows: rows[:-1], "8 paths, 7 rows of labels, 8 of landmarks"),
        ("BP4D_part1_AUoccur.txt", lambda rows: [rows[0] + " 1", *rows[1:]], "line 1: .* must be 12 numbers"),
        (
            "BP4D_part2_path.txt",
            lambda rows: ["F001/T2/9.jpg", *rows[1:]],
            "F001/T2/9.jpg is in BP4D_part1_path",
        ),
        (
            "BP4D_part2_path.txt",
            lambda rows: ["here/9.jpg", *rows[1:]],
            "line 1: 'here/9.jpg' must be SUBJECT/",
        ),
        ("BP4D_part2_land.txt", lambda rows: ["1 2 3 4 5 6", *rows[1:]], r"hold \[3, 49\] landmarks a frame"),
    ],
)
def test_lists_that_do_not_fit(bp4d, name, change, message):
    break_lines(bp4d, name, change)
    with pytest.raises(ValueError, match=message):
        lists.corpus(bp4d, "jaa256", "bp4d")


def test_lists_of_something_else(tmp_path, bp4d):
    with pytest.raises(ValueError, match=r"not GFT as lists|must be SUBJECT"):
        lists.corpus(bp4d / "imgs", "jaa256", "gft")
    (bp4d / "BP4D_part1_AUoccur.txt").unlink()
    with pytest.raises(ValueError, match="BP4D_part1_AUoccur.txt must lie beside it"):
        lists.corpus(bp4d, "jaa256", "bp4d")
    with pytest.raises(ValueError, match=r"lists of 'raf_au': known are lists of \['bp4d'"):
        lists.corpus(bp4d, "jaa256", "raf_au")
