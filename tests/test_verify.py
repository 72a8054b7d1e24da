from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_oracle import FLOW, SD15, ZERO_SNR, recipe
from test_run import run

from schedcmp.registry.entry import Entry
from schedcmp.registry.table import builtin_registry
from schedcmp.truth.convergence import fit, floor_of
from schedcmp.truth.measure import STOCHASTIC_SAMPLES, sampling_floor, wasserstein
from schedcmp.truth.noise import noise_schedule
from schedcmp.truth.quick import quick
from schedcmp.truth.verdict import Verdict
from schedcmp.truth.verify import verify


def verdicts(*names: str, config: dict[str, Any] = SD15) -> dict[str, Verdict]:
    registry = builtin_registry()
    return {v.name: v for v in verify([registry.entry(n) for n in names], config)}


def errors(v: Verdict) -> dict[int, float]:
    return {p.steps: p.error for p in v.measured.points}


@pytest.fixture(scope="module")
def sd15() -> dict[str, Verdict]:
    return verdicts(
        "ddim", "ddim-parallel", "ddpm", "pndm", "euler", "euler-a", "heun", "dpmpp-2m", "dpmpp-2m-karras"
    )  # fmt: skip


@pytest.mark.parametrize(("order", "floor"), [(1, 0.0), (2, 0.0), (2, 1e-3), (4, 1e-6)])
def test_a_power_law_with_a_floor_gives_back_its_order(order: int, floor: float) -> None:
    nfe = [10, 14, 20, 28, 40, 57, 80, 160, 320, 640, 1280]
    found = fit(nfe, [math.hypot(50 * n**-order, floor) for n in nfe])
    assert found is not None
    assert found.order == pytest.approx(order, rel=0.1)
    assert found.low <= found.order <= found.high


def test_the_interval_covers_the_order_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    nfe = [20, 28, 40, 57, 80]
    fits = [fit(nfe, [n**-2.0 * math.exp(0.1 * rng.standard_normal()) for n in nfe]) for _ in range(400)]
    covered = np.mean([f is not None and f.low <= 2 <= f.high for f in fits])
    assert 0.92 < covered < 0.98  # 95 % ± 1.1 %


def test_what_still_falls_has_no_floor() -> None:
    assert floor_of([10, 20, 40], [0.4, 0.2, 0.1]) is None
    assert floor_of([10, 20, 40], [0.4, 0.2, 0.19]) == 0.19
    assert floor_of([10], [0.4]) is None


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("ddim", 0.9, 1.1), ("euler", 0.8, 1.1), ("heun", 1.7, 2.3), ("pndm", 2.0, 2.5), ("dpmpp-2m-karras", 2.0, 2.7)],
)
def test_solvers_have_their_order(sd15: dict[str, Verdict], name: str, low: float, high: float) -> None:
    found = sd15[name]
    assert found.text.startswith("converges")
    assert found.fit is not None
    assert low < found.fit.order < high


def test_the_last_steps_of_plain_dpmpp_2m_make_it_first_order(sd15: dict[str, Verdict]) -> None:
    """From uniform timesteps it jumps to 0 from a noise level that falls only as 1/N; Karras sigmas end low."""
    plain, karras = sd15["dpmpp-2m"], sd15["dpmpp-2m-karras"]
    assert errors(plain)[20] == pytest.approx(0.046, rel=0.05)
    assert errors(plain)[40] == pytest.approx(0.025, rel=0.05)
    assert errors(karras)[20] == pytest.approx(0.0096, rel=0.05)
    assert errors(karras)[40] == pytest.approx(0.0017, rel=0.05)
    assert plain.fit is not None
    assert plain.fit.high < 1
    assert plain.why.startswith("jumps from σ 0.066")
    at_40 = next(p for p in plain.measured.points if p.steps == 40)
    assert at_40.limit > 0.9 * at_40.rms > 9 * at_40.inner  # nearly all of its error is that one step's


def test_the_documented_table_is_what_is_measured(sd15: dict[str, Verdict]) -> None:
    page = (Path(__file__).parent.parent / "docs/oracle.md").read_text(encoding="utf-8")
    rows = {cells[1].strip(): cells[2:5] for line in page.splitlines() if len(cells := line.split("|")) == 8}
    shared = rows.keys() & sd15.keys()
    assert shared >= {"ddim", "euler", "heun", "dpmpp-2m", "dpmpp-2m-karras", "pndm"}
    for name in shared:
        for budget, cell in zip((10, 20, 40), rows[name], strict=True):
            best = max((p for p in sd15[name].measured.points if p.nfe <= budget), key=lambda p: p.nfe)
            assert float(cell) == pytest.approx(best.error, abs=1e-4), (name, budget)


def test_heun_evaluates_twice_per_step_but_the_last(sd15: dict[str, Verdict]) -> None:
    assert [p.nfe for p in sd15["heun"].measured.points] == [2 * p.steps - 1 for p in sd15["heun"].measured.points]


def test_ddim_steps_past_its_timesteps_on_other_spacings() -> None:
    """diffusers issue 11347: it goes to t - T // N, which is its next timestep only with leading spacing."""
    found = verdicts("ddim-linspace")["ddim-linspace"]
    assert found.text.startswith("floor (0.01")
    assert "T//N" in found.why


def test_a_final_noise_level_is_seen(sd15: dict[str, Verdict]) -> None:
    assert sd15["pndm"].why == "ends at σ 0.029"
    assert sd15["pndm"].measured.final_sigma == pytest.approx(0.0292, abs=1e-4)


def test_the_same_sampler_twice_is_called_so(sd15: dict[str, Verdict]) -> None:
    assert (sd15["ddim-parallel"].text, sd15["ddim-parallel"].why) == ("same as ddim", "equal outputs")
    assert sd15["euler-a"].text == "same as ddpm"
    assert float(sd15["euler-a"].why.rpartition(" ")[2]) < 1e-4  # to four digits
    assert all(sd15[n].text.startswith("same") is False for n in ("euler", "heun", "pndm"))


def test_schedulers_of_another_noise_schedule_do_not_converge() -> None:
    own = Entry(name="own", cls="IPNDMScheduler", base="own")
    found = verdicts("edm-euler", "flow-euler") | {"own": verify([own], SD15)[0]}
    assert errors(found["edm-euler"])[160] == pytest.approx(0.57, abs=0.05)
    assert found["edm-euler"].measured.points[-1].w1 > 0.4
    assert errors(found["own"])[160] == pytest.approx(0.18, abs=0.02)
    for name in ("edm-euler", "own"):
        assert found[name].text == "does not converge"
        assert "assumes" in found[name].why
    assert found["flow-euler"].text == "unsupported"


def test_lcm_redraws_noise_around_a_mean_and_tcd_is_deterministic_in_a_pipeline() -> None:
    """LCM takes E[x0 | x] for the consistency function; pipelines pass eta = 0 to TCD, which then draws no noise."""
    found = verdicts("lcm", "tcd")
    assert found["lcm"].measured.stochastic
    assert found["lcm"].text == "does not converge"
    assert not found["tcd"].measured.stochastic
    assert found["tcd"].text.startswith("converges")
    assert found["tcd"].why.endswith("fails at 57 steps and more")  # its table of original steps has 50


def test_ancestral_sampling_approaches_the_data(sd15: dict[str, Verdict]) -> None:
    w1 = [p.w1 for p in sd15["ddpm"].measured.points]
    assert w1 == sorted(w1, reverse=True)
    assert verdicts("kdpm2-a")["kdpm2-a"].text == "stochastic, right"


def test_the_sampling_floor_is_that_of_exact_samples() -> None:
    mean, std = sampling_floor()
    assert 0.003 < mean < 1.5 / math.sqrt(STOCHASTIC_SAMPLES)
    assert 0 < std < mean
    assert wasserstein(np.zeros(100)) > 0.8  # E|X| of the data


@pytest.mark.parametrize("config", [FLOW, ZERO_SNR])
def test_other_noise_schedules_are_verified_too(config: dict[str, Any]) -> None:
    names = ("flow-euler", "flow-heun") if config is FLOW else ("ddim-trailing", "euler-trailing")
    for name, found in verdicts(*names, config=config).items():
        assert found.text.startswith(("converges", "floor")), (name, found.text, found.why)


def test_a_scheduler_for_betas_does_not_converge_on_a_flow() -> None:
    own = [Entry(name=name, cls=name, base=name) for name in ("DDIMScheduler", "EulerDiscreteScheduler")]
    for found in verify(own, FLOW):
        assert found.text == "does not converge"
        assert "assumes a noise schedule of betas" in found.why


def test_an_entry_that_breaks_is_a_verdict() -> None:
    broken = Entry(name="broken", cls="test_verify.Broken", base="broken")
    (found,) = verify([broken], SD15)
    assert found.text == "unsupported"
    assert "it is broken" in found.why


class Broken:
    """A scheduler in name."""

    def __init__(self) -> None:
        raise ValueError("it is broken")

    def set_timesteps(self) -> None: ...

    def step(self) -> None: ...


def test_quick_finds_what_does_not_converge() -> None:
    names = ("euler", "euler-a", "dpmpp-2m-karras", "edm-euler", "lcm")
    found = quick([recipe(name) for name in names], SD15)
    wrong = {name for name, verdict in found.items() if verdict.kind == "does not converge"}
    assert wrong == {"edm-euler", "lcm"}
    assert list(found) == list(names)
    assert quick([recipe("euler")], {"_class_name": "IPNDMScheduler"}) == {}


@pytest.mark.slow
def test_processes_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = verdicts("euler", "heun")
    monkeypatch.setattr("schedcmp.truth.verify._ENTRIES_PER_PROCESS", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    several = verdicts("euler", "heun")
    assert list(several) == list(alone)
    for name, v in several.items():
        assert errors(v) == errors(alone[name])


def test_the_command_writes_json_csv_and_a_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, plot = tmp_path / "o.csv", tmp_path / "o.svg"
    assert run("verify", "euler", "DDIM", "ddim-parallel", "--json", "--csv", table, "--plot", plot) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found] == ["euler", "ddim", "ddim-parallel"]
    assert {"name", "verdict", "order", "errors", "w1"} <= set(found[0])
    assert found[0]["errors"]["40"] == pytest.approx(0.03, rel=0.05)
    assert found[2]["verdict"] == "same as ddim"
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert float(next(r for r in rows if r["name"] == "euler" and r["nfe"] == "40")["rms"]) == found[0]["errors"]["40"]
    text = plot.read_text(encoding="utf-8")
    assert text.startswith("<?xml")
    assert "ddim = ddim-parallel" in text


def test_the_command_prints_a_table_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schedcmp.cli.console.out.width", 80, raising=False)
    assert run("verify", "euler", "ddpm", "edm-euler", "pndm", "--sigmas", "default", "--sigmas", "karras") == 0
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    for part in ("✓ euler-karras", "~ ddpm", "✗ edm-euler", "– pndm-karras", "exact samples"):
        assert part in shown, part


def test_the_command_refuses_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", "eulr") == 2
    assert "did you mean euler" in capsys.readouterr().err
    assert run("verify", "euler", "--plot", tmp_path / "o.txt") == 2
    assert ".svg, .png, .pdf" in capsys.readouterr().err


def test_every_noise_schedule_that_is_not_known_is_refused() -> None:
    from schedcmp.errors import RegistryError

    with pytest.raises(RegistryError, match="IPNDMScheduler defines no noise schedule"):
        noise_schedule({"_class_name": "IPNDMScheduler"})
