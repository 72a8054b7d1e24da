from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from asked import load
from hypothesis import given
from hypothesis import strategies as st

from schedcmp.errors import SweepError
from schedcmp.registry.entry import Entry
from schedcmp.registry.table import builtin_registry
from schedcmp.sweep import source
from schedcmp.sweep.document import Sweep, dump
from schedcmp.sweep.plan import Plan, make_plan
from schedcmp.sweep.source import parse
from schedcmp.sweep.values import integers, numbers

GOOD: dict[str, Any] = {
    "model": "builtin:tiny",
    "prompt": "a red circle",
    "schedulers": ["ddim", "DPM++ 2M Karras", {"name": "mine", "base": "euler", "steps": [20]}],
    "steps": [4, 8],
    "seeds": "0..2",
}


def flow(value: Any) -> str:
    """YAML on one line."""
    if value == "\ud800":
        return r'"\ud800"'
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).removesuffix("...\n").strip()
    )


def write(tmp_path: Path, document: Any) -> Path:
    path = tmp_path / "sweep.yaml"
    text = document if isinstance(document, str) else "\n".join(f"{k}: {flow(v)}" for k, v in document.items())
    path.write_text(text, encoding="utf-8")
    return path


def sweep_of(tmp_path: Path, *overrides: str, **changes: Any) -> Sweep:
    return load(write(tmp_path, GOOD | changes), overrides)[0]


def refusal(tmp_path: Path, document: Any, *overrides: str) -> str:
    with pytest.raises(SweepError) as caught:
        load(write(tmp_path, document), overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{tmp_path}/", "")


@dataclass
class Known:
    """What is known of entries, without a checkpoint."""

    judge: Any = lambda entry: ("ok", "")

    def most_steps(self, entry: Entry, nfe: int) -> int:
        """Two evaluations a step for what is of second order."""
        return (nfe + 1) // 2 if entry.name == "heun" else nfe

    def work(self, entry: Entry) -> str:
        return entry.name

    def unlisted(self, known: Any) -> list[Entry]:
        return []

    def shift_refusal(self, shift: str) -> str:
        return ""


def plan_of(tmp_path: Path, judge: Any = lambda entry: ("ok", ""), **changes: Any) -> Plan:
    document = GOOD | {"guidance_scale": 7.5} | changes
    sweep, source = load(write(tmp_path, {k: v for k, v in document.items() if v is not None}))
    return make_plan(sweep, source, builtin_registry(), Known(judge))


def test_a_sweep_is_read_with_its_defaults(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    assert (sweep.name, sweep.steps, sweep.seeds) == ("sweep", (4, 8), (0, 1, 2))
    assert (sweep.guidance_scale, sweep.sigmas, sweep.generator, sweep.dtype) == (None, ("default",), "cpu", "auto")
    assert sweep.grid.rows == ("scheduler",)


def test_the_written_sweep_reads_back_as_itself(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, prompt={"猫": "一只猫", "b": "x: y # z"}, guidance_scale=[1, 2.5], seeds=[2**62])
    again, _ = load(write(tmp_path, dump(sweep)))
    assert again == sweep


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("stepz", 3, "sweep.yaml:6: unknown key 'stepz'; did you mean 'steps'?"),
        ("steps", 0, "sweep.yaml:4: steps.0: must be greater than 0, got 0"),
        ("steps", -3, "greater than 0"),
        ("steps", [], "steps: is an empty list; give at least one value"),
        ("steps", [4, 4], "steps: gives 4 twice"),
        ("steps", [4, "x"], "expected a whole number or a range"),
        ("steps", 4.5, "expected a whole number"),
        ("steps", True, "expected a whole number"),
        ("steps", "9..3", "is empty; write it from low to high"),
        ("seeds", "0..99999999999", "over 1,000,000 values"),
        ("seeds", [f"{n}..{n + 999_999}" for n in range(0, 3 * 10**8, 10**6)], ":5: seeds: has over 1,000,000 values"),
        ("guidance_scale", [f"{n}..{n + 0.99} step 0.00001" for n in range(300)], "guidance_scale: has over 1,000,000"),
        ("guidance_scale", f"1..{'9' * 6000}", "over 1,000,000 values"),
        ("exclude", [{"seed": "0..999999"}] * 4, "sweep.yaml: its ranges have over 3,000,000 values together"),
        ("schedulers", [{"name": f"s{n}", "base": "euler", "steps": "1..999999"} for n in range(4)], "over 3,000,000"),
        ("exclude", [{"seed": n} for n in range(1001)], "at most 1000 items"),
        ("seeds", -1, "must be at least 0"),
        ("seeds", 2**64, "less than"),
        ("guidance_scale", float("nan"), "expected a finite number"),
        ("guidance_scale", -1, "must be at least 0"),
        ("width", 64, "sweep.yaml:1: width and height go together"),
        ("width", 65, "sweep.yaml:6: width: must be a multiple of 8, got 65; the nearest are 64 and 72"),
        ("height", 10**9, "must be at most 4096"),
        ("width", 0, "must be at least 8"),
        ("prompt", [], "is an empty list"),
        ("prompt", 3, "expected a text"),
        ("schedulers", [], "give at least one scheduler"),
        ("schedulers", [3], "schedulers.0"),
        ("schedulers", [{"name": "m", "bas": "euler"}], "did you mean 'base'?"),
        ("timing", {"mode": "fast"}, "timing.mode: must be 'solo' or 'off', got 'fast'"),
        ("timing", {"repeats": 0}, "timing.repeats"),
        ("grid", {"rows": "colour"}, "grid.rows"),
        ("grid", {"rows": "steps", "cols": "steps"}, "uses steps twice"),
        ("grid", {"rows": "steps", "page": ["scheduler", "seed"]}, "uses steps twice"),
        ("guidance_scale", 10**400, "expected a finite number"),
        ("prompt", "\ud800", "surrogate"),
        ("prompt", {"a": "x", "b": "x"}, "the same text is there twice"),
        ("device", "gpu", "device"),
        ("dtype", "fp64", "dtype"),
        ("name", "../evil", "name"),
        ("model", "", "model"),
        ("nfe", [10], "sweep.yaml:1: has both `steps` and `nfe`; keep one"),
        ("size", "60x64", "must be multiples of 8"),
        ("size", "big", "expected a size such as 512x768"),
        ("zip", ["schedulers", "sigmas"], "schedulers has 3, sigmas has 1"),
        ("zip", ["schedulers", "colours"], "'colours' is no key of this sweep"),
        ("zip", [["steps", "seeds"], ["steps", "sigmas"]], "'steps' is there twice"),
        ("exclude", [{}], "is empty, which would leave out everything"),
        ("exclude", [{"stepz": 3}], "did you mean 'steps'?"),
        ("guidance_scale", "3..1", "is empty; write it from low to high"),
        ("model", {"id": "x", "remote": True}, "unknown key 'model.remote'"),
        ("executor", "rai", "sweep.yaml:6: executor: expected local, ray or {ray: {...}}, got 'rai'"),
        ("executor", ["ray"], "sweep.yaml:6: executor: expected local, ray or {ray: {...}}, got ['ray']"),
        ("executor", {"ray": False}, "sweep.yaml:6: executor: expected local, ray or {ray: {...}}, got {'ray': False}"),
        ("executor", {"slurm": {}}, "sweep.yaml:6: unknown key 'executor.slurm'"),
        ("executor", {"ray": {"adress": "auto"}}, "unknown key 'executor.ray.adress'; did you mean 'address'?"),
        ("executor", {"ray": {"address": "ray://x:1"}}, "sweep.yaml:6: executor.ray.address: ray://x:1 is for Ray's"),
        ("executor", {"ray": {"address": "x"}}, "executor.ray.address: expected auto, local or host:port, got 'x'"),
        ("executor", {"ray": {"workers": 0}}, "executor.ray.workers: expected all, or a whole number of at least 1"),
        ("executor", {"ray": {"workers": True}}, "executor.ray.workers: expected all, or a whole number"),
        ("executor", {"ray": {"gpus_per_worker": 2}}, "executor.ray.gpus_per_worker: must be at most"),
        ("executor", {"ray": {"cpus_per_worker": 0}}, "executor.ray.cpus_per_worker: must be at least"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(tmp_path: Path, key: str, value: Any, message: str) -> None:
    assert message in refusal(tmp_path, GOOD | {key: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the sweep is empty"),
        ("- a\n- b", "and this is a list"),
        ("model: [1", "sweep.yaml:1: opens a bracket or quotes that nothing closes"),
        ("model: x\n  y: z", "sweep.yaml:2: is indented unlike the lines above it"),
        ("model: x\nsteps: 3\nmodel: y", "sweep.yaml:3: duplicate key 'model'"),
        ("? [a, b]\n: c", "begins a key with a bracket"),
        ("model: !!python/object:os.system x", "sweep.yaml:1: 'x' cannot be read"),
        ("model: \x00", "sweep.yaml:1: has the character U+0000 (NUL)"),
        ("model: " + "[" * 3000, "sweep.yaml"),
        ("model: 2001-99-99", "cannot be read"),
        ("model: !!timestamp x", "'x' cannot be read"),
        ("model: !!bool x", "'x' cannot be read"),
        ('model: !!int ""', "cannot be read"),
    ],
)
def test_broken_yaml_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


def test_an_alias_bomb_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "holds more than a sweep can" in refusal(tmp_path, "\n".join(lines))


def test_anchors_that_are_used_as_meant_work() -> None:
    source = parse("a: &steps [1, 2]\nb: *steps", "x.yaml")
    assert source.data == {"a": [1, 2], "b": [1, 2]}


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="no such file; `schedcmp init"):
        load(tmp_path / "gone.yaml")
    with pytest.raises(SweepError, match=r"is a folder; give a sweep, which is a file$"):
        load(tmp_path)
    (tmp_path / "sweep.yaml").touch()
    with pytest.raises(SweepError, match=r"which is a file, such as .*sweep\.yaml$"):
        load(tmp_path)
    (tmp_path / "latin1.yaml").write_bytes(b"prompt: caf\xe9")
    with pytest.raises(SweepError, match="is not UTF-8"):
        load(tmp_path / "latin1.yaml")


def test_a_timing_mode_of_off_may_be_written_as_yaml_reads_it(tmp_path: Path) -> None:
    assert (
        load(write(tmp_path, "\n".join([*(f"{k}: {flow(v)}" for k, v in GOOD.items()), "timing: {mode: off}"])))[
            0
        ].timing.mode
        == "off"
    )


def test_default_axes_of_a_grid_give_way(tmp_path: Path) -> None:
    grid = sweep_of(tmp_path, grid={"rows": "steps"}).grid
    assert (grid.rows, grid.cols) == (("steps",), ("scheduler",))
    assert sweep_of(tmp_path, grid={"cols": "scheduler"}).grid.rows == ("steps",)


def test_a_file_name_that_is_no_sweeps_name_is_made_one(tmp_path: Path) -> None:
    path = tmp_path / "my (1).sweep.yaml"
    path.write_text(write(tmp_path, GOOD).read_text())
    sweep, _ = load(path)
    (tmp_path / "again.yaml").write_text(dump(sweep))
    assert load(tmp_path / "again.yaml")[0] == sweep


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path, {k: v for k, v in GOOD.items() if k != "prompt"}).endswith("the key 'prompt' is missing")


def test_overrides_replace_values(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "steps=[5, 6]", "timing.repeats=3", "grid.rows=seed", "prompt=a: b".replace(": ", " "))
    assert (sweep.steps, sweep.timing.repeats, sweep.grid.rows) == ((5, 6), 3, ("seed",))
    assert sweep_of(tmp_path, "schedulers=*").schedulers == sweep_of(tmp_path, 'schedulers="*"').schedulers == ("*",)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepz=3", "--set stepz=3: unknown key 'stepz'; did you mean 'steps'?"),
        ("steps=0", "--set steps=0: steps.0"),
        ("steps", "expected KEY=VALUE"),
        ("steps=[1", "the value is not YAML; quote it, as in --set 'steps=[4,8]'"),
        ("schedulers=*all", """the value is not YAML; quote it, as in --set 'schedulers="*"'"""),
        ("steps.x=1", "has no keys of its own"),
        ("=3", "expected KEY=VALUE"),
    ],
)
def test_a_wrong_override_is_refused_by_its_name(tmp_path: Path, override: str, message: str) -> None:
    assert message in refusal(tmp_path, GOOD, override)


def test_cells_keep_the_sweeps_order(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert list(plan.entries) == ["ddim", "dpmpp-2m-karras", "mine"]
    assert [(c.scheduler, c.steps, c.seed) for c in plan.cells[:4]] == [
        ("ddim", 4, 0), ("ddim", 4, 1), ("ddim", 4, 2), ("ddim", 8, 0),
    ]  # fmt: skip
    assert [c.steps for c in plan.cells if c.scheduler == "mine"] == [20, 20, 20]
    assert [c.index for c in plan.cells] == list(range(15))


def test_ids_are_unique_and_do_not_depend_on_the_rest_of_the_sweep(tmp_path: Path) -> None:
    ids = {c.id for c in plan_of(tmp_path).cells}
    assert len(ids) == 15
    alone = plan_of(tmp_path, schedulers=["dpmpp-2m-karras"], steps=[8], seeds=[1]).cells
    assert [c.id in ids for c in alone] == [True]
    for changed in [
        {"prompt": "b"},
        {"guidance_scale": 3},
        {"width": 64, "height": 64},
        {"negative_prompt": "c"},
        {"generator": "device"},
    ]:
        assert not {c.id for c in plan_of(tmp_path, **changed).cells} & ids


def test_sigma_schedules_are_an_axis(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, schedulers=["heun", "euler"], sigmas=["default", "karras"])
    assert list(plan.entries) == ["heun", "heun-karras", "euler", "euler-karras"]
    assert {c.base for c in plan.cells} == {"heun", "euler"}


def test_what_does_not_work_is_refused_where_named_and_says_so_where_swept(tmp_path: Path) -> None:
    def judge(entry: Any) -> tuple[str, str]:
        return ("unsupported", "no such flag") if entry.sigmas.name == "karras" else ("ok", "")

    with pytest.raises(SweepError, match=r"sweep.yaml:3: schedulers.0: no such flag"):
        plan_of(tmp_path, judge, schedulers=["ddim-karras"])
    swept = plan_of(tmp_path, judge, schedulers=["ddim", "euler"], sigmas=["default", "karras"])
    assert {label: s.refusal for label, s in swept.selected.items()} == {
        "ddim": "", "ddim-karras": "no such flag", "euler": "", "euler-karras": "no such flag",
    }  # fmt: skip
    everything = plan_of(tmp_path, judge, schedulers="*", sigmas=["default", "karras"])
    assert not [s for s in everything.selected.values() if s.refusal]
    (told,) = [w for w in everything.warnings if w.startswith("left out: no such flag; likewise ")]  # one line for all
    assert told.endswith(" more")


def test_two_squares_that_look_like_one_size_are_told() -> None:
    told = parse("model: m\nsize: [512, 768]", "s.yaml").remarks
    assert told == (
        "s.yaml:2: size: [512, 768] are two sizes, 512x512 and 768x768; one of 512 by 768 is written 512x768",
    )
    for other in ("[512, 512x768]", "[512]", "[512, 768, 1024]", "512"):
        assert not parse(f"model: m\nsize: {other}", "s.yaml").remarks


def test_a_star_takes_all_that_work_and_a_wrong_one_named_is_told(tmp_path: Path) -> None:
    def judge(entry: Any) -> tuple[str, str]:
        return ("wrong", "not for this") if entry.name == "lcm" else ("ok", "")

    everything = plan_of(tmp_path, judge, schedulers="*")
    assert "lcm" not in everything.entries
    assert len(everything.entries) == len(builtin_registry().entries) - 1
    named = plan_of(tmp_path, judge, schedulers=["lcm"])
    assert named.warnings == ("lcm runs, but its images are not to be trusted: not for this",)


@pytest.mark.parametrize(
    ("schedulers", "message"),
    [
        (["eulr"], "sweep.yaml:3: schedulers.0: unknown scheduler 'eulr'; did you mean euler"),
        (["ddim", "ddim"], "schedulers.1: ddim is there twice"),
        (["ddim", "DDIMScheduler"], "ddim is there twice"),
        ([{"name": "ddim", "base": "euler"}], "already an entry named 'ddim'"),
        ([{"name": "x", "base": "eulr"}], "did you mean euler"),
    ],
)
def test_a_wrong_scheduler_is_refused_with_its_line(tmp_path: Path, schedulers: Any, message: str) -> None:
    with pytest.raises(SweepError) as caught:
        plan_of(tmp_path, schedulers=schedulers)
    assert message in str(caught.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    "schedulers",
    [
        [{"name": "x", "base": "dpmpp-2m", "options": {f"o{i}": list(range(40)) for i in range(8)}}],
        [{"name": "x", "base": "dpmpp-2m", "options": {"beta_end": [n / 10**6 for n in range(1001)]}}],
        [{"name": f"x{i}", "base": "euler", "options": {"beta_end": list(range(101))}} for i in range(10)],
        ["ddim"] * 1001,
    ],
)
def test_schedulers_are_counted_before_they_are_made(tmp_path: Path, schedulers: list[Any]) -> None:
    message = refusal_of_plan(tmp_path, schedulers=schedulers)
    assert message.startswith(f"sweep.yaml:3: schedulers.{len(schedulers) - 1}: a sweep may have 1,000 schedulers")


def refusal_of_plan(tmp_path: Path, **changes: Any) -> str:
    with pytest.raises(SweepError) as caught:
        plan_of(tmp_path, **changes)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_many_rules_leave_out_what_each_alone_would(tmp_path: Path) -> None:
    rules = [
        {"seed": 2}, {"scheduler": "euler", "steps": [4, 5]}, {"guidance_scale": 3, "seed": [0, 1], "steps": 5},
        {"prompt": "a"}, {"prompt": "a red circle", "steps": 6}, {"sigma_schedule": "karras"}, {"seed": "50..60"},
    ]  # fmt: skip
    axes = {"schedulers": ["ddim", "euler"], "steps": [4, 5, 6], "seeds": "0..4", "guidance_scale": [2, 3]}

    def made(*exclude: object) -> tuple[set[str], tuple[str, ...]]:
        plan = plan_of(tmp_path, **axes, exclude=[*exclude])
        assert [c.index for c in plan.cells] == [*range(len(plan.cells))]
        return {c.id for c in plan.cells}, plan.warnings

    alone = [made(rule) for rule in rules]
    together, warnings = made(*rules)
    assert together == set.intersection(*(ids for ids, _ in alone))
    assert warnings == tuple(w.replace("exclude.0", f"exclude.{i}") for i, (_, told) in enumerate(alone) for w in told)
    assert len(warnings) == 3


def test_a_hundred_thousand_cells_are_planned_with_distinct_ids(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, schedulers=["ddim", "euler"], steps="1..50", seeds="0..999")
    assert len({c.id for c in plan.cells}) == 100_000


@pytest.mark.parametrize(
    ("device", "ray", "message"),
    [
        ("cuda:1", {}, "executor: Ray gives each worker a GPU of its own, not cuda:1; use device: cuda"),
        ("cpu", {"gpus_per_worker": 1}, "executor: ray.gpus_per_worker is 1, but device is cpu; keep one of the two"),
        ("cuda", {"gpus_per_worker": 0}, "executor: ray.gpus_per_worker is 0, but device is cuda; keep one of the two"),
    ],
)
def test_a_device_that_workers_cannot_have_is_refused_at_the_executor(
    tmp_path: Path, device: str, ray: dict[str, Any], message: str
) -> None:
    document = GOOD | {"device": device, "executor": {"ray": ray}}
    assert refusal(tmp_path, document) == f"sweep.yaml:7: {message}"
    overridden = refusal(tmp_path, GOOD | {"device": device}, f"executor={flow({'ray': ray})}")
    assert overridden == f"--set executor={flow({'ray': ray})}: {message}"


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "address": st.sampled_from(["auto", "local", "head:6379", "10.0.0.1:1", "[fe80::1]:6379"]),
            "workers": st.just("all") | st.integers(1),
            "gpus_per_worker": st.sampled_from([0, 1]),
            "cpus_per_worker": st.integers(1, 1024),
            "mixed": st.booleans(),
        },
    )
)
def test_workers_are_as_the_sweep_says_also_when_it_is_written_again(
    tmp_path_factory: pytest.TempPathFactory, ray: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("ray")
    sweep = sweep_of(folder, executor={"ray": ray})
    assert sweep.executor.ray
    assert sweep.executor.ray.model_dump(include=set(ray)) == ray
    again, _ = load(write(folder, dump(sweep)))
    assert again == sweep


def test_the_schema_accepts_what_the_sweep_accepts() -> None:
    schema = json.loads(json.dumps(Sweep.model_json_schema()))
    assert set(schema["required"]) == {"model", "prompt", "schedulers"}
    assert {"string", "integer"} <= {option.get("type") for option in schema["properties"]["steps"]["anyOf"]}
    assert all("description" in p or "default" in p for p in schema["properties"].values())


@given(st.integers(-1000, 1000), st.integers(0, 300), st.integers(1, 50))
def test_a_range_is_pythons_range_with_both_ends(first: int, length: int, step: int) -> None:
    text = f"{first}..{first + length} step {step}"
    assert integers(text) == tuple(range(first, first + length + 1, step))


@given(st.lists(st.integers(-(2**53), 2**53), min_size=1, unique=True))  # beyond, two are one number
def test_a_list_of_whole_numbers_is_itself(values: list[int]) -> None:
    assert integers(values) == tuple(values)
    assert numbers(values) == tuple(map(float, values))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*Sweep.model_fields, "x"]), inner),
        max_leaves=12,
    )
)
def test_any_yaml_is_a_sweep_or_one_clear_refusal(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    path = tmp_path_factory.mktemp("any") / "sweep.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    try:
        load(path)
    except SweepError as error:
        assert str(error).startswith(str(path))
        assert "\n" not in str(error)


def test_what_is_no_file_is_no_sweep(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero")):
        with pytest.raises(SweepError, match=f"{path}: cannot be read: it is no regular file"):
            load(path)
    (tmp_path / "large.yaml").write_bytes(b"#" * 4_000_001)
    with pytest.raises(SweepError, match="over 4,000,000 bytes"):
        load(tmp_path / "large.yaml")


def test_a_document_of_too_many_parts_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_MAX_VALUES", 1000)
    lines = "\n".join([f"- [{'[],' * 98}[]]"] * 20)  # of 100 parts each
    assert refusal(tmp_path, f"prompt:\n{lines}") == "sweep.yaml:11: holds more than a sweep can"
