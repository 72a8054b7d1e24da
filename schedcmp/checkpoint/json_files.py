"""JSON files of checkpoints, read with bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schedcmp.errors import CheckpointError
from schedcmp.files import read_input

_MOST_BYTES = 64_000_000  # of a JSON file; the largest tokenizers have 35 million
_MOST_OF_A_CONFIG = 16_000_000
_MOST_DEPTH = 64
_TOO_DEEP = object()


def parse_json(path: Path, most: int = _MOST_BYTES) -> Any:
    """What a JSON file of at most so many bytes holds.

    Raises:
        CheckpointError: the file cannot be read, is no JSON, larger, or nested deeper than any config.
    """
    try:
        value = json.loads(read_input(path, most))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}; restore the file.") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); fetch the file again.") from error
    except RecursionError:
        value = _TOO_DEEP
    if value is _TOO_DEEP or not _is_shallow(value):
        raise CheckpointError(f"{path} is nested over {_MOST_DEPTH} levels deep; fetch the file again.")
    return value


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(_MOST_DEPTH + 1):
        nested = (item for item in level if isinstance(item, dict | list))
        level = [inner for item in nested for inner in (item.values() if isinstance(item, dict) else item)]
    return not level


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: the file cannot be read, or holds no JSON object.
    """
    value = parse_json(path, _MOST_OF_A_CONFIG)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object; fetch the file again.")
    return value
