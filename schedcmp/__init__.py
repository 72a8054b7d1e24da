"""schedcmp: one diffusion checkpoint, many schedulers, one honest comparison.

run = schedcmp.run("sweep.yaml")                                        # or a dict, or keywords
run = schedcmp.run(pipeline=pipe, schedulers=["euler", "dpmpp-2m"], steps=[10, 20], prompt="a lighthouse")
run.answer, run.grid(), run.to_pandas()
run = schedcmp.open("outputs/quickstart")
schedcmp.schedulers(pipe)                                               # what works with it, and why not
pipe.scheduler = schedcmp.build("dpmpp-2m-karras", pipe.scheduler.config)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schedcmp.errors import RequestError as RequestError
    from schedcmp.errors import SchedcmpError as SchedcmpError
    from schedcmp.face.catalogue import build as build
    from schedcmp.face.catalogue import schedulers as schedulers
    from schedcmp.face.results import Run as Run
    from schedcmp.face.results import open_run as open
    from schedcmp.face.running import SchedcmpWarning as SchedcmpWarning
    from schedcmp.face.running import run as run

__version__ = "0.1.0"

# Where each public name is; nothing is imported before it is asked for
_NAMES = {
    "Run": ("face.results", "Run"),
    "RequestError": ("errors", "RequestError"),
    "SchedcmpError": ("errors", "SchedcmpError"),
    "SchedcmpWarning": ("face.running", "SchedcmpWarning"),
    "build": ("face.catalogue", "build"),
    "open": ("face.results", "open_run"),
    "run": ("face.running", "run"),
    "schedulers": ("face.catalogue", "schedulers"),
}
__all__ = ["RequestError", "Run", "SchedcmpError", "SchedcmpWarning", "build", "open", "run", "schedulers"]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, there = _NAMES[name]
    found = globals()[name] = getattr(import_module(f"schedcmp.{module}"), there)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
