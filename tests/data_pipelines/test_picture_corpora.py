"""Aff-Wild2 and RAF-AU from their owners' layouts."""

import numpy as np
import pytest
from corpus_folders import faces, parts, remarks, shows, write_landmarks, write_picture

from data_pipelines.corpora import aff_wild2, raf_au
from data_pipelines.face_source import FaceSource
from data_pipelines.preparation import prepare
from data_pipelines.records import ABSENT, OCCURS
from jaxau import facs
from jaxau.faces.align import align, transform_points

AUS = facs.CORPUS_AUS["aff_wild2"]


def rows_of(video, aus):
    return [[(frame * (k + 2) + len(video)) // 2 % 2 for k in range(len(aus))] for frame in range(8)]


def write_aff_wild(folder, aus, change=lambda video, rows: rows):
    """Training videos 3 and 10-30-1280x720, one for validation; the first has no picture 4."""
    table = []
    for subject, (part, video) in enumerate(
        (("Train_Set", "3"), ("Train_Set", "10-30-1280x720"), ("Validation_Set", "7_left"))
    ):
        path = folder / f"AU_Set/{part}/{video}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [",".join(map(str, row)) for row in change(video, rows_of(video, aus))]
        path.write_text("\n".join([",".join(f"AU{au}" for au in aus), *rows]) + "\n")
        for i, face in enumerate(faces(subject)):
            if (video, i) != ("3", 3):
                write_picture(folder / f"cropped_aligned/{video}/{i + 1:05d}.jpg", face.image)
            table.append((video, i + 1, face.lm68))
    return FaceSource("file", write_landmarks(folder / "landmarks.csv", table))


def test_aff_wild2(tmp_path):
    def change(video, rows):
        if video == "3":
            rows[5][2] = -1
            rows[6][AUS.index(12)] = 4
            rows[7] = rows[7][:-1]
        return rows

    source = write_aff_wild(tmp_path, AUS, change)
    corpus = aff_wild2.corpus(tmp_path, "jaa256", source)
    assert corpus.manifest["folds"] == {"affwild2-12au": [["7_left"]]}
    assert corpus.subjects == ["10-30-1280x720", "3", "7_left"]
    found = parts(corpus)
    assert found["7_left"].frame.tolist() == list(range(1, 9)) and not found["7_left"].remarks
    labels = np.where(np.array(rows_of("7_left", AUS)), OCCURS, ABSENT)
    np.testing.assert_array_equal(found["7_left"].intensity, labels)
    for i, face in enumerate(faces(2)):
        assert shows(found["7_left"].images[i], face)
        _, matrix = align(face.image, face.lm68, "jaa256")
        expected = transform_points(face.lm68, matrix)
        np.testing.assert_allclose(found["7_left"].landmarks[i], expected, atol=5e-3)
    part = found["3"]
    assert part.frame.tolist() == [1, 2, 3, 5, 7]
    assert np.isnan(part.intensity[4]).tolist() == [au == 12 for au in AUS]
    assert remarks(part) == {
        ("frame", (), (4,)): "no picture",
        ("uncoded", (), (6,)): "not annotated (-1)",
        ("label", (12,), (7,)): "value '4' in 3.txt, must be 0, 1 or -1",
        ("frame", (), (8,)): "its row in 3.txt has not 12 codes",
    }


def test_the_release_with_8_aus(tmp_path):
    aus = facs.CORPUS_AUS["aff_wild2_8au"]
    source = write_aff_wild(tmp_path, aus)
    corpus = aff_wild2.corpus(tmp_path, "jaa256", source, "aff_wild2_8au")
    assert corpus.manifest["aus"] == [1, 2, 4, 6, 12, 15, 20, 25]
    assert corpus.manifest["folds"] == {"affwild2-8au": [["7_left"]]}
    labels = np.where(np.array(rows_of("3", aus)), OCCURS, ABSENT)
    np.testing.assert_array_equal(parts(corpus)["3"].intensity, np.delete(labels, 3, 0))
    with pytest.raises(ValueError, match=r"0.txt: its first row is 'AU1,AU2,.*is this the other release"):
        parts(aff_wild2.corpus(tmp_path, "jaa256", source))


def test_a_video_in_both_sets(tmp_path):
    source = write_aff_wild(tmp_path, AUS)
    (tmp_path / "AU_Set/Validation_Set/3.txt").write_text("AU1\n")
    with pytest.raises(ValueError, match=r"\['3'\] are in both sets"):
        aff_wild2.corpus(tmp_path, "jaa256", source)


RAF = """0001.jpg 1+2+L4+25
0002.jpg null
0003.jpg R12+6   
0004.jpg 12+x9
0005.jpg 43+27+10
0006.jpg 1
"""
RAF_AUS = facs.CORPUS_AUS["raf_au"]


@pytest.fixture
def raf(tmp_path):
    (tmp_path / "RAFAU_label.txt").write_text(RAF)
    for i in range(5):
        write_picture(tmp_path / f"aligned/{i + 1:04d}_aligned.jpg", faces(0)[i].image)
    table = [(f"{i + 1:04d}", i + 1, faces(0)[i].lm68) for i in range(6) if i != 2]
    return tmp_path, FaceSource("file", write_landmarks(tmp_path / "landmarks.csv", table))


def test_raf_au(raf):
    corpus = raf_au.corpus(raf[0], "jaa256", raf[1])
    found = parts(corpus)
    assert corpus.subjects == [f"{i:04d}" for i in range(1, 7)]

    def occurring(name):
        assert set(found[name].intensity[0].tolist()) <= {ABSENT, OCCURS}
        return {au for k, au in enumerate(RAF_AUS) if found[name].intensity[0, k] == OCCURS}

    assert occurring("0001") == {1, 2, 4, 25}
    assert occurring("0002") == set()
    assert occurring("0005") == {27, 10}
    assert shows(found["0002"].images[0], faces(0)[1])
    assert {name: list(remarks(part).items()) for name, part in found.items() if part.remarks} == {
        "0003": [(("frame", (), (3,)), "no landmarks in the table")],
        "0004": [(("frame", (), (4,)), "code 'x9', must be an AU with or without L or R")],
        "0006": [(("frame", (), (6,)), "no picture")],
    }


def test_the_seeded_split_of_raf_au_does_not_depend_on_other_pictures(tmp_path):
    names = [f"{i:04d}" for i in range(1, 4602)]
    test = raf_au._draw_test(names)
    assert len(test) == 920 and test == raf_au._draw_test(list(reversed(names)))
    fewer = raf_au._draw_test(names[:4000])
    assert len(set(fewer) - set(test)) < 60


@pytest.mark.parametrize("line", ["0001.jpg", "0001.jpg 1 2", "a.jpg 1", "0001.jpg 1\n0001.jpg 2"])
def test_lines_that_are_no_labels(tmp_path, line):
    (tmp_path / "RAFAU_label.txt").write_text(line)
    with pytest.raises(ValueError, match=r"line [12]: .* must be a picture and its AUs"):
        raf_au.corpus(tmp_path, "jaa256", None)


def test_no_landmarks_or_another_folder(raf, tmp_path_factory):
    with pytest.raises(ValueError, match=r"raf_au: its folder holds no landmarks; .*--landmarks=TABLE.csv"):
        prepare(raf_au.corpus(raf[0], "jaa256", None), raf[0] / "data")
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(ValueError, match="not RAF-AU as its owner ships it"):
        raf_au.corpus(empty, "jaa256", None)
    with pytest.raises(ValueError, match="not Aff-Wild2 with 12 AUs as its owner ships it"):
        aff_wild2.corpus(empty, "jaa256", None)
