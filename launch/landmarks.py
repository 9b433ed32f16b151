"""Look at what a FAN finds: faces of test subjects, the true landmarks green and the found ones red.

python -m launch.landmarks --workdir=runs/fan_synthetic --data_dir=data --out=landmarks.jpg
"""

from functools import partial
from pathlib import Path

from absl import flags

from data_pipelines.loader import make_data
from jaxau.faces.video import write_image
from jaxau.report.landmarks import landmark_sheet
from launch import command

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the prepared data sets.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_OUT = flags.DEFINE_string("out", None, "Picture to write, .jpg or .png.", required=True)
_FACES = flags.DEFINE_integer("faces", 12, "How many faces.", lower_bound=1)


def main() -> None:
    """Draw, write, and say how far off the points are."""
    sheet, errors = landmark_sheet(
        Path(_WORKDIR.value), partial(make_data, data_dir=_DATA_DIR.value), _FACES.value
    )
    write_image(_OUT.value, sheet)
    print(f"{_OUT.value}: {len(errors)} faces, inter-ocular error {errors.min():.3f} to {errors.max():.3f}")


if __name__ == "__main__":
    command.run(main)
