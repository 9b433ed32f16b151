"""``jaxau-faces``: synthetic faces as pictures.

Examples:
  jaxau-faces draw --person 3 --au 12=4,6=3 --out smile.png
  jaxau-faces sheet --out sheet.png
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from data_pipelines.synthetic.person import Person
from data_pipelines.synthetic.renderer import render
from jaxau.facs import SYNTHETIC_AUS

_SUFFIXES = (".png", ".jpg", ".jpeg")
_COMBINATIONS: tuple[Mapping[int, float], ...] = (
    {6: 4, 12: 4, 25: 4},
    {1: 4, 2: 4, 5: 4, 26: 4},
    {4: 4, 7: 4, 24: 4},
    {1: 4, 4: 4, 15: 4},
    {9: 4, 10: 4, 17: 4},
)
_SHEET_COLUMNS = 3


def parse_aus(text: str) -> dict[int, float]:
    """``"12=4,6=3"`` to ``{12: 4.0, 6: 3.0}``; an empty text is a neutral face.

    Raises:
      ValueError: a part that is not AU=INTENSITY, or an AU named twice.
    """
    aus: dict[int, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        try:
            number, intensity = part.split("=")
            au, value = int(number), float(intensity)
        except ValueError:
            raise ValueError(f"{part!r}: write each AU as NUMBER=INTENSITY, as in 12=4") from None
        if au in aus:
            raise ValueError(f"AU {au} is named twice in {text!r}: name it once")
        aus[au] = value
    return aus


def contact_sheet(people: Sequence[Person], size: int) -> np.ndarray:
    """The same expressions on several people, as one RGB picture: neutral, each AU, combinations.

    Args:
      people: one column each, in every block of rows.
      size: side of one face in pixels.
    """
    single: list[Mapping[int, float]] = [{au: 5} for au in SYNTHETIC_AUS]
    expressions: list[Mapping[int, float]] = [{}, *single, *_COMBINATIONS]
    rows = []
    for aus in expressions:
        row = np.hstack([render(person, aus, size=size) for person in people])
        name = "AU" + "+".join(map(str, aus)) if aus else "neutral"
        place, font = (3, 12), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(row, name, place, font, 0.4, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(row, name, place, font, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
        rows.append(row)
    blank = np.zeros_like(rows[0])
    rows += [blank] * (-len(rows) % _SHEET_COLUMNS)
    height = len(rows) // _SHEET_COLUMNS
    blocks = [np.vstack(rows[i * height : (i + 1) * height]) for i in range(_SHEET_COLUMNS)]
    return np.hstack(blocks)


def _write(path: Path, picture: np.ndarray) -> None:
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    path.write_bytes(encoded.tobytes())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jaxau-faces", description="Draw synthetic faces.")
    commands = parser.add_subparsers(dest="command", required=True)
    draw = commands.add_parser("draw", help="one picture of one person")
    draw.add_argument("--person", type=int, default=0, help="seed of the person, 0 or above")
    draw.add_argument("--au", default="", metavar="12=4,6=3", help="AUs with intensities 0 to 5")
    for angle in ("yaw", "pitch", "roll"):
        draw.add_argument(f"--{angle}", type=float, default=0.0, help="degrees")
    draw.add_argument("--size", type=int, default=256, help="side of the picture in pixels")
    sheet = commands.add_parser("sheet", help="neutral, every AU at its maximum, combinations")
    sheet.add_argument("--people", type=int, default=4, help="how many people, one column each")
    sheet.add_argument("--size", type=int, default=128, help="side of one face in pixels")
    for command in (draw, sheet):
        command.add_argument("--out", type=Path, required=True, help=f"{', '.join(_SUFFIXES)} file")
    return parser


def _picture(arguments: argparse.Namespace) -> np.ndarray:
    if arguments.out.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"--out {arguments.out}: the name must end in {', '.join(_SUFFIXES)}")
    if not 16 <= arguments.size <= 2048:
        raise ValueError(f"--size {arguments.size}: 16 to 2048 pixels can be drawn")
    if arguments.command == "sheet":
        if not 1 <= arguments.people <= 20:
            raise ValueError(f"--people {arguments.people}: 1 to 20 fit on a sheet")
        return contact_sheet([Person(i) for i in range(arguments.people)], arguments.size)
    for angle in ("yaw", "pitch", "roll"):
        if not abs(getattr(arguments, angle)) <= 90:
            raise ValueError(f"--{angle} {getattr(arguments, angle)}: use -90 to 90 degrees")
    pose = (arguments.yaw, arguments.pitch, arguments.roll)
    return render(Person(arguments.person), parse_aus(arguments.au), *pose, size=arguments.size)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 if the picture was written, 2 for a wrong request, 1 if writing failed."""
    arguments = _parser().parse_args(argv)
    try:
        _write(arguments.out, _picture(arguments))
    except ValueError as error:
        print(f"jaxau-faces: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"jaxau-faces: {arguments.out} could not be written: {error}", file=sys.stderr)
        return 1
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
