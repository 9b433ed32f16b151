"""``jaxau-faces``: synthetic faces as pictures, and how hard they are to read.

Examples:
  jaxau-faces draw --person 3 --au 12=4,6=3 --out smile.png
  jaxau-faces sheet --out sheet.png
  jaxau-faces clip --out clip.png
  jaxau-faces nuisance --out nuisance.png
  jaxau-faces ladder --tier tiny
  jaxau-faces triplets --count 300 --out triplets
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from data_pipelines.synthetic.config import SynthConfig
from data_pipelines.synthetic.faces import OCCURRENCE, SynthFaces
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
_STRIP_FRAMES, _STRIP_ROWS = 10, 3
_NUISANCE_ROWS, _NUISANCE_COLUMNS = 4, 6
_FONT = cv2.FONT_HERSHEY_SIMPLEX


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
        _caption(row, name)
        rows.append(row)
    blank = np.zeros_like(rows[0])
    rows += [blank] * (-len(rows) % _SHEET_COLUMNS)
    height = len(rows) // _SHEET_COLUMNS
    blocks = [np.vstack(rows[i * height : (i + 1) * height]) for i in range(_SHEET_COLUMNS)]
    return np.hstack(blocks)


def clip_strip(faces: SynthFaces) -> np.ndarray:
    """A clip of each of the first three people: frames a second apart, with their AUs, as one RGB picture."""
    rows = []
    for subject in range(_STRIP_ROWS):
        every = faces.config.shape.frames // _STRIP_FRAMES
        row = []
        for t in range(0, every * _STRIP_FRAMES, every):
            frame = faces.frame(subject, faces.config.shape.clips - 1, t)
            shown = [
                f"{au}" for au, value in zip(SYNTHETIC_AUS, frame.au, strict=True) if value >= OCCURRENCE
            ]
            _caption(frame.image, "+".join(shown))
            row.append(frame.image)
        rows.append(np.hstack(row))
    return np.vstack(rows)


def nuisance_sheet(faces: SynthFaces) -> np.ndarray:
    """A frame of each of 24 people as they come, as one RGB picture."""
    count = _NUISANCE_ROWS * _NUISANCE_COLUMNS
    frames = [faces.frame(subject, 0, faces.config.shape.frames // 2).image for subject in range(count)]
    return np.vstack(
        [np.hstack(frames[row * _NUISANCE_COLUMNS :][:_NUISANCE_COLUMNS]) for row in range(_NUISANCE_ROWS)]
    )


def _caption(picture: np.ndarray, text: str) -> None:
    for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(picture, text, (3, 12), _FONT, 0.4, color, width, cv2.LINE_AA)


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
    clip = commands.add_parser("clip", help="three clips, a frame a second, with the AUs that occur")
    nuisance = commands.add_parser("nuisance", help="24 people as they come: pose, light, blur, occlusion")
    for command in (clip, nuisance):
        command.add_argument("--size", type=int, default=128, help="side of one face in pixels")
        command.add_argument("--seed", type=int, default=0, help="of the people")
    ladder = commands.add_parser("ladder", help="scores of ever better readers of a tier, as a table")
    ladder.add_argument("--tier", default="small", help="tiny, small or default")
    ladder.add_argument("--every", type=int, default=1, help="look at every so-manieth frame")
    ladder.add_argument("--workers", type=int, default=1, help="processes that draw")
    ladder.add_argument("--network", action="store_true", help="also train a small network: ten minutes")
    triplets = commands.add_parser("triplets", help="triplets of expressions with pictures, as FEC has them")
    triplets.add_argument("--tier", default="small", help="tiny, small or default")
    triplets.add_argument(
        "--count", type=int, default=300, help="for training, and half as many for the test"
    )
    triplets.add_argument("--size", type=int, default=256, help="side of the picture in pixels")
    triplets.add_argument("--seed", type=int, default=0, help="of the people and of the draw")
    triplets.add_argument("--out", type=Path, required=True, help="folder")
    for command in (draw, sheet, clip, nuisance):
        command.add_argument("--out", type=Path, required=True, help=f"{', '.join(_SUFFIXES)} file")
    return parser


def _picture(arguments: argparse.Namespace) -> np.ndarray:
    if arguments.out.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"--out {arguments.out}: the name must end in {', '.join(_SUFFIXES)}")
    if not 16 <= arguments.size <= 2048:
        raise ValueError(f"--size {arguments.size}: 16 to 2048 pixels can be drawn")
    if arguments.command in ("clip", "nuisance"):
        people = _STRIP_ROWS if arguments.command == "clip" else _NUISANCE_ROWS * _NUISANCE_COLUMNS
        config = SynthConfig(size=arguments.size, seed=arguments.seed, subjects=people)
        return (clip_strip if arguments.command == "clip" else nuisance_sheet)(SynthFaces(config))
    if arguments.command == "sheet":
        if not 1 <= arguments.people <= 20:
            raise ValueError(f"--people {arguments.people}: 1 to 20 fit on a sheet")
        return contact_sheet([Person(i) for i in range(arguments.people)], arguments.size)
    for angle in ("yaw", "pitch", "roll"):
        if not abs(getattr(arguments, angle)) <= 90:
            raise ValueError(f"--{angle} {getattr(arguments, angle)}: use -90 to 90 degrees")
    pose = (arguments.yaw, arguments.pitch, arguments.roll)
    return render(Person(arguments.person), parse_aus(arguments.au), *pose, size=arguments.size)


def _print_ladder(arguments: argparse.Namespace) -> int:
    if arguments.every < 1 or arguments.workers < 1 or arguments.tier == "large":
        raise ValueError(
            "--every and --workers start at 1, and --tier large has no end; choose a smaller one"
        )
    from data_pipelines.synthetic import ladder  # takes a second to import

    config = SynthConfig(tier=arguments.tier)
    print(ladder.table(ladder.ladder(config, arguments.every, arguments.workers, arguments.network)))
    return 0


def _write_triplets(arguments: argparse.Namespace) -> None:
    """Training and test people are those of the first of three folds."""
    if arguments.count < 2 or arguments.tier == "large":
        raise ValueError("--count starts at 2, and --tier large has no end; choose a smaller one")
    from data_pipelines.synthetic.triplets import draw_triplets, write_fec  # takes a second to import

    faces = SynthFaces(SynthConfig(tier=arguments.tier, size=arguments.size, seed=arguments.seed))
    learned, tested = faces.folds(3)[0]
    for name, people, count in (("train", learned, arguments.count), ("test", tested, arguments.count // 2)):
        drawn = draw_triplets(faces, people, count, seed=arguments.seed)
        print(write_fec(faces, drawn, arguments.out, name))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it did its work, 2 for a wrong request, 1 if a picture could not be written."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "ladder":
            return _print_ladder(arguments)
        if arguments.command == "triplets":
            _write_triplets(arguments)
            return 0
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
