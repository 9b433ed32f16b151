"""GTLE-Net's configurations: the paper's values, and the rows of its tables as overrides."""

import jax
import numpy as np
import pytest

from configs.gtle_net import get_config
from configs.tables import PAPERS
from jaxau import facs, models, optim, reproduce
from jaxau.config import from_dict
from jaxau.models.gtle_net import GTLENet
from jaxau.models.pretraining import TripletLoss
from jaxau.report import published

PAPER = PAPERS["gtle_net"]


@pytest.mark.parametrize(
    ("variant", "corpus", "protocol", "frames"),
    [
        ("bp4d", "bp4d", "bp4d-3fold", "landmarks"),
        ("disfa", "disfa", "disfa-3fold", "landmarks"),
        ("bp4dplus", "bp4dplus", "bp4dplus-3fold", "all"),
        ("raf_au", "raf_au", "raf-au-80-20", "all"),
        ("bp4d_to_bp4dplus", "bp4d", "bp4d-to-bp4dplus", "landmarks"),
    ],
)
def test_the_papers_values(variant, corpus, protocol, frames):
    """Section 4.2."""
    config = from_dict(get_config(f"{variant},fold=1").to_dict())
    data, stages = config.data, config.stages
    assert (data.corpus, data.aus, data.protocol) == (corpus, facs.CORPUS_AUS[corpus], protocol)
    assert (data.alignment, data.image_size, data.frames, data.sampling) == ("jaa256", 256, frames, "all")
    assert config.selection == ("conventional" if variant == "bp4d_to_bp4dplus" else "honest")
    assert list(stages) == ["triplets", "frames"] and stages["frames"].start_from == "triplets"
    first, second = stages["triplets"], stages["frames"]
    assert (first.corpus, first.epochs, first.batch_size, first.optim.lr) == ("fec", 10, 30, 2e-4)
    assert models.create_loss(config, "triplets") == TripletLoss(0.1, 0.2)
    assert (second.corpus, second.epochs, second.batch_size, second.augment.flip) == ("", 20, 10, 0.5)
    adam = second.optim
    assert (adam.name, adam.b1, adam.b2, adam.weight_decay) == ("adam", 0.9, 0.999, 1e-6)
    rate = optim.make_schedule(adam, 200_000)
    for step, factor in {1: 1e-3, 500: 0.5, 1000: 1.0, 4000: 0.5, 100_000: 0.1}.items():
        # The s-th step is number s - 1; the ramp ends at the thousandth.
        np.testing.assert_allclose(rate(step if step > 1000 else step - 1), 1e-5 * factor, rtol=2e-3)
    assert models.create(config, "frames") == GTLENet(data.aus)


def test_stages_choose_the_start():
    for stages, start in (("emotions+frames", "emotions"), ("frames", ""), ("triplets+frames", "triplets")):
        config = from_dict(get_config(f"bp4d,stages={stages}").to_dict())
        assert list(config.stages) == stages.split("+") and config.stages["frames"].start_from == start
    assert config.stages["frames"].trainable == ()
    emotions = from_dict(get_config("bp4d,stages=emotions+frames").to_dict()).stages["emotions"]
    assert (emotions.view, emotions.corpus) == ("emotions", "affectnet")
    own = from_dict(get_config("synthetic,stages=triplets+emotions").to_dict()).stages
    assert all(stage.corpus == "" for stage in own.values())
    with pytest.raises(ValueError, match="give one of"):
        get_config("gft")


# Table 10 by hand: trunk, extractors, fixed encoder, what it starts from, supervised masks, weights.
ROWS = {
    "w/o pretrain": ("inception_resnet", "maps and masks", False, "", 0.0, {}),
    "w. GEE fixed": ("inception_resnet", "maps and masks", True, "triplets", 0.0, {}),
    "w. GEE Emotion": ("inception_resnet", "maps and masks", False, "emotions", 0.0, {}),
    "w. GEE ImageNet": (
        "inception_resnet", "maps and masks", False, "", 0.0, {"trunk": "weights/inception_resnet"},
    ),
    "w. VGG16 ImageNet": ("vgg16", "maps and masks", False, "", 0.0, {"trunk": "weights/vgg16"}),
    "w. RepVGG-A2 ImageNet": ("repvgg_a2", "maps and masks", False, "", 0.0, {"trunk": "weights/repvgg_a2"}),
    "w. ResNet50 ImageNet": ("resnet50", "maps and masks", False, "", 0.0, {"trunk": "weights/resnet50"}),
    "w/o E_m & E_a": ("inception_resnet", "none", False, "triplets", 0.0, {}),
    "w/o E_m": ("inception_resnet", "maps", False, "triplets", 0.0, {}),
    "w. Supervised-attention": ("inception_resnet", "maps and masks", False, "triplets", 1.0, {}),
    "GTLE-Net (Full)": ("inception_resnet", "maps and masks", False, "triplets", 0.0, {}),
}  # fmt: skip


def test_table_10():
    rows = {row.label: row for row in PAPER.tables[10].rows}
    assert list(rows) == list(ROWS)
    for label, (trunk, extractors, fixed, start, attention, weights) in ROWS.items():
        for corpus, budget in (("bp4d", "paper"), ("synthetic", "smoke")):
            config = reproduce.configure(PAPER, rows[label], "bp4d", corpus, budget)
            network, stage = models.create(config, "frames"), config.stages["frames"]
            found = (network.trunk, network.extractors, network.fixed_encoder)
            quick = budget == "smoke" and "ImageNet" not in label  # a trunk that is compiled soonest
            assert found == ("vgg16" if quick else trunk, extractors, fixed), label
            assert (stage.start_from, stage.loss["attention"]) == (start, attention), label
            assert dict(config.weights) == (weights if budget == "paper" else {}), label
            if fixed:
                params = models.abstract_variables(config, "frames")["params"]
                trained = optim.trainable_labels(stage, params)
                assert set(jax.tree.leaves(trained["trunk"])) == {"freeze"}
                rest = {name: value for name, value in trained.items() if name != "trunk"}
                assert set(jax.tree.leaves(rest)) == {"train"} and len(rest) == 3


def test_every_row_has_its_published_numbers():
    for number, table in PAPER.tables.items():
        methods = {cell.method for cell in published.read_table("gtle_net", str(number))}
        own = {method for method in methods if method.startswith("GTLE-Net") or number == 1}
        assert {row.published for row in table.rows} == own, number


def test_fractions_and_shared_runs():
    """Figs. 4 to 10 draw from the runs of the tables, but for less data."""
    figures = PAPER.figures
    shares = [reproduce.configure(PAPER, row, "bp4d", "bp4d", "paper").data for row in figures[4].rows]
    assert [data.fraction for data in shares] == [1.0, 0.1, 0.01]
    assert [data.fraction_by for data in shares[1:]] == ["frame", "frame"]

    def run(row, printed):
        return reproduce.run_name(reproduce.configure(PAPER, row, printed, "synthetic", "short"))

    full = run(PAPER.tables[2].rows[0], "bp4d")
    rows = [PAPER.tables[10].rows[-1], figures[4].rows[0], figures[8].rows[0], PAPER.tables[6].rows[0]]
    assert {run(row, printed) for row, printed in zip(rows, ["bp4d"] * 3 + ["bp4d_plus"], strict=True)} == {
        full
    }
    assert run(PAPER.tables[9].rows[1], "raf_au") != full
