"""Weights in prompts: A1111's notation, and embeddings that are plain ones where nothing is weighted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import families
import numpy as np
import pytest
import torch
import yaml
from asked import prepare
from hypothesis import given
from hypothesis import strategies as st
from test_inputs import made, pixels
from test_run import run

import schedcmp
from schedcmp.checkpoint import emphasis
from schedcmp.errors import SweepError
from schedcmp.sweep.emphasis import chunks, plain


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a red car", [[("a red car", 1)]]),
        ("", [[("", 1)]]),
        ("a (red) car", [[("a", 1), ("red", 1.1), ("car", 1)]]),
        ("a ((red)) [car]", [[("a", 1), ("red", 1.21), ("car", 1 / 1.1)]]),
        ("a (red:1.3), (car:.5)", [[("a", 1), ("red", 1.3), (",", 1), ("car", 0.5)]]),
        ("((a red:1.5) car)", [[("a red", 1.65), ("car", 1.1)]]),
        ("a (red car", [[("a", 1), ("red car", 1.1)]]),
        ("a red) car]", [[("a red) car]", 1)]]),
        (r"a \(red\) car", [[("a (red) car", 1)]]),
        ("ratio 3:4 (a:b)", [[("ratio 3:4", 1), ("a:b", 1.1)]]),
        ("[red:blue:0.5]", [[("red:blue:0.5", 1 / 1.1)]]),
        ("a BREAK (red BREAK car:2)", [[("a", 1)], [("red", 2)], [("car", 2)]]),
        ("a BREAKFAST", [[("a BREAKFAST", 1)]]),
    ],
)
def test_notation(text: str, read: list[list[tuple[str, float]]]) -> None:
    found = chunks(text)
    assert [[piece for piece, _ in chunk] for chunk in found] == [[piece for piece, _ in chunk] for chunk in read]
    weights = [weight for chunk in found for _, weight in chunk]
    assert weights == pytest.approx([weight for chunk in read for _, weight in chunk])


@given(st.text("ab ()[]:1.\\,", max_size=40))
def test_any_text_is_read_and_no_word_is_lost(text: str) -> None:
    found = chunks(text)
    assert all(np.isfinite(weight) for chunk in found for _, weight in chunk)
    letters = "".join(piece for chunk in found for piece, _ in chunk)
    assert [c for c in letters if c in "ab"] == [c for c in text if c in "ab"]
    assert plain(text).count("a") == text.count("a")


def test_what_is_read_and_what_is_not_is_told(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = {"one": "((a)) BREAK b", "two": "[a:b:0.5]"}
    told = [
        text for text in prepare(written(folders["sd"], prompt_syntax=None, prompt=prompt)).warnings if "drawn" in text
    ]
    assert len(told) == 2
    assert "'((a))' (a weight: say it in plain words, or add prompt_syntax: a1111)" in told[0]
    assert "'BREAK' (a new chunk: leave it out, or add prompt_syntax: a1111)" in told[0]
    monkeypatch.setattr(emphasis, "find_spec", lambda name: True)
    monkeypatch.setattr("schedcmp.prepare.origin.version", lambda name: "1")
    (told_now,) = [text for text in prepare(written(folders["sd"], prompt=prompt)).warnings if "drawn" in text]
    assert "prompt two: is drawn as it is written" in told_now
    assert "only weights and BREAK are read: '[a:b:0.5]'" in told_now


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prompt_syntax": "comfyui"}, "prompt_syntax.0: must be 'plain' or 'a1111'"),
        ({"call": {"clip_skip": 1}}, "prompt_syntax: a1111: has no place with call: clip_skip"),
        ({"optimize": {"offload": True}}, "prompt_syntax: a1111: has no place with optimize: offload"),
        (
            {"model": "builtin:tiny-flow", "schedulers": "flow-euler"},
            "prompt_syntax: a1111: is read for .* and StableDiff",
        ),
        ({}, r'prompt_syntax: a1111: is read by the package compel, .*: pip install "schedcmp\[prompt-weights\]"'),
    ],
)
def test_where_no_weights_are_read_it_is_refused(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], told: str
) -> None:
    monkeypatch.setattr(emphasis, "find_spec", lambda name: None)
    with pytest.raises(SweepError, match=rf"sweep.yaml:\d+: {told}"):
        prepare(written(folders["sd"], **changes))


FAMILIES = {"sd": families.sd, "sdxl": families.sdxl}


def written(folder: Path, **changes: Any) -> Path:
    data = {
        "model": str(folder / "model"), "prompt": {"one": "a b", "two": "(a:1.4) b", "three": "a BREAK b"},
        "negative_prompt": "b", "guidance_scale": 3, "width": 16, "height": 16, "schedulers": ["euler", "dpmpp-2m"],
        "steps": [2], "timing": "off", "metrics": "off", "prompt_syntax": "a1111",
    }  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump({k: v for k, v in (data | changes).items() if v is not None}))
    return folder / "sweep.yaml"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {name: tmp_path_factory.mktemp(name) for name in FAMILIES}
    for name, folder in found.items():
        families.ready(FAMILIES[name]).save_pretrained(folder / "model")
    return found


@pytest.mark.parametrize(("family", "negative"), [("sd", "b"), ("sdxl", "")])
def test_weights_change_images_and_plain_words_do_not(folders: dict[str, Path], family: str, negative: str) -> None:
    pytest.importorskip("compel")
    prepared = prepare(written(folders[family], prompt_syntax=["plain", "a1111"], negative_prompt=negative))
    alone, packed = made(prepared, "solo"), made(prepared, "packed")
    found = {(r.cell.prompt_name, r.cell.prompt_syntax, r.cell.scheduler): r for r in alone.values()}
    for name, result in packed.items():
        assert np.abs(pixels(result.image) - pixels(alone[name].image)).max() <= 1
    for scheduler in ("euler", "dpmpp-2m"):
        plain, read = (pixels(found["one", syntax, scheduler].image) for syntax in ("", "a1111"))
        assert np.abs(plain - read).max() <= 1
        weighted, broken = (pixels(found[name, "a1111", scheduler].image) for name in ("two", "three"))
        assert not np.array_equal(weighted, read)
        assert not np.array_equal(broken, read)


def test_embeddings_are_compels_own(folders: dict[str, Path]) -> None:
    compel = pytest.importorskip("compel")
    pipeline = families.ready(families.sd)
    own = compel.CompelForSD(pipeline)("(a)1.4 (b)0.5", negative_prompt="b")
    found = emphasis.Embedder(pipeline).arguments("(a:1.4) (b:0.5)", "b", ())
    assert torch.equal(found["prompt_embeds"], own.embeds)
    assert torch.equal(found["negative_prompt_embeds"], own.negative_embeds)


def test_a_run_is_repeated_and_pasted(folders: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("compel")
    sweep = written(folders["sd"], schedulers="euler", engine="solo")
    assert run("run", sweep, "-o", tmp_path / "out") == 0
    first = schedcmp.open(tmp_path / "out")
    assert [c.id for c in prepare(tmp_path / "out/sweep.yaml").plan.cells] == [c.cell.id for c in first.cells]
    names: dict[str, Any] = {}
    exec(first.code(first.cells[1]), names)
    assert np.array_equal(pixels(names["image"]), pixels(first.image(first.cells[1])))
