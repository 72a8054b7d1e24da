"""Random sweeps through `check`: planned, or refused in one message; nothing is written; a plan is the same again."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tools.soak.case import Case, Failed
from tools.soak.commands import here

_ROOT = Path(__file__).parents[2]
_WORDS = ("ddim", "euler", "DPM++ 2M Karras", "a b", "", "*", "a" * 3000, "1..3", "10..4", "0..9 step 3", "猫",
          "x/y", "\u202e", "~nosuchuser/x", "512x512", "8x8", "null", "karras", "../x", "{a|b}",
          "os.system", "this.x")  # fmt: skip
_NUMBERS = (0, 1, 2, 3, 7, 8, 20, 64, -1, 1.5, 7.5, 1e9, 10**30, float("nan"), float("inf"), -0.0, True, 2**63, 1e-320)
_SOUND: dict[str, tuple[Any, ...]] = {
    "prompt": ("a b", ["a", "b"], {"x": "a", "y": "b"}, "a cat", {"file": "PROMPTS"}),
    "schedulers": ("*", ["ddim"], ["euler", "heun"],
                   [{"name": "m", "base": "dpmpp-2m", "options": {"solver_order": 3}}], [{"name": "ddim", "steps": 3}],
                   ["DPM++ 2M Karras", "Euler a"],
                   [{"dpmpp-2m": {"solver_order": [2, 3]}}]),
    "steps": (2, [2, 3], "2..6 step 2", "4..8", [1]),
    "nfe": (10, [10, 20]), "seeds": (0, "0..3", [1, 2], {"count": 3}), "guidance_scale": (3, [1, 7.5], 0),
    "negative_prompt": ("ugly", ["", "x"]), "width": (64, 8), "height": (64, 16), "size": (["16x16", "8x24"], "64x64"),
    "sigmas": ("karras", ["default", "karras"], [14.6, 6.5, 2.7, 1.0]), "device": ("cpu", "auto", "cuda"),
    "dtype": ("fp32", "bf16", "auto"), "engine": ("packed", "solo"), "max_batch": (1, 8), "name": ("mine", "a b"),
    "metrics": ("off", "reference", ["reference"], ["clip"]), "timing": ({"mode": "off"}, {"mode": "solo"}),
    "grid": ({"rows": ["scheduler"], "cols": ["steps"]}, {"page": ["seed"]}), "exclude": ([{"schedulers": "ddim"}], []),
    "zip": ([["steps", "seeds"]], [["prompt", "seeds"]]), "backend": ("torch", "jax"), "executor": ("local",),
    "optimize": ({"compile": True}, {"attention": "native"}), "real_images": ("images",),
    "generator": ("device", "cpu"),
}  # fmt: skip
_FREE = sorted(_SOUND.keys() - {"prompt", "schedulers", "steps", "nfe", "width", "height", "size"})


@cache
def _examples() -> list[str]:
    return [path.read_text() for path in sorted((_ROOT / "configs").glob("*.yaml"))]


def _value(draw: random.Random, depth: int = 0) -> Any:
    kind = draw.randrange(9 if depth < 3 else 6)
    if kind < 3:
        return draw.choice(_WORDS)
    if kind < 5:
        return draw.choice(_NUMBERS)
    if kind == 5:
        return draw.choice((None, False, "".join(chr(draw.randrange(32, 0x2FFF)) for _ in range(draw.randrange(20)))))
    if kind < 8:
        return [_value(draw, depth + 1) for _ in range(draw.choice((0, 1, 2, 3, 30)))]
    keys = (*_WORDS, *_SOUND, "name", "base", "options", "mode", "file", "rows")
    return {draw.choice(keys): _value(draw, depth + 1) for _ in range(draw.randrange(4))}


def _document(draw: random.Random, model: str) -> dict[str, Any]:
    """Mostly sound, with a value or two that are not."""
    wanted = {"prompt", "schedulers", draw.choice(("steps", "steps", "nfe")), *draw.sample(_FREE, draw.randrange(5))}
    wanted |= {*draw.choice(((), (), ("width", "height"), ("size",)))}
    sweep = {"model": model} | {key: draw.choice(_SOUND[key]) for key in sorted(wanted)}
    for _ in range(draw.choice((0, 0, 0, 1, 1, 2))):
        key = draw.choice([*sweep, *_SOUND])
        sweep[draw.choice((key, key, key, key[:-1], key + "s", draw.choice(_WORDS) or "x"))] = _value(draw)
    return sweep


def _torn(draw: random.Random, text: str) -> str:
    """A text with a slip of the hand."""
    lines = text.splitlines()
    for _ in range(draw.choice((1, 1, 2, 5))):
        at = draw.randrange(len(lines)) if lines else 0
        place = draw.randrange(len(text) + 1)
        slip = draw.randrange(7)
        if slip == 0 and lines:
            lines.insert(at, draw.choice(lines))
        elif slip == 1 and lines:
            lines[at] = " " * draw.randrange(1, 5) + lines[at]
        elif slip == 2 and lines:
            del lines[at]
        else:
            insert = draw.choice(("", ":", "[", "{", '"', "'", "#", "&a ", "*a", "!!python/name:os.system ", "\t", "\0",
                                  "\x1b", "\n", "- ", "<<: ", "1e5", "|", "%", "@", "\ud7ff", "\u2028"))  # fmt: skip
            text = "\n".join(lines)
            lines = (text[:place] + insert + text[place + draw.choice((0, 0, 1, 4)) :]).splitlines()
    return "\n".join(lines) + "\n"


def _text(draw: random.Random, checkpoint: Path) -> str:
    model = draw.choice(("builtin:tiny", "builtin:tiny", str(checkpoint), str(checkpoint)))
    if draw.random() < 0.15:
        return _torn(draw, draw.choice(_examples()))
    sweep = _document(draw, model)
    text = json.dumps(sweep) if draw.random() < 0.1 else yaml.safe_dump(sweep, allow_unicode=True, sort_keys=False)
    text = text.replace("PROMPTS", str(checkpoint.parent / "prompts.txt"))
    return _torn(draw, text) if draw.random() < 0.2 else text


def attack(case: Case) -> None:
    path = case.sweep
    data = _text(case.random, case.grounds.checkpoint).encode("utf-8", "surrogatepass")
    if case.random.random() < 0.03:
        at = case.random.randrange(len(data))
        data = data[:at] + case.random.randbytes(3) + data[at:]
    path.write_bytes(data)
    more: list[str] = []
    if case.random.random() < 0.1:
        key = case.random.choice(sorted(_SOUND))
        more = ["--set", f"{key}={case.random.choice((*_WORDS, *_NUMBERS, *map(json.dumps, _SOUND[key])))}"]
    said = here(case, "check", path, *more, codes=(0, 2))
    case.seen[f"exit {said.code}"] += 1
    if found := {one.name for one in case.folder.iterdir()} - {"sweep.yaml"}:
        raise Failed(f"written: {sorted(found)}")
    if said.code == 2 and len(said.err) > 5_000:
        raise Failed(f"a message of {len(said.err):,} characters: {said.err[:300]}")
    if said.code == 0 and case.random.random() < 0.1:
        _same_again(case, tuple(more[1:]))


def _same_again(case: Case, overrides: tuple[str, ...]) -> None:
    """What a run writes down of its sweep asks for the same cells."""
    from schedcmp.runs.several import prepare_all
    from schedcmp.sweep.document import dump

    first = prepare_all(case.sweep, overrides)
    again = case.folder / "again.yaml"
    again.write_text(dump(first.portable_sweep), encoding="utf-8")
    here(case, "check", again, codes=(0,))
    if [cell.id for cell in prepare_all(again).plan.cells] != [cell.id for cell in first.plan.cells]:
        raise Failed("silent change: the sweep that a run writes down asks for other cells")
    case.seen["written down"] += 1
