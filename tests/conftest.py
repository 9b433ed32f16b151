"""Fixtures that several rooms use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden data, media and detector weights, which is not part of the project."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("JAXAU_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"needs the shared folder, not found at {folder} (set JAXAU_SHARED)")
    return folder
