"""CLIP's byte-level BPE (Radford et al. 2021), with just enough merges to make each caption word one token.

Anything else falls back to bytes, so a prompt in any script can be encoded, if not understood.
"""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
Pair = tuple[str, str]


def byte_letters() -> list[str]:
    """GPT-2's printable stand-in for each of the 256 bytes, in byte order."""
    ranges = [("!", "~"), ("¡", "¬"), ("®", "ÿ")]
    printable = {code for first, last in ranges for code in range(ord(first), ord(last) + 1)}
    spare = iter(range(256, 512))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]


def learn_merges(words: list[str]) -> list[Pair]:
    """Merge the most frequent pair, again and again, until each word is one token."""
    split = [[*word[:-1], word[-1] + WORD_END] for word in words]
    merges: list[Pair] = []
    while counts := Counter(pair for parts in split for pair in pairwise(parts)):
        merges.append(max(counts, key=lambda pair: (counts[pair], pair)))
        split = [_merge(parts, merges[-1]) for parts in split]
    return merges


def _merge(parts: list[str], pair: Pair) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def build_tokenizer(words: list[str], max_tokens: int, folder: Path) -> CLIPTokenizer:
    """Write the tokenizer's files into `folder` and load it from there."""
    merges = learn_merges(words)
    letters = byte_letters()
    endings = [letter + WORD_END for letter in letters]
    tokens = [*letters, *endings, *("".join(pair) for pair in merges), START, END]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")
    config = special | {"tokenizer_class": "CLIPTokenizer", "model_max_length": max_tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)
