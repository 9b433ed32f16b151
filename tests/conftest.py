"""Fixtures that several rooms use."""

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

# For children that run a script of this folder: they would take its data_pipelines for the package.
os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden data, media and detector weights, which is not part of the project."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("JAXAU_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"needs the shared folder, not found at {folder} (set JAXAU_SHARED)")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> Callable[[str], tuple[ModuleType, dict, dict]]:
    """``golden(name)`` -> what makes its parameters and inputs, its description, its stored outputs."""
    source = importlib.util.spec_from_file_location("golden_weights", shared / "golden/weights.py")
    weights = importlib.util.module_from_spec(source)
    source.loader.exec_module(weights)

    def load(name: str) -> tuple[ModuleType, dict, dict]:
        spec = json.loads((shared / f"golden/{name}.json").read_text())
        return weights, spec, dict(np.load(shared / f"golden/{name}.npz"))

    return load


@pytest.fixture(scope="session")
def disfa_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DISFA's layout with synthetic faces (`disfa_folder`); not to be changed."""
    pytest.importorskip("av", reason="videos are read and written with PyAV: pip install jaxau[video]")
    import disfa_folder

    folder = tmp_path_factory.mktemp("DISFA")
    disfa_folder.write_disfa(folder)
    return folder


@pytest.fixture(scope="session")
def disfa_data(disfa_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the data set of `disfa_raw`; not to be changed."""
    from data_pipelines.corpora import disfa
    from data_pipelines.preparation import prepare

    folder = tmp_path_factory.mktemp("disfa_data")
    prepare(disfa.corpus(disfa_raw, "jaa256"), folder, workers=1)
    return folder


@pytest.fixture(scope="session")
def tiny_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with synthetic faces: 9 subjects, 2 clips of 24 frames each; not to be changed."""
    # Here, because most tests need none of this and it takes seconds to import.
    from data_pipelines.corpora import synthetic
    from data_pipelines.preparation import prepare
    from data_pipelines.synthetic import SynthConfig

    folder = tmp_path_factory.mktemp("tiny_faces")
    faces = SynthConfig(tier="tiny", subjects=9, clips=2, frames=24, size=64, fps=8, nuisance=0.5)
    prepare(synthetic.corpus(faces, "jaa256"), folder, workers=1)
    return folder
