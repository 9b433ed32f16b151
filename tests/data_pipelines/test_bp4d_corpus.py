"""BP4D and BP4D+ from their owner's layout, with the faults of real folders."""

import numpy as np
import pytest
import scipy.io
from corpus_folders import faces, parts, remarks, shows, write_fit, write_landmarks, write_picture

from data_pipelines import doctor
from data_pipelines.corpora import bp4d
from data_pipelines.face_source import FaceSource
from data_pipelines.preparation import prepare
from data_pipelines.records import ABSENT, OCCURS, Records
from jaxau import facs
from jaxau.faces.align import align, transform_points

AUS = facs.CORPUS_AUS["bp4d"]
HEADER = [0, 1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 23, 24]  # 5, 9, 11, 16: not among the 12


def codes(frame):
    """A row of codes that differs between frames and columns."""
    return [(frame * (k + 3) // 2 + k) % 2 for k in range(len(HEADER) - 1)]


def expected(row):
    wanted = [row[HEADER.index(au) - 1] for au in AUS]
    return [{0: ABSENT, 1: OCCURS}.get(code, np.nan) for code in wanted]


def write_labels(folder, name, rows):
    path = folder / f"AUCoding/AU_OCC/{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(",".join(map(str, row)) for row in [HEADER, *rows]) + "\n")


@pytest.fixture
def folder(tmp_path):
    """F001/T1 (numbers of 4 digits), F001/T8 (3 digits, counting from 0) and M002/T3 (2 digits)."""
    for name, subject, first, width, coded in (
        ("F001_T1", 0, 95, 4, range(96, 102)),  # 95 and 102 have a picture, but no row
        ("F001_T8", 1, 0, 3, range(0, 8)),
        ("M002_T3", 2, 8, 2, range(8, 16)),
    ):
        person, task = name.split("_")
        for i, face in enumerate(faces(subject)):
            path = tmp_path / f"Sequences(2D+3D)/{person}/{task}/{first + i:0{width}d}.jpg"
            write_picture(path, face.image)
        write_fit(tmp_path / f"2DFeatures/{name}.mat", [face.lm49 for face in faces(subject)])
        write_labels(tmp_path, name, [[f, *codes(f)] for f in coded])
    return tmp_path


def test_frames_labels_and_landmarks(folder):
    found = parts(bp4d.corpus(folder, "jaa256"))
    assert list(found) == ["F001_T1", "F001_T8", "M002_T3"]
    for name, subject, first, numbers in (
        ("F001_T1", 0, 95, range(96, 102)),
        ("F001_T8", 1, 0, range(8)),
        ("M002_T3", 2, 8, range(8, 16)),
    ):
        part = found[name]
        assert part.frame.tolist() == list(numbers) and not part.remarks
        for i, number in enumerate(numbers):
            face = faces(subject)[number - first]
            assert shows(part.images[i], face)
            _, matrix = align(face.image, face.lm49, "jaa256")
            np.testing.assert_allclose(part.landmarks[i], transform_points(face.lm49, matrix), atol=1e-3)
            np.testing.assert_array_equal(part.intensity[i], np.float32(expected(codes(number))))


def test_the_manifest_names_videos_and_counts(folder, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    prepare(bp4d.corpus(folder, "jaa256"), data, workers=1)
    manifest = Records(data, "bp4d").manifest
    assert manifest["counts"] == {"subjects": 2, "videos": 3, "records": 22}
    assert [(v["subject_name"], v["video"], v["video_name"]) for v in manifest["videos"]] == [
        ("F001", 0, "F001_T1"),
        ("F001", 1, "F001_T8"),
        ("M002", 0, "M002_T3"),
    ]
    rows = np.array([expected(codes(f)) for f in [*range(96, 102), *range(8), *range(8, 16)]])
    assert manifest["base_rates"] == (rows == OCCURS).mean(0).tolist()
    assert manifest["label_rule"] == {"min_intensity": 1.0}


def test_codes_that_are_no_labels(folder):
    rows = [[f, *codes(f)] for f in range(8)]
    rows[1][HEADER.index(4)] = 9  # not coded: masked without a word
    rows[2][HEADER.index(12)] = 7  # not in the code book
    rows[3][1:] = [9] * (len(HEADER) - 1)
    rows[4] = rows[4][:-2]
    rows[6][HEADER.index(5)] = 3  # not one of the 12 AUs
    write_labels(folder, "F001_T8", [*rows, [7, *codes(0)]])
    part = parts(bp4d.corpus(folder, "jaa256"))["F001_T8"]
    assert part.frame.tolist() == [0, 1, 2, 5, 6, 7]
    assert np.isnan(part.intensity[1]).tolist() == [au == 4 for au in AUS]
    assert np.isnan(part.intensity[2]).tolist() == [au == 12 for au in AUS]
    np.testing.assert_array_equal(part.intensity[5], np.float32(expected(codes(7))))  # the first of two rows
    assert remarks(part) == {
        ("label", (12,), (2,)): "value '7' in F001_T8.csv, must be 0, 1 or 9",
        ("label", (), (7,)): "more than one row in F001_T8.csv: the first is taken",
        ("label", (), ()): remarks(part)[("label", (), ())],
        ("uncoded", (), (3,)): "no AU of its row is coded",
    }
    assert remarks(part)[("label", (), ())].startswith("a row of F001_T8.csv cannot be read: '4,")


def write_intensities(folder, au, name, rows):
    path = folder / f"AUCoding/AU_INT/AU{au:02d}/{name}_AU{au:02d}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")


def test_intensities_refine_occurrence_and_never_change_it(folder):
    """All counts must be those of the occurrence files: the published ones."""
    rows = [[f, *codes(f)] for f in range(8)]
    for f in range(8):
        rows[f][HEADER.index(6)] = rows[f][HEADER.index(12)] = (f + 1) % 2
    rows[6][HEADER.index(12)] = 9
    write_labels(folder, "F001_T8", rows)
    plain = bp4d.corpus(folder, "jaa256")
    before = parts(plain)["F001_T8"].intensity
    sixes = ["0,1", "1,0", "2,5", "3,2", "4,0", "5,9", "6,7", "7,0", "7,2", "9,4"]  # no codes for frame 9
    write_intensities(folder, 6, "F001_T8", sixes)
    write_intensities(
        folder, 12, "F001_T8", ["frame,intensity", *(f"{f},{(f + 1) % 2 * 3}" for f in range(8))]
    )
    write_intensities(folder, 12, "M002_T3", [f"{f},9" for f in range(8, 16)])
    graded = bp4d.corpus(folder, "jaa256")
    assert graded.request["intensities"] == [6, 12] and "intensities" not in plain.request
    found = parts(graded)
    after, (six, twelve) = found["F001_T8"].intensity, (AUS.index(6), AUS.index(12))
    assert after[:, six].tolist() == [1, 0, 5, ABSENT, OCCURS, ABSENT, OCCURS, 0]
    np.testing.assert_array_equal(after[:, twelve], np.float32([3, 0, 3, 0, 3, 0, np.nan, 0]))
    others = [k for k in range(12) if k not in (six, twelve)]
    np.testing.assert_array_equal(after[:, others], before[:, others])
    np.testing.assert_array_equal(np.isnan(after), np.isnan(before))
    np.testing.assert_array_equal(after >= 1, before >= 1)
    assert remarks(found["F001_T8"]) == {
        ("intensity", (6,), (3, 4)): "it contradicts the occurrence code, which is kept",
        ("intensity", (6,), (6,)): "value '7' in F001_T8_AU06.csv, must be 0 to 5 or 9",
        ("intensity", (6,), (7,)): "more than one row in F001_T8_AU06.csv: the first is taken",
    }
    missing = {("intensity", (6,), tuple(range(8, 16))): "no file AU_INT/AU06/M002_T3_AU06.csv"}
    assert remarks(found["M002_T3"]) == missing
    assert set(found["M002_T3"].intensity.ravel().tolist()) == {ABSENT, OCCURS}
    plus = parts(bp4d.corpus(folder, "jaa256", plus=True))["F001_T8"]
    assert plus.intensity[:2, six].tolist() == [0, 5] and plus.frame[:2].tolist() == [1, 2]


def test_missing_and_corrupt_files(folder):
    below = folder / "Sequences(2D+3D)/F001/T8"
    (below / "002.jpg").unlink()
    (below / "003.jpg").write_bytes((below / "003.jpg").read_bytes()[:200])
    (below / "004.jpg").write_bytes(b"")
    part = parts(bp4d.corpus(folder, "jaa256"))["F001_T8"]
    # 7 pictures and 8 landmarks: the n-th is taken as that of frame n, and frame 0 has none.
    assert part.frame.tolist() == [1, 5, 6, 7]
    found = {frames: reason for (what, _, frames), reason in remarks(part).items() if what == "frame"}
    assert found[(0,)] == "no landmarks for this frame" and found[(2,)] == "no picture"
    assert found[(3,)].startswith("no picture: 003.jpg: the picture cannot be read")
    assert found[(4,)].startswith("no picture: 004.jpg: the file is empty")


def test_frames_and_files_without_landmarks(folder):
    points = [face.lm49 for face in faces(2)]
    write_fit(folder / "2DFeatures/M002_T3.mat", [*points[:5], None, *points[6:]])
    (folder / "2DFeatures/F001_T1.mat").write_bytes(b"not a .mat" * 20)
    (folder / "2DFeatures/F001_T8.mat").unlink()
    found = parts(bp4d.corpus(folder, "jaa256"))
    assert remarks(found["M002_T3"]) == {("frame", (), (13,)): "no landmarks for this frame"}
    ((_, reason),) = remarks(found["F001_T1"]).items()
    assert reason.startswith("the landmark file F001_T1.mat cannot be read (") and str(folder) not in reason
    assert list(remarks(found["F001_T8"]).values()) == ["no landmark file"]


def test_frames_without_landmarks_are_aligned_by_a_detector(folder, tmp_path_factory):
    """Else the 146,847 frames of the rule "all" could not be had with the owner's landmarks."""
    points = [face.lm49 for face in faces(2)]
    write_fit(folder / "2DFeatures/M002_T3.mat", [*points[:5], None, *points[6:7], None])
    outside = tmp_path_factory.mktemp("outside")
    table = [("M002_T3", 8 + i, face.lm68) for i, face in enumerate(faces(2)) if i != 7]
    source = FaceSource("file", write_landmarks(outside / "l.csv", table), only_missing=True)
    corpus = bp4d.corpus(folder, "jaa256", source)
    assert corpus.manifest["landmarks"] == 49 and corpus.request["landmarks_from"] == "corpus, else file"
    part = parts(corpus)["M002_T3"]
    assert part.frame.tolist() == list(range(8, 15))
    assert np.isnan(part.landmarks).all((1, 2)).tolist() == [i == 5 for i in range(7)]
    for i, face in enumerate(faces(2)[:7]):
        assert shows(part.images[i], face)
    _, matrix = align(faces(2)[6].image, points[6], "jaa256")
    np.testing.assert_allclose(part.landmarks[6], transform_points(points[6], matrix), atol=1e-3)
    why = "no landmarks for this frame; found otherwise, for the alignment alone"
    assert remarks(part) == {
        ("landmarks", (), (13,)): why,
        ("frame", (), (15,)): "no landmarks in the table",
    }
    prepare(corpus, outside, workers=1)
    manifest = Records(outside, "bp4d").manifest
    assert manifest["missing_landmarks"] == [14 + 5] and manifest["substituted"][0]["reason"] == why
    found = doctor.examine(corpus, folder, workers=1).remarks
    assert not [reason for what, reason in found if what == "frame"]  # faces are not looked for
    alone = doctor.examine(bp4d.corpus(folder, "jaa256"), folder, workers=1).remarks
    assert alone["frame", "no landmarks for this frame"] == 2


def test_landmark_files_of_an_older_version_and_fera_names(folder):
    (folder / "2DFeatures").rename(folder / "BP4D-fpoints")
    points = np.empty((1, 8), [("pred", object)])
    for i, face in enumerate(faces(2)):
        points[0, i]["pred"] = face.lm49 + 1.0
    path = folder / "BP4D-fpoints/M002_T3.mat"
    before = bp4d.read_fit(path)
    path.unlink()
    scipy.io.savemat(path, {"fit": points})
    np.testing.assert_allclose(bp4d.read_fit(path), before, atol=1e-4)
    assert len(parts(bp4d.corpus(folder, "jaa256"))["M002_T3"].images) == 8


def test_two_pictures_of_one_number(folder):
    write_picture(folder / "Sequences(2D+3D)/F001/T8/7.jpg", faces(0)[0].image)
    corpus = bp4d.corpus(folder, "jaa256")
    with pytest.raises(ValueError, match=r"F001/T8: 007.jpg and 7.jpg are both picture 7"):
        corpus.listed(1)


def test_pictures_of_bp4dplus_count_from_one_less(folder):
    part = parts(bp4d.corpus(folder, "jaa256", plus=True))["F001_T1"]
    # Frame f is picture f - 1: 96 .. 101 are the pictures 95 .. 100, which are the first six faces.
    assert part.frame.tolist() == list(range(96, 102)) and not part.remarks
    for i, face in enumerate(faces(0)[:6]):
        assert shows(part.images[i], face)
        _, matrix = align(face.image, face.lm49, "jaa256")
        np.testing.assert_allclose(part.landmarks[i], transform_points(face.lm49, matrix), atol=1e-3)


def test_something_else(tmp_path):
    (tmp_path / "DISFA").mkdir()
    with pytest.raises(
        ValueError, match=r"not BP4D as its owner ships it.*F001_T1.csv.*Found there: DISFA\."
    ):
        bp4d.corpus(tmp_path, "jaa256")


def test_without_landmarks_a_detector_is_asked_for(folder):
    (folder / "2DFeatures").rename(folder / "elsewhere")
    with pytest.raises(ValueError, match=r"bp4d: its folder holds no landmarks; .*--detector=yunet"):
        prepare(bp4d.corpus(folder, "jaa256"), folder / "data")
    assert not (folder / "data").exists()


def test_the_doctor_names_subjects_that_no_fold_or_no_folder_has(folder):
    labels = folder / "AUCoding/AU_OCC/M002_T3.csv"
    labels.rename(labels.with_name("F099_T3.csv"))
    found = doctor.examine(bp4d.corpus(folder, "jaa256"), folder, labels_only=True)
    assert [line.split(";")[0] for line in found.problems] == [
        "protocol 'bp4d-3fold': subjects ['F099'] of the data set are in no fold"
    ]
    labels.with_name("F099_T3.csv").rename(labels)
    found = doctor.examine(bp4d.corpus(folder, "jaa256"), folder, labels_only=True)
    assert found.problems[0].startswith("protocol 'bp4d-3fold': subjects ['F002', 'F003',")
    assert "are not in the data set" in found.problems[0]
