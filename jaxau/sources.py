"""The inputs of a job of prediction: pictures, videos, and folders of them."""

import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxau.faces.video import PICTURES, VIDEOS

# What `ResultFiles` leaves beside an input, if --out is the folder of the inputs.
_RESULT = re.compile(
    rf"({'|'.join(map(re.escape, sorted(PICTURES | VIDEOS)))})"
    r"((\.partial)?\.(csv|parquet|json|json\.tmp)|\.overlay(\.partial)?\.(mp4|jpg)|\.lock)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Source:
    """An input file.

    Attributes:
      path: where it is.
      name: the file's name, or its path below the folder that was given; names the results.
    """

    path: Path
    name: str

    @property
    def is_picture(self) -> bool:
        """Whether it is read as a picture; else as a video."""
        return self.path.suffix.lower() in PICTURES


def find_sources(inputs: Sequence[Path | str]) -> tuple[list[Source], list[str], list[str]]:
    """The files of a job.

    Args:
      inputs: pictures, videos, and folders of them (searched to any depth, links followed).

    Returns:
      The files in order, a message for each input that cannot be used, and one for each folder with
      files of other kinds, which are left out.

    Raises:
      ValueError: two inputs would have the same results.
    """
    sources: list[Source] = []
    problems: list[str] = []
    remarks: list[str] = []
    for given in map(Path, inputs):
        try:
            is_folder = given.is_dir()
            given.stat()
        except FileNotFoundError:
            problems.append(f"{printable(given)}: no such file or folder; check the path")
        except OSError as error:
            problems.append(f"{printable(given)}: cannot be opened ({error.strerror}); check it")
        else:
            if is_folder:
                sources += _in_folder(given, problems, remarks)
            elif given.suffix.lower() in PICTURES | VIDEOS:
                sources.append(Source(given, printable(given.name)))
            else:
                problems.append(
                    f"{printable(given)}: {given.suffix or 'no suffix'} is no known kind of file; give one "
                    f"of {', '.join(sorted(PICTURES | VIDEOS))}"
                )
    counts = Counter(source.name for source in sources)
    twice = [source for source in sources if counts[source.name] > 1]
    if twice:
        raise ValueError(
            f"{' and '.join(printable(s.path) for s in twice[:3])}: both would write the results "
            f"{twice[0].name}.csv; run them with different --out, or give a folder that holds both"
        )
    return sources, problems, remarks


def _in_folder(folder: Path, problems: list[str], remarks: list[str]) -> list[Source]:
    sources, left_out = [], []
    for path, problem in _walk(folder, (folder.resolve(),)):
        name = printable(path.relative_to(folder).as_posix())
        if problem:
            problems.append(f"{printable(path)}: {problem}")
        elif _RESULT.search(path.name):
            continue
        elif path.suffix.lower() in PICTURES | VIDEOS and path.is_file():
            sources.append(Source(path, name))
        else:
            left_out.append(name)
    if left_out:
        more = f" and {len(left_out) - 10} more" if len(left_out) > 10 else ""
        remarks.append(
            f"{printable(folder)}: left out {len(left_out)} that are no known kind of picture or video: "
            f"{', '.join(left_out[:10])}{more}"
        )
    if not sources:
        problems.append(f"{printable(folder)}: no picture or video in this folder")
    return sources


def _walk(folder: Path, above: tuple[Path, ...]) -> Iterator[tuple[Path, str]]:
    """All that is below a folder but folders, each with the reason why it cannot be used."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield folder, f"the folder cannot be opened ({error.strerror}); check permissions"
        return
    for path in entries:
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except OSError as error:
            yield path, f"a link to nothing, or closed ({error.strerror}); mend it or take it away"
            continue
        if not is_folder:
            yield path, ""
        elif (there := path.resolve()) in above:
            yield path, "a link to a folder above it; take it away"
        else:
            yield from _walk(path, (*above, there))


def printable(path: Path | str) -> str:
    """A name whose bytes are not UTF-8 is written with escapes."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
