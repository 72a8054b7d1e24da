"""What a checkpoint's text encoders read of a prompt: they have a limit, and pipelines drop the rest without a word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from schedcmp.checkpoint import layout
from schedcmp.checkpoint.json_files import read_json
from schedcmp.checkpoint.source import Checkpoint
from schedcmp.pipelines.source import pipeline_source

_NO_LIMIT = 100_000  # transformers says 1e30
_MOST_SHOWN = 200  # characters of what is cut
_SPECIAL = 4  # tokens around a text, at most


@dataclass(frozen=True)
class Reader:
    """A tokenizer of a checkpoint, and how many tokens its encoder is given, those around the text included."""

    name: str  # as its component: "tokenizer_2"
    folder: Path
    class_name: str
    limit: int

    def may_cut(self, text: str) -> bool:
        """Whether the text may be too long, told without reading the vocabulary: no token has less than a byte."""
        return len(text.encode()) + _SPECIAL > self.limit

    def read(self, text: str) -> tuple[tuple[int, ...], str]:
        """The tokens of the text that the encoder is given, and the end of the text that it is not."""
        encoding = self._tokenizer.encode(text)
        tokens = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
        room = self.limit - (len(encoding.ids) - len(tokens))
        cut = text[encoding.offsets[tokens[room]][0] :] if len(tokens) > room else ""
        return tuple(encoding.ids[i] for i in tokens[:room]), cut

    @cached_property
    def _tokenizer(self) -> Any:
        """One of the tokenizers package, which needs no transformers where the folder has its file."""
        from tokenizers import Tokenizer

        path = self.folder / "tokenizer.json"
        if path.is_file():
            tokenizer = Tokenizer.from_file(str(path))
        else:
            import transformers

            loaded = getattr(transformers, self.class_name).from_pretrained(self.folder, local_files_only=True)
            tokenizer = loaded.backend_tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


def cut_prompts(checkpoint: Checkpoint, texts: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each text whose end no encoder is given, or not all; and for those that are one to all of them.

    Args:
        texts: by what they are called ("prompt red").
    """
    readers = _readers(checkpoint)
    alike = len({" ".join(text.lower().split()) for text in texts.values()}) < len(texts)
    if not alike and not any(reader.may_cut(text) for reader in readers for text in texts.values()):
        return
    try:
        read = {name: [reader.read(text) for reader in readers] for name, text in texts.items()}
    except Exception:  # a vocabulary that only its pipeline can load
        return
    for name, parts in read.items():
        cut = {reader: end for reader, (_, end) in zip(readers, parts, strict=True) if end}
        if cut:
            yield f"{name}: {_told(cut, readers)}"
    same: dict[Any, list[str]] = {}
    for name, parts in read.items():
        same.setdefault(tuple(ids for ids, _ in parts), []).append(name)
    for names in same.values():
        if len(names) > 1:
            shortened = any(end for name in names for _, end in read[name])
            why = "is cut" if shortened else "is not read, as capitals and spaces may be"
            yield f"{' and '.join(names)} are one text to this checkpoint: what tells them apart {why}"


def _told(cut: Mapping[Reader, str], readers: list[Reader]) -> str:
    shortest = min(cut.values(), key=len)
    shown = shortest if len(shortest) <= _MOST_SHOWN else f"{shortest[:_MOST_SHOWN]}…"
    limits = " and ".join(f"{reader.name} takes {reader.limit} tokens" for reader in cut)
    others = [reader.name for reader in readers if reader not in cut]
    if others:
        return f"its end, {shown!r}, is read by {' and '.join(others)} alone, as {limits}"
    return f"its end is cut, as {limits}; say this earlier or leave it out: {shown!r}"


def _readers(checkpoint: Checkpoint) -> list[Reader]:
    index = read_json(checkpoint.config_folder / layout.MODEL_INDEX)
    found = []
    for name, value in index.items():
        folder = checkpoint.config_folder / name
        if name.startswith("tokenizer") and isinstance(value, list) and value[1] and folder.is_dir():
            limit = _limit(checkpoint, name, str(value[1]))
            found += [Reader(name, folder, str(value[1]), limit)] if limit else []
    return found


def _limit(checkpoint: Checkpoint, name: str, class_name: str) -> int | None:
    """As the pipeline cuts: CLIP's at what it was made for, others at the call's `max_sequence_length`."""
    path = checkpoint.config_folder / name / "tokenizer_config.json"
    own = read_json(path).get("model_max_length") if path.is_file() else None
    positions = checkpoint.config(name.replace("tokenizer", "text_encoder")).get("max_position_embeddings")
    source = pipeline_source(checkpoint.pipeline_class)
    called = source.defaults.get("max_sequence_length") if source else None
    limits = [own, positions] if class_name.startswith("CLIP") or not called else [called]
    known = [int(n) for n in limits if isinstance(n, int | float) and 0 < n < _NO_LIMIT]
    return min(known, default=None)
