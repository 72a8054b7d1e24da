"""Whether memory or threads ran out, whoever says so and however. No torch here."""

from __future__ import annotations

import errno

from schedcmp.errors import one_line

# As torch, numpy, CUDA, XLA, the C++ library, the dynamic linker and the system say it
_OF_MEMORY = (
    "out of memory", "allocate memory", "not enough memory", "unable to allocate", "bad_alloc", "failed to map segment",
    "without exception set", "without setting an exception",  # of extensions that do not look whether they got any
)  # fmt: skip
_OF_THREADS = ("can't start new thread", "thread creation failed")
_MOST = 200  # characters of what another library says


def of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    text = str(error).lower()
    full = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    return full or any(sign in text for sign in _OF_MEMORY)


def told(error: BaseException) -> str | None:
    """What ran out, where that is why an error came about, with what helps; None for any other error."""
    seen: BaseException | None = error
    while seen:
        if of_memory(seen):
            return f"the memory is full ({_said(seen)}); end other programs, or take a smaller size or dtype: bf16"
        if any(sign in str(seen).lower() for sign in _OF_THREADS):
            return f"no more threads may be started here ({_said(seen)}); see `ulimit -u` and `ulimit -v`"
        seen = seen.__cause__ or seen.__context__
    return None


def _said(error: BaseException) -> str:
    kind, text = type(error).__name__, one_line(error)
    return kind if text == kind else f"{kind}: {text[:_MOST]}"
