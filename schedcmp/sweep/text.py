"""Text files as people's editors write them."""

from __future__ import annotations

import codecs
from pathlib import Path

from schedcmp.files import open_regular

MAX_BYTES = 4_000_000
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """A text in UTF-8, or in UTF-16 with a mark of its byte order, as Windows writes it.

    Raises:
        ValueError: another encoding, with the line and the remedy, or too large.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        line = data.count(b"\n") + 1
        raise ValueError(f"{path}:{line}: is over {MAX_BYTES:,} bytes here; split it into several")
    encoding = "utf-16" if data.startswith(_UTF_16) else "utf-8-sig"
    try:
        return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        shown = data[max(error.start - 20, 0) : error.start + 1].rpartition(b"\n")[2].decode("latin-1")
        raise ValueError(
            f"{path}:{line}: is not UTF-8 (at {shown!r}); save the file as UTF-8, which every editor can"
        ) from error
