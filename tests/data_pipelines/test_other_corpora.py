"""Corpora without AUs: 300W-LP, WFLW and AffectNet from their owners' layouts."""

import hashlib

import numpy as np
import pytest
import scipy.io
from corpus_folders import faces, parts, remarks, shows, write_landmarks, write_picture

from data_pipelines import doctor
from data_pipelines.corpora import affectnet, fec, landmark_sets, open_corpus
from data_pipelines.face_source import FaceSource
from data_pipelines.preparation import prepare
from data_pipelines.records import Records, check
from jaxau.faces.align import align, transform_points


def test_300w_lp(tmp_path, tmp_path_factory):
    for name, subject in (("AFW", 0), ("HELEN", 1)):
        for i, face in enumerate(faces(subject)):
            picture, points = face.image, face.lm68
            write_picture(tmp_path / f"{name}/{name}_{i}.jpg", picture)
            if (name, i) == ("AFW", 1):  # the better landmarks are taken
                (tmp_path / "landmarks/AFW").mkdir(parents=True)
                scipy.io.savemat(tmp_path / f"landmarks/AFW/AFW_{i}_pts.mat", {"pts_2d": points + 1.0})
                points = points + 20
            if (name, i) != ("HELEN", 2):
                scipy.io.savemat(
                    tmp_path / f"{name}/{name}_{i}.mat", {"pt2d": points.T + 1.0, "Pose_Para": [0.0]}
                )
    write_picture(tmp_path / "AFW_Flip/AFW_0.jpg", faces(0)[0].image[:, ::-1])
    (tmp_path / "AFW_Flip/AFW_0.mat").write_bytes(b"none")
    data = tmp_path_factory.mktemp("data")
    corpus = landmark_sets.corpus_300w_lp(tmp_path, "wide")
    found = parts(corpus)
    assert remarks(found["HELEN/00000"]) == {("frame", (), (3,)): "no landmark file"}
    ((key, reason),) = remarks(found["AFW/00000"]).items()
    assert key == ("frame", (), (9,)) and reason.startswith("the landmark file cannot be read")
    assert found["AFW/00000"].frame.tolist() == list(range(1, 9))
    for i, face in enumerate(faces(0)):
        assert shows(found["AFW/00000"].images[i], face, "wide")
        _, matrix = align(face.image, face.lm68, "wide")
        expected = transform_points(face.lm68, matrix)
        np.testing.assert_allclose(found["AFW/00000"].landmarks[i], expected, atol=2e-3)
    prepare(corpus, data, workers=1)
    source = Records(data, "300w_lp")
    assert len(source) == 15 and check(data, "300w_lp") == []
    assert source.manifest["counts"] == {"subjects": 2, "videos": 2, "records": 15}
    assert source.frame(0).image.shape == (448, 448, 3) and source.frame(0).intensity.shape == (0,)


def test_parts_of_a_set_hold_200_pictures(tmp_path):
    points = faces(0)[0].lm68
    for i in range(205):
        write_picture(tmp_path / f"AFW/a{i:03d}.jpg", np.zeros((8, 8, 3), np.uint8))
        scipy.io.savemat(tmp_path / f"AFW/a{i:03d}.mat", {"pt2d": points.T})
    corpus = landmark_sets.corpus_300w_lp(tmp_path, "wide")
    listed = [corpus.listed(i) for i in range(corpus.parts)]
    assert [part.frames.tolist() for part in listed] == [list(range(1, 201)), list(range(201, 206))]
    assert [path.name for path in listed[1].pictures] == [f"a{i}.jpg" for i in range(200, 205)]


def test_wflw(tmp_path):
    for name, subject in (("train", 0), ("test", 1)):
        rows = []
        for i, face in enumerate(faces(subject)):
            path = f"0--Parade/a b {name}{i}.jpg"
            if i != 5:
                write_picture(tmp_path / "WFLW_images" / path, face.image)
            coordinates = [f"{value:.3f}" for value in face.lm98.ravel()]
            if (name, i) == ("train", 3):
                coordinates[7] = "x"
            rows.append(" ".join([*coordinates, "1 2 3 4", "0 0 0 0 0 0", path]))
        (tmp_path / f"list_98pt_rect_attr_{name}.txt").write_text("\n".join(rows) + "\n")
    found = parts(landmark_sets.corpus_wflw(tmp_path, "jaa256"))
    part = found["train/00000"]
    assert part.frame.tolist() == [1, 2, 3, 5, 7, 8] and part.landmarks.shape == (6, 98, 2)
    assert remarks(part) == {
        ("frame", (), (4,)): "its row in the list has not 98 points",
        ("frame", (), (6,)): "no picture",
    }
    _, matrix = align(faces(0)[0].image, faces(0)[0].lm98, "jaa256")
    np.testing.assert_allclose(part.landmarks[0], transform_points(faces(0)[0].lm98, matrix), atol=5e-3)
    assert len(found["test/00000"].images) == 7


HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n"
)


def test_affectnet(tmp_path, tmp_path_factory):
    codes = [0, 6, 7, 3, 11, 1, 10, 2]
    for file, subject in (("training", 0), ("validation", 1)):
        rows = []
        for i, face in enumerate(faces(subject)):
            path = f"{subject}/{file}{i}.jpg"
            write_picture(tmp_path / "Manually_Annotated_Images" / path, face.image)
            points = ";".join(f"{value:.3f}" for value in face.lm68.ravel())
            if (file, i) == ("training", 5):
                points = ";".join(points.split(";")[:-2])
            rows.append(f"{path},1,2,3,4,{points},{codes[i]},-0.1,0.2\n")
        (tmp_path / f"{file}.csv").write_text(HEADER + "".join(rows))
    corpus = affectnet.corpus(tmp_path, "jaa256")
    part = parts(corpus)["train/00000"]
    assert part.frame.tolist() == [1, 2, 4, 8] and part.emotion.tolist() == [0, 6, 3, 2]
    assert remarks(part) == {
        ("uncoded", (), (3,)): "expression 7 (contempt) is none of the seven",
        ("uncoded", (), (7,)): "expression 10 (no face) is none of the seven",
        ("frame", (), (5,)): "expression '11', must be 0 to 10",
        ("frame", (), (6,)): "no landmarks in the owner's list",
    }
    assert shows(part.images[3], faces(0)[7])
    data = tmp_path_factory.mktemp("data")
    prepare(corpus, data, workers=1)
    manifest = Records(data, "affectnet").manifest
    assert manifest["emotion_counts"] == [2, 1, 2, 2, 0, 0, 2] and check(data, "affectnet") == []
    assert [int(Records(data, "affectnet").raw(i)["emotion"]) for i in range(4)] == [0, 6, 3, 2]


def test_the_newer_affectnet(tmp_path):
    for folder, subject in (("train_set", 0), ("val_set", 1)):
        (tmp_path / folder / "annotations").mkdir(parents=True)
        for i, face in zip((9, 10, 100), faces(subject), strict=False):
            write_picture(tmp_path / folder / f"images/{i}.jpg", face.image)
            np.save(
                tmp_path / folder / f"annotations/{i}_exp.npy", "4" if i == 10 else "8" if i == 100 else "1"
            )
            np.save(tmp_path / folder / f"annotations/{i}_lnd.npy", face.lm68.ravel())
    part = parts(affectnet.corpus(tmp_path, "jaa256"))["train/00000"]
    assert part.frame.tolist() == [1, 2] and part.emotion.tolist() == [1, 4]
    assert shows(part.images[1], faces(0)[1])


def test_something_else(tmp_path):
    for name, title in (("300w_lp", "300W-LP"), ("wflw", "WFLW"), ("affectnet", "AffectNet")):
        with pytest.raises(ValueError, match=f"not {title} as its owner ships it"):
            open_corpus(name, tmp_path, "wide")
    with pytest.raises(ValueError, match="corpus 'emotionet': not one of"):
        open_corpus("emotionet", tmp_path, "wide")


def fec_row(trio, kind, votes):
    """Three (url, left, right, top, bottom), the type, and votes of annotators."""
    cells = [cell for face in trio for cell in face] + [kind]
    for i, vote in enumerate(votes):
        cells += [f"annotator{i}", str(vote)]
    return ",".join(map(str, cells))


def test_fec(tmp_path, tmp_path_factory):
    urls = [f"http://example.org/{i}.jpg" for i in range(6)]
    side = faces(0)[0].image.shape[1]
    one = [(url, 0.0, 1.0, 0.0, 1.0) for url in urls]
    # The first picture holds two faces side by side; each box names one of them.
    left, right = (urls[0], 0.0, 0.5, 0.0, 1.0), (urls[0], 0.5, 1.0, 0.0, 1.0)
    rows = [
        fec_row((left, right, one[1]), "TWO_CLASS_TRIPLET", [2, 2, 2, 2, 1, 3]),
        fec_row((one[2], one[1], one[3]), "ONE_CLASS_TRIPLET", [3, 3, 3, 3, 3, 3]),
        fec_row((one[1], one[2], one[3]), "THREE_CLASS_TRIPLET", [1, 1, 1, 1, 1, 2, 2, 3]),
        fec_row((one[1], one[2], one[4]), "THREE_CLASS_TRIPLET", [1, 1, 2, 2, 3, 3]),
        fec_row((one[1], one[2], one[4]), "FOUR_CLASS_TRIPLET", [1, 1]),
        fec_row((one[1], one[2], one[4]), "ONE_CLASS_TRIPLET", [7]),
        "http://example.org/9.jpg,0.1",
    ]
    (tmp_path / "faceexp-comparison-data-train-public.csv").write_text("\n".join(rows))
    test = [fec_row((one[5], one[1], one[2]), "TWO_CLASS_TRIPLET", [1, 1, 1])]
    (tmp_path / "faceexp-comparison-data-test-public.csv").write_text("\n".join(test))

    def save(i, picture):
        write_picture(tmp_path / f"images/{hashlib.sha1(urls[i].encode()).hexdigest()}.jpg", picture)

    save(0, np.concatenate([faces(0)[0].image, faces(1)[0].image], axis=1))
    for i in (1, 2, 5):
        save(i, faces(2)[i].image)
    table = {
        "train/00000": {1: [faces(0)[0].lm68, faces(1)[0].lm68 + [side, 0]], 3: [faces(2)[1].lm68]},
        "test/00000": {1: [faces(2)[5].lm68], 2: [faces(2)[1].lm68], 3: [faces(2)[2].lm68]},
    }
    table["train/00000"][2] = table["train/00000"][1]
    table["train/00000"][4] = [faces(2)[2].lm68]
    lines = write_landmarks(
        tmp_path / "l.csv",
        [(part, frame, face) for part, of in table.items() for frame in sorted(of) for face in of[frame]],
    )
    text = lines.read_text().splitlines()
    seen = set()
    for i, line in enumerate(text[1:], 1):
        video, frame, _, rest = line.split(",", 3)
        text[i] = f"{video},{frame},{int((video, frame) in seen)},{rest}"
        seen.add((video, frame))
    lines.write_text("\n".join(text))
    corpus = fec.corpus(tmp_path, "jaa256", FaceSource("file", lines))
    # Faces of the training file by number: 1 left, 2 right, 3 one[1], 4 one[2], 5 one[3].
    assert corpus.manifest["triplets"]["train"] == [[1, 3, 2, 2], [4, 3, 5, 1], [4, 5, 3, 3]]
    assert corpus.manifest["triplets"]["test"] == [[2, 3, 1, 2]]
    dropped = {"row cannot be read": 3, "fewer than 60 % of the votes agree": 1}
    assert corpus.manifest["triplets_dropped"] == {"train": dropped, "test": {}}
    found = parts(corpus)
    part = found["train/00000"]
    assert part.frame.tolist() == [1, 2, 3, 4]
    assert remarks(part) == {("frame", (), (5, 6)): "no picture"}
    assert shows(part.images[2], faces(2)[1])
    for i, face in ((0, faces(0)[0].lm68), (1, faces(1)[0].lm68 + [side, 0])):
        picture = np.concatenate([faces(0)[0].image, faces(1)[0].image], axis=1)
        _, matrix = align(picture, face, "jaa256")
        np.testing.assert_allclose(part.landmarks[i], transform_points(face, matrix), atol=5e-3)
    data = tmp_path_factory.mktemp("data")
    prepare(corpus, data, workers=1)
    manifest = Records(data, "fec").manifest
    assert manifest["triplets"] == corpus.manifest["triplets"]
    for found in (doctor.examine(corpus, tmp_path, workers=1), doctor.of_manifest(manifest)):
        assert found.remarks == {
            ("frame", "no picture"): 2,
            ("triplet", "train: a face of it cannot be used"): 2,
            ("triplet", "train: row cannot be read"): 3,
            ("triplet", "train: fewer than 60 % of the votes agree"): 1,
        }
        assert found.problems == ["2 labelled frames cannot be used, see the reasons"]


def test_fec_pictures_under_names_of_ones_own(tmp_path):
    url = "http://example.org/1.jpg"
    row = fec_row([(url, 0, 1, 0, 1)] * 3, "ONE_CLASS_TRIPLET", [1])
    for name in ("train", "test"):
        (tmp_path / f"faceexp-comparison-data-{name}-public.csv").write_text(row)
    (tmp_path / "downloads.csv").write_text(f"url,file\n{url},mine/a.jpg\n")
    write_picture(tmp_path / "mine/a.jpg", faces(0)[0].image)
    listed = fec.corpus(tmp_path, "jaa256", None).listed(0)
    assert listed.pictures == [tmp_path / "mine/a.jpg"]
