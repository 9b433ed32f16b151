"""One module per corpus: its raw layout to the parts of a data set."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from data_pipelines.corpora import (
    aff_wild2,
    affectnet,
    bp4d,
    disfa,
    fec,
    folder,
    landmark_sets,
    lists,
    raf_au,
)
from data_pipelines.face_source import FaceSource
from data_pipelines.preparation import Corpus

_OWNERS: dict[str, Callable[..., Corpus]] = {
    "bp4d": bp4d.corpus,
    "bp4dplus": partial(bp4d.corpus, plus=True),
    "disfa": disfa.corpus,
    "aff_wild2": aff_wild2.corpus,
    "aff_wild2_8au": partial(aff_wild2.corpus, release="aff_wild2_8au"),
    "raf_au": raf_au.corpus,
    "affectnet": affectnet.corpus,
    "fec": fec.corpus,
}
_WITH_LANDMARKS: dict[str, Callable[[Path, str], Corpus]] = {
    "300w_lp": landmark_sets.corpus_300w_lp,
    "wflw": landmark_sets.corpus_wflw,
}

NAMES = (*_OWNERS, *_WITH_LANDMARKS, "gft", "folder")
"""The corpora that are read from a folder."""


def open_corpus(
    name: str,
    raw_dir: Path,
    alignment: str,
    faces: FaceSource | None = None,
    from_lists: bool = False,
    min_intensity: float | None = None,
) -> Corpus:
    """A corpus in a folder, ready to be prepared or examined.

    Args:
      name: one of `NAMES`.
      raw_dir: the folder.
      alignment: a name in `jaxau.faces.align.ALIGNMENTS`.
      faces: finds landmarks; None = those of the corpus, where it has them.
      from_lists: the folder holds list files (`data_pipelines.corpora.lists`), not the owner's layout.
      min_intensity: of ``folder``: an AU occurs from this intensity on; None = 2.

    Raises:
      ValueError: unknown name or alignment, a folder of something else, an option of another corpus.
    """
    if name not in NAMES:
        raise ValueError(f"corpus {name!r}: not one of {list(NAMES)}; choose one of these")
    if min_intensity is not None and name != "folder":
        raise ValueError(f"--min_intensity: only for --corpus=folder; {name} has a rule of its own")
    if name in _WITH_LANDMARKS:
        if faces is not None:
            raise ValueError(
                f"{name}: its landmarks are what is to be learned; leave --detector and --landmarks away"
            )
        return _WITH_LANDMARKS[name](raw_dir, alignment)
    if name == "folder":
        return folder.corpus(raw_dir, alignment, faces, 2.0 if min_intensity is None else min_intensity)
    if from_lists or name == "gft":
        return lists.corpus(raw_dir, alignment, name, faces)
    return _OWNERS[name](raw_dir, alignment, faces)
