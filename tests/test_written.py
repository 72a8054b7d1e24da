"""Sweeps and prompts as people write them: read as they were meant, or refused with a remedy that works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from asked import load, prepare
from checkpoints import tokenizer

from schedcmp.checkpoint import ModelSpec, inspect
from schedcmp.checkpoint.tokens import cut_prompts
from schedcmp.errors import RequestError, SweepError
from schedcmp.sweep.document import dump
from schedcmp.sweep.notation import foreign_notation
from schedcmp.sweep.source import parse

LONG = "x" * 50_000
BASE = "model: builtin:tiny\nschedulers: [euler]\n"


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a sweep with these further lines is refused with."""
    monkeypatch.chdir(tmp_path)

    def refusal(lines: str, *overrides: str, base: str = BASE) -> str:
        Path("s.yaml").write_text(base + lines + "\n")
        with pytest.raises(SweepError) as raised:
            load(Path("s.yaml"), overrides)
        return str(raised.value)

    return refusal


@pytest.mark.parametrize(
    "text",
    [
        "masterpiece, 1girl: red hair", "{red|blue} heart", "[masterpiece], best quality", '"a heart" on a table',
        "*heart*", "@artist heart", "%d hearts", "`heart`", "'tis a heart", "a: b: c", "!important red",
    ],
)  # fmt: skip
@pytest.mark.parametrize("line", ["prompt: {}", "prompt:\n  - {}", "prompt:\n  red: {}"])
def test_a_text_that_yaml_cannot_read_is_refused_with_quotes_that_work(
    refusal: Callable[..., str], text: str, line: str
) -> None:
    told = refusal(line.format(text))
    number = 3 + line.count("\n")
    assert told.startswith((f"s.yaml:{number}: ", "s.yaml:3: prompt: "))
    remedy = re.search("put quotes around (it|the text): (.*)", told)
    if remedy:
        (value,) = _leaves(yaml.safe_load(remedy[2]))
        assert value == text
    else:
        assert "quotes" in told


def _leaves(value: Any) -> list[Any]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return [value] if items is None else [leaf for item in items for leaf in _leaves(item)]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("steps:\t20", "s.yaml:3: has a tab, and YAML wants spaces"),
        ("prompt: a\nsteps:20", "s.yaml:4: has no space after the colon; write steps: 20"),
        ("prompt: !include p.txt", "s.yaml:3: !include is a YAML tag.* prompt: {file: FILE}"),
        ("prompt: 2077", "s.yaml:3: prompt: .* YAML reads 2077 as a number; put quotes around it"),
        ("prompt: no", r"YAML reads False \(as it does no"),
        ("prompt: 2024-01-01", "as a date; put quotes"),
        ("prompt: #1 award winning", "s.yaml:3: prompt: is empty; .* begins with #"),
        ("prompt: a\nsteps: 010", "s.yaml:4: 010 would be 8 to YAML .*; write 10 for the number"),
        ("prompt: a\nsteps: 1:30", "s.yaml:4: 1:30 would be 90 to YAML"),
        ("prompt: a\nsteps: [10, 0777]", "0777 would be 511 to YAML"),
        ("prompt: a\nsteps: 20, 30", r"write a list: \[20, 30\]"),
        ("prompt: a\nsteps: 20.0", "write 20$"),
        ("prompt: a\nsteps: 10-50 [5]", r"write \[10, 20, 30, 40, 50\]"),
        ("prompt: a\nsteps: 10-50 (+20)", 'write "10..50 step 20"'),
        ("prompt: a\nsteps: 2\nseeds: 1234-1240", 'write "1234..1240"'),
        ("prompt: a\nsteps: 2\nguidance_scale: 7,5", r"write 7\.5, or a list: \[7, 5\]"),
        ("prompt: a\nsteps: 2\nsize: 512:768", "write 512x768"),
        (
            "prompt: a\nsteps: 2\nwidth: 500\nheight: 504",
            "must be a multiple of 8, got 500; the nearest are 496 and 504",
        ),
        ("prompt: a\nsteps: 2\ncfg: 7", "s.yaml:5: unknown key 'cfg'; here it is guidance_scale"),
        ("prompt: a\n steps: 2", "s.yaml:4: is indented unlike the lines above it"),
        ("prompt: [a, b\nsteps: 2", "s.yaml:3: opens a bracket or quotes that nothing closes"),
        ('prompt: "a\nsteps: 2', "s.yaml:3: opens a bracket or quotes that nothing closes"),
        ("prompt: a\nsteps: 2\nsigmas: 14.6", "a list of noise levels has two or more, got 14.6"),
        ("prompts: a\nsteps: 2", "s.yaml:3: unknown key 'prompts'; here it is prompt$"),
        ("prompt: a\nsteps: 2\nname: a/b", "name: must begin with a letter or digit and have only"),
        ("prompt: a\nsteps: 2\ndevice: gpu", "device: must be auto, cpu, mps, cuda"),
        ("prompt: a\x1b[31m", r"s.yaml:3: has the character U\+001B \(ESC\).*; delete it"),
        ("prompt: a\nsteps: " + "[" * 500, "s.yaml:4: opens over 64 brackets"),
    ],
)
def test_what_is_written_wrong_is_told_with_line_and_remedy(refusal: Callable[..., str], lines: str, told: str) -> None:
    found = refusal(lines)
    assert re.search(told, found), found
    assert not re.search(r"input should|\^\[", found)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": LONG}, {"model": {"id": "builtin:tiny", "vae": LONG}}, {"prompt": {LONG: "a"}},
        {"prompt": {"file": LONG}}, {"schedulers": ["a." + LONG]}, {"zip": [[LONG, "seeds"]]},
        {"schedulers": [{"name": "m", "base": "euler", "options": {LONG: 1}}]}, {"sigmas": "x " * 25_000},
        {"real_images": LONG},
    ],
    ids=range(9),
)  # fmt: skip
def test_no_message_repeats_a_long_value(changes: dict[str, Any], write_sweep: Any) -> None:
    with pytest.raises(RequestError) as raised:
        prepare(write_sweep(**changes))
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    "line", ["prompt: [{}]", "steps: {}", "seeds: {}", "size: {}", "name: {}", "device: {}", "{}: 1"]
)
def test_a_long_value_is_not_repeated_whole(refusal: Callable[..., str], line: str) -> None:
    lines = line.format("x" * 50_000) + ("" if line.startswith("prompt") else "\nprompt: a\n")
    assert len(refusal(lines)) < 1000


def test_files_as_editors_write_them_are_read_or_told_where(tmp_path: Path) -> None:
    text = BASE + "prompt: café\nsteps: 2\n"
    path = tmp_path / "s.yaml"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
        assert load(path)[0].prompt == {"prompt": "café"}
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SweepError, match=r"s.yaml:3: is not UTF-8 \(at 'prompt: café'\); save the file as UTF-8"):
        load(path)
    path.write_text("# \n" * 2_000_000)
    with pytest.raises(SweepError, match=r"s.yaml:\d+: is over 4,000,000 bytes"):
        load(path)


def test_a_comment_that_looks_like_the_texts_end_is_remarked_on() -> None:
    assert parse("prompt: a cat #1 in the world", "s.yaml").remarks[0].startswith("s.yaml:1: prompt: '#1 in the world'")
    assert "'&heart' is no part" in parse("prompt: &heart heart", "s.yaml").remarks[0]
    assert not parse("prompt: a cat # the first\nsteps: 4 #four", "s.yaml").remarks
    assert not parse("prompt: 'a cat #1'", "s.yaml").remarks


LISTS = {
    "p.txt": "a red heart\n\n# a comment\n  a blue star \n",
    "p.csv": 'id,prompt\nred,"a red, red heart"\nblue,a blue star\n',
    "p.tsv": "name\ttext\nred\ta red, red heart\nblue\ta blue star\n",
    "p.jsonl": '{"id": "red", "prompt": "a red, red heart"}\n"a blue star"\n',
    "p.json": '{"red": "a red, red heart", "blue": "a blue star"}',
}


@pytest.mark.parametrize("name", LISTS)
def test_prompts_are_taken_from_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(LISTS[name])
    Path("s.yaml").write_text(BASE + f"prompt: {{file: {name}}}\nsteps: 2\n")
    red = "a red heart" if name == "p.txt" else "a red, red heart"
    found = load(Path("s.yaml"))[0].prompt
    assert list(found.values()) == [red, "a blue star"]
    assert list(found) == (["p0", "p1"] if name == "p.txt" else ["red", "p1" if name == "p.jsonl" else "blue"])


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("p.txt", "a\nb\na\n", "p.txt:3: is the same prompt as line 1"),
        ("p.txt", "# only this\n", "holds no prompts"),
        ("p.csv", "a,b\n1,2\n", r"p.csv:2: has no prompt; .* \(it has: a, b\)"),
        ("p.csv", "id,prompt\nx,a\nx,b\n", "p.csv:3: the id 'x' is there twice"),
        ("p.jsonl", '"a"\n{"prompt"\n', "p.jsonl:2: is not JSON"),
    ],
)
def test_a_file_of_prompts_is_refused_with_its_line(
    refusal: Callable[..., str], tmp_path: Path, name: str, text: str, told: str
) -> None:
    (tmp_path / name).write_text(text)
    assert re.search(f"s.yaml:3: prompt: .*{told}", refusal(f"prompt: {{file: {name}}}\nsteps: 2"))


def test_negative_prompts_are_taken_from_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("n.txt").write_text("ugly\nblurry\n")
    Path("s.yaml").write_text(BASE + "prompt: a\nnegative_prompt: {file: n.txt}\nsteps: 2\n")
    assert load(Path("s.yaml"))[0].negative_prompt == ("ugly", "blurry")


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards/shape.txt").write_text("# a comment\nring\nheart\n")
    (tmp_path / "p.txt").write_text("a\nb\nc\nd\n")


def prompts(key: str) -> list[str]:
    Path("s.yaml").write_text(BASE + f"prompt: {key}\nsteps: 2\n")
    return list(load(Path("s.yaml"))[0].prompt.values())


def test_a_template_stands_for_each_of_its_choices(shapes: None) -> None:
    found = prompts("{template: 'a {red|blue} __shape__', wildcards: cards}")
    assert sorted(found) == ["a blue heart", "a blue ring", "a red heart", "a red ring"]


@pytest.mark.parametrize(
    "key", ["{file: p.txt, sample: 2", "{template: 'a {1|2|3|4} __shape__', wildcards: cards, sample: 4"]
)
def test_a_sample_is_the_seeds(shapes: None, key: str) -> None:
    samples = {seed: prompts(f"{key}, seed: {seed}}}") for seed in range(6)}
    assert prompts(f"{key}}}") == samples[0]
    assert all(len(set(sample)) == len(sample) == len(samples[0]) for sample in samples.values())
    assert len({tuple(sample) for sample in samples.values()}) > 1
    assert samples[3] == prompts(f"{key}, seed: 3}}")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("{file: p.txt, sample: 9}", "p.txt holds 4 prompts, fewer than sample: 9"),
        ("{file: p.txt, sample: 0}", "sample: expected a whole number of at least 1, got 0"),
        ("{template: 'a {red|blue}', sample: 3}", "only 2 different prompts were drawn, fewer than sample: 3"),
        ("{template: 'a {red|blue'}", "template: 'a {red|blue' cannot be read; close each { and __"),
        ("{template: 'a __colour__', wildcards: cards}", "there is no file for the wildcard __colour__ under cards"),
        ("{template: 'a __colour__'}", "there is no file for the wildcard __colour__ without a folder; add wildcards"),
        ("{template: 'a __../p__', wildcards: cards}", "there is no file for the wildcard __../p__"),
        ("{template: 'a', wildcards: nowhere}", "wildcards: there is no folder 'nowhere'"),
        ("{template: '" + "{a|b|c|d}" * 7 + "'}", "stands for over 10,000 prompts; draw some of them with sample: N"),
    ],
)  # fmt: skip
def test_a_template_or_sample_that_cannot_be_is_refused(
    shapes: None, refusal: Callable[..., str], key: str, told: str
) -> None:
    assert told in refusal(f"prompt: {key}\nsteps: 2")


def test_a_files_name_as_a_prompt_is_told(refusal: Callable[..., str], tmp_path: Path) -> None:
    assert "there is no file p.txt" in refusal("prompt: {file: p.txt}\nsteps: 2")
    assert "'p.txt' is named as a file, and none is there" in refusal("prompt: p.txt\nsteps: 2")
    (tmp_path / "p.txt").write_text("a\n")
    for text in ("p.txt", '"@p.txt"', "[a, p.txt]"):
        assert "is a file; to take its prompts write prompt: {file: p.txt}" in refusal(f"prompt: {text}\nsteps: 2")
    several = refusal("steps: 2", "prompt=a heart\n# b\na star")
    assert "has 3 lines" in several
    assert "{file: FILE}" in several


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a (large:1.4) heart", ["(large:1.4)"]),
        ("a ((red)) [striped] heart", ["((red))"]),
        ("a heart <lora:paperCut_v2:0.8> BREAK x", ["<lora:paperCut_v2:0.8>", "BREAK"]),
        ("a {red|blue} __shape__", ["__shape__", "{red|blue}"]),
        ("a [red:blue:0.5] heart AND a star", ["[red:blue:0.5]", "AND"]),
        ("EasyNegative, badhandv4", ["EasyNegative", "badhandv4"]),
        ("ng_deepnegative_v1_75t, embedding:x.pt", ["embedding:x.pt", "ng_deepnegative_v1_75t"]),
        ("a <cat-toy>", ["<cat-toy>"]),
        ("a (striped)++ heart", ["(striped)++"]),
        ("a heart (large), on a table: red AND WHITE", []),
        ("2:3 aspect, 50mm f/1.8, negative space", []),
        ("C++ code on a screen, snake_case", []),
    ],
)
def test_notation_of_other_tools_is_told(text: str, pieces: list[str]) -> None:
    found = list(foreign_notation({"prompt": text}))
    assert len(found) == bool(pieces)
    assert all(repr(piece) in found[0] for piece in pieces)


def test_what_the_encoder_drops_is_told_with_what_becomes_the_same(write_sweep: Any) -> None:
    short, long, other = "a b", "a b a b a b", "a b a b a b b"  # of 8 tokens two are around the text
    told = prepare(write_sweep(prompt={"x": short, "y": long, "z": other})).warnings
    assert not any("prompt y:" in text for text in told)
    assert any(
        text.startswith("prompt z: its end is cut, as tokenizer takes 8 tokens") and "'b'" in text for text in told
    )
    assert "prompt y and prompt z are one text to this checkpoint: what tells them apart is cut" in told


def test_prompts_that_differ_in_what_no_tokenizer_reads_are_told() -> None:
    checkpoint = inspect(ModelSpec("builtin:tiny"))
    (told,) = cut_prompts(checkpoint, {"prompt p0": "A red  heart", "prompt p1": "a red heart"})
    assert told.startswith("prompt p0 and prompt p1 are one text to this checkpoint: what tells them apart is not read")
    assert not list(cut_prompts(checkpoint, {"prompt p0": "a blue heart", "prompt p1": "a red heart"}))


def test_tokens_are_those_of_the_pipelines_own_tokenizer(sd1: Path) -> None:
    checkpoint = inspect(ModelSpec(str(sd1)))
    text = "b a b b a b a a b"
    (told,) = cut_prompts(checkpoint, {"prompt": text})
    kept = text.removesuffix(re.search(r"'(.*)'", told)[1]).strip()  # type: ignore[index]
    ids = tokenizer()(text, truncation=True).input_ids
    assert tokenizer()(kept).input_ids == ids
    assert not list(cut_prompts(checkpoint, {"prompt": "a b a b"}))


@pytest.mark.parametrize(
    ("item", "label"),
    [
        ("{name: dpmpp-2m, options: {use_lu_lambdas: true}}", "dpmpp-2m use_lu_lambdas=True"),
        ("{name: dpmpp-2m, options: {use_lu_lambdas: [true]}}", "dpmpp-2m use_lu_lambdas=True"),
        ("{name: DPM++ 2M, options: {solver_order: 3}}", "DPM++ 2M solver_order=3"),
        ("{base: dpmpp-2m, options: {solver_order: 3}}", "dpmpp-2m solver_order=3"),
        ("dpmpp-2m: {solver_order: 3}", "dpmpp-2m solver_order=3"),
        ("{name: mine, base: dpmpp-2m, options: {solver_order: 3}}", "mine"),
        ("{name: dpmpp-2m, options: {}}", "dpmpp-2m"),
        ("dpmpp-2m-karras:", "dpmpp-2m-karras"),
    ],
)
def test_options_of_a_known_entry_mean_what_they_say(item: str, label: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"model: builtin:tiny\nprompt: a\nsteps: 4\nschedulers:\n  - euler\n  - {item}\n")
    recipes = prepare(path).recipes
    assert list(recipes) == ["euler", label]
    config = recipes[label].config
    assert config["use_lu_lambdas"] == ("lu" in label)
    assert config["solver_order"] == (3 if "3" in item else 2)


def test_options_that_would_not_be_followed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    for options, told in (
        (
            "{use_karras_sigmas: false}",
            "has use_karras_sigmas: False, but karras sigmas set it to True; leave it out, or karras",
        ),
        ("{use_lu_lambdas: true}", "asks for use_lu_lambdas and karras sigmas, .* keep one"),
    ):
        path.write_text(
            "model: builtin:tiny\nprompt: a\nsteps: 4\nschedulers:\n"
            f"  - {{name: dpmpp-2m-karras, options: {options}}}\n"
        )
        with pytest.raises(SweepError, match=f"s.yaml:5: .*{told}"):
            prepare(path)


@pytest.mark.parametrize(
    ("lines", "labels"),
    [
        ("schedulers: [euler]\nsigmas: [14.6, 6.5, 2.7, 1.0, 0.0]", ["euler-list-14.6-6.5-2.7-1"]),
        ("schedulers: [euler]\nsigmas: [default, [14.6, 6, 2, 1]]", ["euler", "euler-list-14.6-6-2-1"]),
        ("schedulers: [{name: mine, base: euler, sigmas: [14.6, 6.5, 2.7, 1.0]}]", ["mine"]),
    ],
)
def test_lists_of_noise_levels_run_and_are_written_down(lines: str, labels: list[str], tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"model: builtin:tiny\nprompt: a\nsteps: 4\n{lines}\n")
    prepared = prepare(path)
    assert list(prepared.recipes) == labels
    path.write_text(dump(prepared.portable_sweep))
    assert [cell.id for cell in prepare(path).plan.cells] == [cell.id for cell in prepared.plan.cells]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            "schedulers: [euler]\ntimesteps: [999, 499]",
            "unknown key 'timesteps'; here it is sigmas, a list of noise levels",
        ),
        ("schedulers: [{name: m, base: euler, options: {timesteps: [[999]]}}]", "own list of noise levels, as in"),
        ("schedulers: euler, DPM++ 2M", r"are several names; write a list: \[euler, DPM\+\+ 2M\]"),
        ("schedulers: [res_8s]", "res_8s .*the nearest is hochbruck-ostermann-5"),
        ("schedulers: [res_8s karras_exponential]", "nearest is karras; res_6s .* nearest is hochbruck-ostermann-5"),
        ("schedulers: [euler karras_exponential]", "karras_exponential .* nearest is karras"),
    ],
)
def test_what_is_no_list_says_how(lines: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"model: builtin:tiny\nprompt: a\nsteps: 4\n{lines}\n")
    with pytest.raises(SweepError, match=told):
        prepare(path)


def test_options_that_change_nothing_are_told(tmp_path: Path) -> None:
    entries = [
        {"name": "order", "base": "dpmpp-2m", "options": {"solver_order": 3}},
        {"name": "kind", "base": "dpmpp-3m", "options": {"solver_type": "heun"}},  # of the second order alone
        {"name": "noise", "base": "euler-a-any", "options": {"eta": 0.0, "s_noise": 1.5}},
    ]
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump({"model": "builtin:tiny", "prompt": "a", "steps": [1, 8], "schedulers": entries}))
    told = [text for text in prepare(path).warnings if "changes nothing" in text]
    assert len(told) == 1
    assert told[0].startswith("noise: s_noise: 1.5 changes nothing at 1, 8 steps")


def test_an_override_reaches_into_a_model_that_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(BASE + "prompt: a\nsteps: 2\n")
    model = load(path, ("model.vae=there",))[0].model
    assert (model.id, model.vae) == ("builtin:tiny", "there")


def test_of_many_reasons_a_few_are_told(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("model: builtin:tiny\nprompt: a\nschedulers: [euler]\nsigmas: [[9, 3, 1]]\nsteps: 4..40\n")
    with pytest.raises(SweepError, match=r"cannot do 4 steps.*; and 33 reasons more$"):
        prepare(path)
