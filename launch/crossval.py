"""Train and score every fold of a protocol, then their mean and all their predictions pooled.

    python -m launch.crossval --config=configs/lac.py:disfa --data_dir=data --workdir=runs/lac_disfa

Fold k is a run of its own in ``<workdir>/fold<k>``. The same command again skips what is finished and goes on
where it stopped; at the end it writes ``<workdir>/crossval/<corpus>/scores.json`` and tables.

With ``--repeats=R`` the folds are drawn anew R times, each redraw r in ``<workdir>/redraw<r>``, and
``<workdir>/crossval/<corpus>/noise_floor.json`` says how far scores vary by that alone.
"""

from functools import partial
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from data_pipelines import protocols, records
from data_pipelines.loader import make_data
from jaxau import crossval, evaluate, files
from jaxau.config import from_dict
from jaxau.report import tables
from launch import command

# New names are let through here, so that the schema's own check, which knows the path, reports them.
_CONFIG = config_flags.DEFINE_config_file("config", accept_new_attributes=True, lock_config=False)
flags.mark_flag_as_required("config")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the prepared data sets.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all folds.", required=True)
_REPEATS = flags.DEFINE_integer("repeats", 0, "Redraws of the folds; 0 = the protocol's own folds, once.")


def main() -> None:
    """Run all folds, write tables, print the summary."""
    config = from_dict(_CONFIG.value.to_dict())
    manifest = records.read_manifest(_DATA_DIR.value, config.data.corpus)
    folds = len(protocols.folds(config.data.protocol, manifest))
    open_data, workdir = partial(make_data, data_dir=_DATA_DIR.value), Path(_WORKDIR.value)
    if _REPEATS.present:
        path = crossval.noise_floor(config, folds, _REPEATS.value, open_data, workdir)
        print(tables.print_noise_floor(files.read_json(path)))
        print(f"noise floor: {path}")
        return
    folder = crossval.run(config, folds, open_data, workdir)
    scores = evaluate.read_scores(folder)
    tables.write_crossval_tables(scores, folder)
    print(tables.print_crossval_summary(scores))
    print(f"scores: {folder}")


if __name__ == "__main__":
    command.run(main)
