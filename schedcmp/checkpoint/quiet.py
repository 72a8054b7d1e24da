"""Keep the libraries' bars and remarks off the terminal, and their remarks for us."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def quiet(*, progress: bool = False) -> Iterator[list[str]]:
    """Silence diffusers, transformers and huggingface_hub; yields the list of what they would have logged.

    Args:
        progress: leave their progress bars on.
    """
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    messages: list[str] = []
    with ExitStack() as stack:
        # Python warnings of these libraries speak to their own callers, about arguments that are not ours.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name in ("diffusers", "transformers", "huggingface_hub"):
            stack.enter_context(_collected(logging.getLogger(name), messages))
        if not progress:
            if not are_progress_bars_disabled():
                disable_progress_bars()
                stack.callback(enable_progress_bars)
            for library in (diffusers_logging, transformers_logging):
                if library.is_progress_bar_enabled():
                    library.disable_progress_bar()
                    stack.callback(library.enable_progress_bar)
        yield messages


@contextmanager
def _collected(logger: logging.Logger, messages: list[str]) -> Iterator[None]:
    before = logger.handlers, logger.level, logger.propagate
    collector = logging.Handler(logging.WARNING)
    collector.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger.handlers, logger.level, logger.propagate = [collector], logging.WARNING, False
    try:
        yield
    finally:
        logger.handlers, logger.level, logger.propagate = before
