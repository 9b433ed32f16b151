"""Several corpora at once, and fractions of one."""

import dataclasses
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from data_pipelines import mixture, protocols
from data_pipelines.loader import make_data
from data_pipelines.parts import Part
from data_pipelines.preparation import prepare
from data_pipelines.records import Records
from jaxau import config as config_lib
from jaxau import facs
from jaxau.config import Augment, Stage


def other_part(request, subject, make):
    """The flat faces with 66 landmarks and DISFA's AUs: AU 12 always occurs."""
    part = make({}, subject)
    intensity = np.zeros((len(part.images), len(facs.DISFA_CODED_AUS)), np.float32)
    intensity[:, facs.DISFA_CODED_AUS.index(12)] = 5
    return Part(part.images, part.landmarks[:, :66], intensity, part.video, part.frame)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, flat_faces, make_flat_corpus):
    import functools
    import shutil

    folder, flat = tmp_path_factory.mktemp("data"), make_flat_corpus()
    shutil.copytree(flat_faces / "synthetic", folder / "synthetic")
    names = [f"SN{i:03d}" for i in range(1, 33) if i not in (14, 15, 19, 20, 22)][:9]
    about = {
        **flat.manifest,
        "aus": list(facs.DISFA_CODED_AUS),
        "label_rule": {"min_intensity": 2.0},
        "landmarks": 66,
    }
    make = functools.partial(other_part, make=flat.make)
    prepare(
        dataclasses.replace(flat, name="raf_au", subjects=names, manifest=about, make=make), folder, workers=1
    )
    return folder


@pytest.fixture
def config(flat_config, monkeypatch):
    split = protocols.Protocol("raf_au", (("SN001",),), rest_trains=True)
    monkeypatch.setitem(protocols.PROTOCOLS, "raf-au-80-20", split)
    stage = Stage("frames", epochs=1, batch_size=8, augment=Augment(0.0, 0.0, 0))
    data = dataclasses.replace(flat_config.data, aus=(12, 7, 25), mixture={"raf_au": 0.25}, sampling="all")
    return dataclasses.replace(flat_config, data=data, stages={"only": stage})


@pytest.fixture
def as_49(monkeypatch, data_dir):
    """98 points cannot become 49: the main corpus says that it has 68."""
    real = Records.frame

    def frame(self, index, decoded=None):
        found = real(self, index, decoded)
        if self.manifest["corpus"] == "synthetic":
            found = dataclasses.replace(found, landmarks=found.landmarks[:68])
        return found

    monkeypatch.setattr(Records, "frame", frame)
    init = Records.__init__

    def opened(self, data_dir, corpus):
        init(self, data_dir, corpus)
        if corpus == "synthetic":
            self.manifest = {**self.manifest, "landmarks": 68}

    monkeypatch.setattr(Records, "__init__", opened)


def test_a_mixture_draws_by_weight_and_masks_what_is_not_coded(config, data_dir, as_49):
    data = make_data(config, data_dir)
    main = make_data(dataclasses.replace(config, data=dataclasses.replace(config.data, mixture={})), data_dir)
    assert data.num_examples("only") == round(1.25 * main.num_examples("only"))
    batches = list(islice(data.train("only"), 50))
    number = {
        "synthetic": list(facs.CORPUS_AUS).index("synthetic"),
        "raf_au": list(facs.CORPUS_AUS).index("raf_au"),
    }
    counts = Counter(np.concatenate([batch["corpus"] for batch in batches]).tolist())
    assert counts.keys() == set(number.values())
    assert counts[number["raf_au"]] / 400 == pytest.approx(0.2, abs=0.01)
    for batch in batches:
        other = batch["corpus"] == number["raf_au"]
        assert batch["landmarks"].shape == (8, 49, 2)
        assert (batch["au_mask"][other] == [True, False, True]).all()
        assert (batch["au"][other] == [1, 0, 0]).all()
        assert not (batch["subject"][other] == 0).any()  # tested in that corpus's own protocol
    np.testing.assert_array_equal(data.statistics["n_coded"][1], main.statistics["n_coded"][1])
    assert data.statistics["n"] == main.statistics["n"] + data._further[0][0].statistics["n"]
    assert data.statistics["n_occ"][0] == main.statistics["n_occ"][0] + data._further[0][0].statistics["n"]
    again = next(data.train("only", 24))
    for key, value in batches[3].items():
        np.testing.assert_array_equal(again[key], value)
    tested = {int(c) for batch in data.evaluate("only", "test", 8) for c in batch["corpus"]}
    assert tested == {number["synthetic"]}


def test_mixtures_that_cannot_be(config, data_dir):
    with pytest.raises(ValueError, match=r"corpora with \[98, 66\] landmarks cannot be batched together"):
        make_data(config, data_dir)
    values = config_lib.to_dict(
        dataclasses.replace(config, data=dataclasses.replace(config.data, mixture={"synthetic": 1.0}))
    )
    with pytest.raises(
        ValueError, match="config.data.mixture.synthetic: 1.0 breaks the rule: above 0, of another"
    ):
        config_lib.from_dict(values)


def test_labels_of_other_corpora_in_the_right_columns():
    at = mixture.columns((12, 7, 1), (1, 2, 12))
    assert at.tolist() == [2, -1, 0]
    np.testing.assert_array_equal(mixture.take(np.array([[5.0, 6.0, 7.0]]), at, np.nan), [[7, np.nan, 5]])


@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.1])
def test_a_fraction_of_the_subjects(flat_config, flat_faces, fraction):
    whole = make_data(flat_config, flat_faces)
    data = dataclasses.replace(flat_config.data, fraction=fraction)
    part = make_data(dataclasses.replace(flat_config, data=data), flat_faces)
    assert len(part.split.train) == {1.0: 4, 0.5: 2, 0.1: 1}[fraction]
    assert set(part.split.train) <= set(whole.split.train)
    assert (part.split.inner, part.split.test) == (whole.split.inner, whole.split.test)
    assert part.statistics["n"] == 48 * len(part.split.train)
    trained = {int(s) for batch in islice(part.train("stills"), 30) for s in batch["subject"]}
    assert {whole.manifest["subjects"][s]["name"] for s in trained} == set(part.split.train)


def test_a_fraction_of_the_frames(flat_config, flat_faces):
    data = dataclasses.replace(flat_config.data, fraction_by="frame", sampling="all")
    stages = {"stills": flat_config.stages["stills"]}
    found = {}
    for fraction in (1.0, 0.5, 0.1):
        config = dataclasses.replace(
            flat_config, data=dataclasses.replace(data, fraction=fraction), stages=stages
        )
        part = make_data(config, flat_faces)
        batches = list(part.evaluate("stills", "train", 8))
        found[fraction] = {int(r) for b in batches for r, m in zip(b["record"], b["mask"], strict=True) if m}
        assert part.statistics["n"] == len(found[fraction]) == part.num_examples("stills")
        assert len({int(r) for b in part.evaluate("stills", "test", 8) for r in b["record"]}) == 144
        rows = [Records(flat_faces, "synthetic").raw(r)["au_intensity"] for r in sorted(found[fraction])]
        columns = [part.manifest["aus"].index(au) for au in config.data.aus]
        np.testing.assert_array_equal(part.statistics["n_occ"], (np.array(rows)[:, columns] >= 1.5).sum(0))
    assert found[0.1] < found[0.5] < found[1.0]
    assert len(found[1.0]) == 192 and 70 < len(found[0.5]) < 120 and 8 < len(found[0.1]) < 32
