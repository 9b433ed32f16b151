"""jaxau: facial Action Unit detection in JAX."""

import os
from pathlib import Path
from typing import Any

import jax

# A network compiles for seconds to minutes; the second start should not. Set JAX_COMPILATION_CACHE_DIR (also
# to the empty string, for none) to decide otherwise.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxau" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(_cache))


def __getattr__(name: str) -> Any:
    if name == "load":  # on demand: prediction needs tables and video, training does not
        from jaxau.predict import load

        return load
    raise AttributeError(f"module 'jaxau' has no attribute {name!r}")
