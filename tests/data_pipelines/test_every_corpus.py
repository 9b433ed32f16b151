"""What holds of every corpus: the wide alignment, resuming, and stages that train on another corpus."""

import dataclasses
from itertools import islice

import numpy as np
import pytest
from corpus_folders import faces, shows
from every_corpus import DRAWN, NAMES, PICTURES, write_corpus
from small_run import small_fan_config

from configs import fan
from data_pipelines.loader import make_data
from data_pipelines.preparation import prepare
from data_pipelines.records import Records, check
from data_pipelines.synthetic import SynthFaces
from jaxau import evaluate, train
from jaxau.config import Augment, Stage, from_dict
from jaxau.faces.align import align
from jaxau.faces.landmarks import five_points


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def difference(crop, face, shift):
    return np.abs(align(face.image, face.lm68 + shift, "wide")[0].astype(int) - crop).mean()


@pytest.mark.parametrize("name", NAMES)
def test_wide_pictures_of_every_corpus_whether_stopped_or_not(name, tmp_path):
    if name == "disfa":
        pytest.importorskip("av", reason="videos are read and written with PyAV: pip install jaxau[video]")
    corpus, made = write_corpus(name, tmp_path / "raw", "wide"), []

    def stops(request, part):
        made.append(part)
        if len(made) == 2:
            raise KeyboardInterrupt
        return corpus.make(request, part)

    stopping = dataclasses.replace(corpus, make=stops)
    with pytest.raises(KeyboardInterrupt):
        prepare(stopping, tmp_path / "stopped", workers=1)
    assert prepare(stopping, tmp_path / "stopped", workers=1) and prepare(
        corpus, tmp_path / "whole", workers=1
    )
    assert made == [0, 1, *range(1, corpus.parts or 3)]
    assert contents(tmp_path / "stopped" / name) == contents(tmp_path / "whole" / name)

    assert check(tmp_path / "whole", name) == []
    source = Records(tmp_path / "whole", name)
    subjects = {"synthetic": 3, "raf_au": 8}.get(name, 2)
    assert source.manifest["alignment"] == "wide" and source.manifest["excluded"] == []
    assert source.manifest["counts"]["subjects"] == subjects
    assert len(source) == (3 if name == "synthetic" else 2) * PICTURES
    for index in range(len(source)):
        subject, number = divmod(index, PICTURES)
        face = SynthFaces(DRAWN).frame(subject, 0, number) if name == "synthetic" else faces(subject)[number]
        assert shows(source.raw(index)["image"], face, "wide")
        # Pixels count from 0: landmarks one pixel off would cut out a picture that is one pixel off.
        off = [difference(source.frame(index).image, face, shift) for shift in ((0, 0), (1, 1), (-1, -1))]
        assert off[0] < 0.7 * min(off[1:])
        # The middle of the five points is that of the crop, whose side is 2.2 * 2.9 times their extent.
        frame = source.frame(index)
        points = five_points(frame.landmarks)
        low, high = points.min(0), points.max(0)
        assert frame.image.shape == (448, 448, 3)
        np.testing.assert_allclose((low + high) / 2, 223.5, atol=0.02)
        assert 447 / (high - low).max() == pytest.approx(2.2 * 2.9, rel=1e-3)


VIEWS = {
    "fec": ("triplets", 2),
    "affectnet": ("emotions", PICTURES),
    "300w_lp": ("landmarks", 2 * PICTURES),
    "wflw": ("landmarks", PICTURES),
}


@pytest.mark.parametrize("alignment", ["jaa256", "wide"])
@pytest.mark.parametrize("other", VIEWS)
def test_stages_that_see_another_corpus(other, alignment, tmp_path, flat_config):
    """From the owner's folder to batches, in a run on the synthetic faces."""
    for name in ("synthetic", other):
        prepare(write_corpus(name, tmp_path / "raw" / name, alignment), tmp_path / "data", workers=1)
    view, examples = VIEWS[other]
    stage = Stage(view, epochs=1, batch_size=2, corpus=other, augment=Augment(0.0, 0.0, 0))
    data = dataclasses.replace(flat_config.data, alignment=alignment, image_size=64, clip_length=2)
    stages = {"first": stage, "frames": Stage("frames", epochs=1, batch_size=2)}
    config = dataclasses.replace(flat_config, data=dataclasses.replace(data, sampling="all"), stages=stages)
    batches = make_data(config, tmp_path / "data", threads=0)
    assert batches.num_examples("first") == examples
    records, seen = Records(tmp_path / "data", other), []
    for batch in islice(batches.train("first"), examples // 2):
        assert batch["mask"].all() and batch["image"].dtype == np.uint8
        seen += batch["record"].tolist()
        if view == "triplets":
            assert batch["image"].shape == (2, 3, 64, 64, 3)
            found = zip(batch["record"].tolist(), batch["triplet_class"].tolist(), strict=True)
            assert all({1: [4, 5, 6], 3: [7, 4, 5]}[kind] == trio for trio, kind in found)
            continue
        assert batch["image"].shape == (2, 64, 64, 3)
        for i, record in enumerate(batch["record"].tolist()):
            if view == "emotions":
                assert batch["emotion"][i] == record == int(records.raw(record)["emotion"])
            else:
                assert batch["landmarks"][i].shape == records.frame(record).landmarks.shape
                assert 0 < batch["landmarks"][i].mean() < 64
                nose = five_points(batch["landmarks"][i])[2]
                assert np.abs(nose - 32).max() < 16
    assert len({str(record) for record in seen}) == examples
    trained = next(batches.train("frames"))
    assert trained["au"].shape == (2, len(data.aus)) and trained["corpus"].tolist() != [0, 0]


def test_the_papers_fan_is_trained_on_300w_lp(tmp_path):
    """Its own configuration, as `launch.train` opens it; all of the corpus trains."""
    prepare(write_corpus("300w_lp", tmp_path / "raw", "wide"), tmp_path / "data", workers=1)
    config = from_dict(fan.get_config("300w_lp").to_dict())
    stages = {"landmarks": dataclasses.replace(config.stages["landmarks"], batch_size=2)}
    data = make_data(dataclasses.replace(config, stages=stages), tmp_path / "data", threads=0)
    assert data.split.train == ("AFW", "HELEN") and data.num_examples("landmarks") == 2 * PICTURES
    batch = next(data.train("landmarks"))
    assert batch["image"].shape == (2, 256, 256, 3) and batch["landmarks"].shape == (2, 68, 2)
    assert np.isfinite(batch["landmarks"]).all()


def test_a_small_fan_is_trained_and_scored_on_wflw(tmp_path):
    """From the owner's files to the error on the official test pictures."""
    prepare(write_corpus("wflw", tmp_path / "raw", "wide"), tmp_path / "data", workers=1)
    small = small_fan_config()
    fields = {"corpus": "wflw", "protocol": "wflw-official", "alignment": "wide"}
    stages = {"landmarks": dataclasses.replace(small.stages["landmarks"], epochs=1, batch_size=4)}
    data = dataclasses.replace(small.data, **fields)
    config = dataclasses.replace(small, data=data, stages=stages, selection="conventional")

    def open_data(config):
        return make_data(config, tmp_path / "data", threads=0)

    train.run(config, open_data, tmp_path / "run")
    scores = evaluate.read_scores(evaluate.run(tmp_path / "run", open_data))
    terms = scores["other_stages"]["landmarks"]["terms"]
    assert np.isfinite(terms["nme"]) and scores["subjects"]["test"] == ["test"]
