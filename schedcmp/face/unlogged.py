"""What the libraries log stays out of what a program prints, as it does out of our commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def unlogged() -> Iterator[None]:
    """While open, diffusers and transformers log errors alone; a program that has asked for more than warnings still
    gets it."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    with ExitStack() as stack:
        for library in (diffusers_logging, transformers_logging):
            if (before := library.get_verbosity()) == library.WARNING:
                library.set_verbosity_error()
                stack.callback(library.set_verbosity, before)
        yield
