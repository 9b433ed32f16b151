"""GLEE-Net's configurations: the paper's values, and the rows of its tables as overrides."""

import jax
import pytest

from configs.glee_net import get_config
from configs.tables import PAPERS
from jaxau import facs, models, optim, reproduce
from jaxau.config import from_dict
from jaxau.models.glee_net import DetectionLoss, GLEENet
from jaxau.models.pretraining import ClassLoss, TripletLoss
from jaxau.report import published

PAPER = PAPERS["glee_net"]


@pytest.mark.parametrize(
    ("variant", "corpus", "protocol", "frames"),
    [
        ("bp4d", "bp4d", "bp4d-3fold", "landmarks"),
        ("disfa", "disfa", "disfa-3fold", "landmarks"),
        ("bp4dplus", "bp4dplus", "bp4dplus-3fold", "all"),
        ("bp4d_to_bp4dplus", "bp4d", "bp4d-to-bp4dplus", "landmarks"),
    ],
)
def test_the_papers_values(variant: str, corpus: str, protocol: str, frames: str) -> None:
    """Section IV-B."""
    config = from_dict(get_config(f"{variant},fold=1").to_dict())
    data, stages = config.data, config.stages
    assert (data.corpus, data.aus, data.protocol) == (corpus, facs.CORPUS_AUS[corpus], protocol)
    assert (data.alignment, data.image_size, data.frames, data.sampling) == ("jaa200", 160, frames, "all")
    assert config.selection == ("conventional" if variant == "bp4d_to_bp4dplus" else "honest")
    assert list(stages) == ["triplets", "frames"] and stages["frames"].start_from == "triplets"
    first, second = stages["triplets"], stages["frames"]
    assert (first.corpus, first.epochs, first.batch_size, first.mine_triplets) == ("fec", 10, 30, True)
    assert models.create_loss(config, "triplets") == TripletLoss(0.1, 0.2)
    assert (second.corpus, second.epochs, second.batch_size, second.mine_triplets) == ("", 10, 42, False)
    assert models.create_loss(config, "frames") == DetectionLoss(1.0)
    for stage, rate in ((first, 2e-4), (second, 2e-3)):
        sgd = stage.optim
        assert (sgd.name, sgd.b1, sgd.nesterov, sgd.lr) == ("sgd", 0.9, False, rate)
        assert (stage.optim.schedule, stage.optim.weight_decay) == ("constant", 0.0)
    assert models.create(config, "frames") == GLEENet(data.aus)


def test_stages_begin_where_the_one_before_them_ended() -> None:
    config = from_dict(get_config("bp4d,stages=identity+triplets+frames").to_dict())
    assert [stage.start_from for stage in config.stages.values()] == ["", "identity", "triplets"]
    identity = config.stages["identity"]
    assert (identity.corpus, identity.trainable) == ("synthetic", ("identity",))
    assert models.create_loss(config, "identity") == ClassLoss("subject")
    config = from_dict(get_config("synthetic,stages=frames").to_dict())
    assert list(config.stages) == ["frames"] and config.stages["frames"].start_from == ""
    own = from_dict(get_config("synthetic,stages=identity+triplets+frames").to_dict()).stages
    assert all(stage.corpus == "" for stage in own.values()) and own["triplets"].mine_triplets


# Table V by hand: branches, coefficients, classifier, joint layer, what it starts from.
ROWS = {
    "w/o pretrain": ("global and local", True, "transformer", True, ""),
    "w. fixed GB & LB": ("global and local", True, "transformer", True, "triplets"),
    "w. ResNet": ("resnet", True, "transformer", True, ""),
    "w/o GB & LB": ("none", True, "transformer", True, ""),
    "w/o 3DGB": ("global and local", False, "transformer", True, "triplets"),
    "w/o LB": ("global", True, "transformer", True, "triplets"),
    "w/o TC": ("global and local", True, "mlp", True, "triplets"),
    "w/o joint FC": ("global and local", True, "transformer", False, "triplets"),
    "GLEE-Net (Full)": ("global and local", True, "transformer", True, "triplets"),
}


def test_table_v() -> None:
    rows = {row.label: row for row in PAPER.tables[5].rows}
    assert list(rows) == list(ROWS)
    for label, (*fields, start) in ROWS.items():
        for corpus, budget in (("bp4d", "paper"), ("synthetic", "smoke")):
            config = reproduce.configure(PAPER, rows[label], "bp4d", corpus, budget)
            network, stage = models.create(config, "frames"), config.stages["frames"]
            found = [network.branches, network.expression, network.classifier, network.joint]
            assert (found, stage.start_from) == (fields, start), label
            facenet = {"identity": "weights/facenet"} if "global" in fields[0] else {}
            assert dict(config.weights) == (facenet if budget == "paper" else {}), label
            assert network.fixed_branches == bool(stage.trainable) == (label == "w. fixed GB & LB")
            if stage.trainable:
                params = models.abstract_variables(config, "frames")["params"]
                trained = optim.trainable_labels(stage, params)
                kinds = {part: set(jax.tree.leaves(tree)) for part, tree in trained.items()}
                frozen = dict.fromkeys(("face", "global_fc", "local", "identity"), {"freeze"})
                assert kinds == {**frozen, "classifier": {"train"}, "absent_expression": {"train"}}


def test_every_row_has_its_published_numbers() -> None:
    for number, table in PAPER.tables.items():
        methods = {cell.method for cell in published.read_table("glee_net", reproduce.roman(number))}
        own = {method for method in methods if method.startswith("GLEE-Net")}
        assert {row.published for row in table.rows} == own, number


def test_figures_draw_from_the_runs_of_the_tables() -> None:
    def run(row: reproduce.Row, printed: str) -> str:
        return reproduce.run_name(reproduce.configure(PAPER, row, printed, "synthetic", "short"))

    full = run(PAPER.tables[1].rows[0], "bp4d")
    ablations = {row.label: run(row, "bp4d") for row in PAPER.tables[5].rows}
    assert ablations["GLEE-Net (Full)"] == full == run(PAPER.tables[3].rows[0], "bp4d_plus")
    drawn = {n: [run(row, "bp4d") for row in PAPER.figures[n].rows] for n in (2, 5, 6, 7)}
    assert drawn[2] == [full] and drawn[5] == [full, ablations["w/o pretrain"]]
    assert drawn[6] == drawn[7] and drawn[6][3] == full
    assert (drawn[6][0], drawn[6][2]) == (ablations["w/o GB & LB"], ablations["w/o 3DGB"])
