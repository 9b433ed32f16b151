"""Triplets and emotions of synthetic faces, whose records hold neither: they follow from their AUs."""

from itertools import islice

import numpy as np
import pytest

from data_pipelines.corpora.affectnet import EMOTIONS
from data_pipelines.loader import make_data
from data_pipelines.records import Records
from data_pipelines.synthetic.emotions import emotions
from data_pipelines.synthetic.triplets import MATCHED_SHARE, MISLEADING_SHARE
from jaxau.config import Augment, Config, DataConfig, Stage
from jaxau.facs import SYNTHETIC_AUS

PLAIN = Augment(0.0, 0.0, 0)


def _data(folder, view, mine=False, **data):
    fields = dict(aus=(1, 12), image_size=32, inner_fraction=0.5, sampling="all") | data
    config = Config(
        "gtle_net",
        DataConfig("synthetic", protocol="synthetic-3fold", **fields),
        {"only": Stage(view, epochs=1, batch_size=8, augment=PLAIN, mine_triplets=mine)},
    )
    return make_data(config, folder)


def test_triplets_are_of_the_parts_people_and_the_odd_one_is_farthest(tiny_faces):
    data, source = _data(tiny_faces, "triplets"), Records(tiny_faces, "synthetic")
    assert data.num_examples("only") == 3 * 2 * 24  # as many as the three people have frames
    shared = []
    for part in ("train", "inner", "test"):
        names = set(getattr(data.split, part))
        people = {i for i, s in enumerate(source.manifest["subjects"]) if s["name"] in names}
        seen = set()
        for batch in data.evaluate("only", part, 8):
            assert batch["image"].shape == (8, 3, 32, 32, 3)
            assert set(batch["triplet_class"]) <= {1, 2, 3}
            for trio in batch["record"][batch["mask"]]:
                frames = [source.raw(int(record)) for record in trio]
                a, p, n = (frame["au_intensity"] for frame in frames)
                near, far = np.linalg.norm(a - p), min(np.linalg.norm(a - n), np.linalg.norm(p - n))
                assert near < 0.7 * far
                who = [int(frame["subject"]) for frame in frames]
                shared.append(1 if who[0] == who[1] else 2 * (who[2] in who[:2]))
                seen |= set(who)
        assert seen == people
    share = np.bincount(shared, minlength=3) / len(shared)
    np.testing.assert_allclose(share[1:], [MATCHED_SHARE, MISLEADING_SHARE], atol=0.02)


def test_triplets_that_follow_are_true_and_only_train(tiny_faces, caplog):
    source = Records(tiny_faces, "synthetic")
    with caplog.at_level("INFO"):
        data = _data(tiny_faces, "triplets", mine=True)
    annotated, total = 3 * 2 * 24, data.num_examples("only")
    assert f"{annotated} are annotated, {total - annotated} follow from chains" in caplog.text
    assert total > annotated + 10
    seen = set()
    for batch in islice(data.train("only"), total // 8):
        for trio, derived in zip(batch["record"].tolist(), batch["derived"].tolist(), strict=True):
            a, p, n = (source.raw(record)["au_intensity"] for record in trio)
            assert np.linalg.norm(a - p) < np.linalg.norm(a - n)
            seen.add((*trio, derived))
    assert sum(derived for *_, derived in seen) > (total - annotated) / 2
    for part in ("train", "inner", "test"):
        assert not any(batch["derived"].any() for batch in data.evaluate("only", part, 8))
    assert "derived" not in next(_data(tiny_faces, "triplets").train("only"))


@pytest.mark.parametrize("view", ["triplets", "emotions"])
def test_a_share_of_the_au_labels_takes_no_face_from_other_views(tiny_faces, view):
    """Even if it leaves some people without any."""
    whole, part = (
        _data(tiny_faces, view, fraction=share, fraction_by="frame", aus=(4, 12)) for share in (1.0, 0.01)
    )
    assert part.statistics["n"] < 5 and whole.statistics["n"] == 3 * 2 * 24
    assert part.num_examples("only") == whole.num_examples("only") > 20
    for one, other in zip(whole.evaluate("only", "train", 8), part.evaluate("only", "train", 8), strict=True):
        np.testing.assert_array_equal(one["record"], other["record"])


def test_two_people_make_no_triplets(tiny_faces):
    with pytest.raises(ValueError, match="name at least three"):
        _data(tiny_faces, "triplets", inner_fraction=0.67)


def test_emotions_are_the_prototypes(tiny_faces):
    prototypes = {
        "neutral": {}, "happy": {12: 4, 6: 3}, "sad": {1: 3, 4: 3, 15: 3, 17: 2},
        "surprise": {1: 4, 2: 4, 5: 3, 25: 4, 26: 3}, "fear": {1: 3, 2: 2, 4: 2, 5: 2, 20: 3, 25: 2},
        "disgust": {9: 3, 10: 4, 4: 2, 7: 2}, "anger": {4: 4, 7: 3},
    }  # fmt: skip
    faces = np.array([[aus.get(au, 0) for au in SYNTHETIC_AUS] for aus in prototypes.values()], float)
    assert [EMOTIONS[i] for i in emotions(faces)] == list(prototypes)
    pressed = np.array([[{23: 3, 24: 3}.get(au, 0) for au in SYNTHETIC_AUS]], float)
    assert emotions(pressed).tolist() == [-1]

    data, source = _data(tiny_faces, "emotions"), Records(tiny_faces, "synthetic")
    batches = list(data.evaluate("only", "train", 8))
    mask = np.concatenate([batch["mask"] for batch in batches])
    record = np.concatenate([batch["record"] for batch in batches])[mask]
    emotion = np.concatenate([batch["emotion"] for batch in batches])[mask]
    assert batches[0]["image"].shape == (8, 32, 32, 3) and data.num_examples("only") == len(record)
    rows = [source.raw(i) for i in range(source.manifest["counts"]["records"])]
    every = emotions(np.stack([row["au_intensity"] for row in rows]))
    names = [source.manifest["subjects"][int(row["subject"])]["name"] for row in rows]
    train = np.isin(names, data.split.train)
    assert record.tolist() == np.flatnonzero((every >= 0) & train).tolist()
    np.testing.assert_array_equal(emotion, every[record])
    assert len(set(emotion.tolist())) >= 3 and (every[train] < 0).any()
