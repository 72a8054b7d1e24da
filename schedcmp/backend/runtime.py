"""JAX, set up once per process: its devices, its memory, its cache of compiled programs."""

from __future__ import annotations

import os
from functools import cache
from importlib.metadata import version
from typing import Any

from schedcmp.errors import RequestError
from schedcmp.files import cache_folder


@cache
def devices() -> list[Any]:
    """All JAX devices of the default platform, JAX set up for this process.

    Compiled programs are kept in the user's cache folder (or `JAX_COMPILATION_CACHE_DIR`): the next run has them. On a
    GPU memory is taken as it is needed, since torch's VAE and text encoder live there too.

    Raises:
        RequestError: the platform that JAX is told to use is not there.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder("jax")))  # type: ignore[no-untyped-call]
    try:
        return list(jax.devices())
    except Exception as error:  # an assertion, for a platform that is not installed
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = str(error).partition("\n")[0] or f"JAX_PLATFORMS={asked} names none that is installed"
        raise RequestError(f"JAX has no devices here: {reason}") from error


def described() -> dict[str, Any]:
    """What an image and its timing depend on, for a run's environment."""
    found = devices()
    return {"backend": "jax", "jax": version("jax"), "jax_devices": f"{len(found)} × {found[0].device_kind}"}
