"""Train all stages of a configuration; the same command again resumes.

python -m launch.train --config=configs/lac.py:synthetic --data_dir=data --workdir=runs/lac
"""

from functools import partial
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from data_pipelines.loader import make_data
from jaxau import train
from jaxau.config import from_dict
from launch import command

# New names are let through here, so that the schema's own check, which knows the path, reports them.
_CONFIG = config_flags.DEFINE_config_file("config", accept_new_attributes=True, lock_config=False)
flags.mark_flag_as_required("config")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the prepared data sets.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run.", required=True)


def main() -> None:
    """Train, and say where the model is."""
    config = from_dict(_CONFIG.value.to_dict())
    workdir = Path(_WORKDIR.value)
    train.run(config, partial(make_data, data_dir=_DATA_DIR.value), workdir)
    print(f"trained: {workdir}")


if __name__ == "__main__":
    command.run(main)
