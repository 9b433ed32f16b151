"""AUNet's configurations and tables: every row is a run that can be made, and what the paper says it is."""

import dataclasses

import pytest

from configs.aunet import MIXTURE_AUS, get_config
from configs.tables import PAPERS
from jaxau import facs, models, reproduce
from jaxau.config import from_dict
from jaxau.report import published

AUNET = PAPERS["aunet"]
ENTRIES = {("table", n): table for n, table in AUNET.tables.items() if table.rows}
ENTRIES |= {("figure", n): figure for n, figure in AUNET.figures.items() if figure.rows}
VARIANTS = ("bp4d", "disfa", "aff_wild2", "mixture_to_bp4d", "mixture_to_disfa", "mixture_to_aff_wild2",
            "synthetic")  # fmt: skip


def _config(entry, row, corpus=None, budget="paper"):
    return reproduce.configure(AUNET, entry.rows[row], entry.corpus, corpus or entry.corpus, budget)


def _of(number, label, corpus=None, budget="paper"):
    table = AUNET.tables[number]
    return _config(table, [row.label for row in table.rows].index(label), corpus, budget)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_configuration_holds(variant):
    config = from_dict(get_config(f"{variant},fold=2").to_dict())
    assert list(config.stages) == ["labels", "tuples"] and config.data.fold == 2
    assert config.data.alignment == "wide"
    for stage in config.stages:
        models.create(config, stage)
        models.create_loss(config, stage)


def test_the_papers_recipe():
    """Facts 1.4 to 1.7."""
    config = from_dict(get_config("bp4d").to_dict())
    labels, tuples = config.stages["labels"], config.stages["tuples"]
    assert (labels.optim.name, labels.optim.lr, labels.optim.weight_decay) == ("adam", 1e-3, 0)
    assert (labels.epochs, labels.batch_size, labels.loss["divergence"]) == (100, 128, 0.3)
    optim = tuples.optim
    assert (optim.name, optim.lr, optim.weight_decay, optim.b1, optim.b2) == ("adamw", 1e-4, 0, 0.9, 0.999)
    assert (tuples.epochs, tuples.batch_size, optim.schedule, optim.periods) == (12, 64, "steps", 3)
    assert optim.decay == 0.3 and tuples.trainable == ("head",) and tuples.start_from == "labels"
    assert tuples.loss == {"consistency": "paper", "gamma": 1.0}
    moved = tuples.augment
    assert (moved.flip, moved.rotation, moved.scale, moved.shift * 256) == (0.5, 15, 0.25, 10)
    assert (config.data.image_size, config.data.neighbor_distance, config.data.frames) == (256, 10, "aunet")
    network = models.create(config, "tuples")
    assert (network.alpha, network.beta, network.flip, network.trunk) == (0.9, 0.1, True, "fan")
    assert config.weights == {"fan": "weights/fan"}


def test_the_mixture():
    for variant, corpus in (("bp4d", "bp4d"), ("disfa", "disfa"), ("aff_wild2", "aff_wild2_8au")):
        config = from_dict(get_config(f"mixture_to_{variant}").to_dict())
        assert config.data.corpus == corpus and config.data.aus == MIXTURE_AUS and len(MIXTURE_AUS) == 15
        trained = {corpus: 1.0, **config.data.mixture}
        share = {name: weight / sum(trained.values()) for name, weight in trained.items()}
        want = {"bp4d": 100 / 410, "disfa": 83 / 410, "aff_wild2_8au": 227 / 410}
        assert share == {name: pytest.approx(value, abs=0.005) for name, value in want.items()}
        network = models.create(config, "tuples")
        assert set(network.corpora) == set(want) and network.corpora[0] == corpus
    coded = [au for au in facs.CORPUS_AUS["aff_wild2_8au"] if au in MIXTURE_AUS]
    assert coded == [1, 2, 4, 6, 12, 15, 25]


@pytest.mark.parametrize(("kind", "number"), ENTRIES)
def test_every_row_is_a_run(kind, number):
    entry = ENTRIES[kind, number]
    own = {"mixture": "mixture_to_bp4d"}.get(entry.corpus, entry.corpus)
    for row in range(len(entry.rows)):
        for corpus in (own, "synthetic"):
            for budget in reproduce.BUDGETS:
                config = _config(entry, row, corpus, budget)
                assert list(config.stages) == list(entry.rows[row].stages)
                network, loss = None, None
                for stage in config.stages:
                    network, loss = models.create(config, stage), models.create_loss(config, stage)
                assert network is not None
                assert network.vae == ("labels" in config.stages) == (loss.consistency != "none")
                detector = list(config.stages.values())[-1]
                moves = network.motion or network.part == "flow"
                assert detector.view == ("tuples" if moves else "frames")
                assert detector.flow == (network.part == "flow")
                if budget == "smoke":
                    assert all(stage.max_steps == 20 for stage in config.stages.values())


def test_rows_differ_in_what_their_names_say():
    full = _of(7, "AUNet", "mixture_to_bp4d")
    tuples, network = full.stages["tuples"], full.network
    label_space = _of(7, "AUNet, label space aligned", "mixture_to_bp4d")
    changed = dataclasses.replace(tuples, loss={**tuples.loss, "consistency": "label_space"})
    assert label_space == dataclasses.replace(full, stages={**full.stages, "tuples": changed})
    fields = {
        "AU-FAN": (False, False),
        "AU-VAE": (False, True),
        "AU-TDN": (True, False),
        "AUNet": (True, True),
    }
    for label, (motion, vae) in fields.items():
        config = _of(7, label, "mixture_to_bp4d")
        assert config.network == {**network, "motion": motion, "vae": vae}
    for label in ("ResNet18", "ResNet18-A"):
        config = _of(13, label)
        assert config.stages["tuples"].trainable == ("head", "trunk") and config.weights == {}
    assert _of(3, "ResNet18, ImageNet").weights == {"trunk": "weights/resnet18"}
    assert _of(3, "AU-FAN").weights == {"fan": "weights/fan"}


def test_what_tables_share_is_trained_once():
    assert _of(3, "AU-FAN") == _of(13, "AU-FAN") == _of(4, "AU-FAN") == _of(5, "AU-FAN")
    assert _of(7, "AU-TDN", "mixture_to_bp4d") == _of(11, "AU-TDN") == _of(12, "AU-TDN")
    assert _of(10, "AU-VAE", "mixture_to_disfa") == _of(8, "AU-VAE")
    # Synthetic faces show the AUs of the paper's corpus.
    assert _of(13, "AUNet", "synthetic", "short").data.aus == facs.CORPUS_AUS["bp4d"]
    assert _of(4, "AU-FAN", "synthetic", "short").data.aus == facs.CORPUS_AUS["bp4d"]
    assert _of(14, "AUNet", "synthetic", "short").data.aus == facs.CORPUS_AUS["disfa"]
    assert _of(7, "AUNet", "synthetic", "short").data.aus == (*MIXTURE_AUS, 43)


def test_each_row_finds_its_printed_number():
    elsewhere = {
        "AU-FAN with ResNet18 pretrained on ImageNet in place of FAN",
        "AUNet with consistency in the label space of the VAE",
    }
    assert elsewhere <= {cell.method for cell in published.read_table("aunet", "text")}
    for number, table in AUNET.tables.items():
        methods = {cell.method for cell in published.read_table("aunet", reproduce.roman(number))}
        for row in table.rows:
            is_start = table.shape in ("relations", "paired") and row.label in ("AU-FAN", "AUNet")
            found = any(method.startswith(row.published) for method in methods)
            assert found or row.published in elsewhere or is_start or number == 11, (number, row.label)


def test_flow_is_asked_for():
    assert "flow" not in get_config("bp4d").stages and "flow" not in get_config("bp4d,fold=1").stages
    assert list(get_config("bp4d,stages=flow").stages) == ["flow"]
