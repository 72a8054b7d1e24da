"""The order of each Runge-Kutta and Adams method, on data with two modes, whose exact solution is known."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from schedcmp.registry.table import builtin_registry
from schedcmp.samplers import adams, multistep, runge_kutta, tableaus, unipc
from schedcmp.truth.measure import DATA, stratified
from schedcmp.truth.mixture import Level

LOW = 0.05
NOISE = stratified(64).double().flatten()[:, None]

ORDERS = {
    **dict.fromkeys(["euler"], 1),
    **dict.fromkeys(["midpoint", "heun", "ralston"], 2),
    **dict.fromkeys(["heun_3", "ralston_3", "kutta_3", "houwen_wray", "ssprk_3", "ssprk_4"], 3),
    **dict.fromkeys(["rk4", "rk38", "ralston_4"], 4),
    **dict.fromkeys(["dormand_prince", "tsitouras", "bogacki_shampine_5"], 5),
    "butcher_6": 6,
}
EXPONENTIAL = {
    **dict.fromkeys(["res_2s", "dpmpp_2s", "etdrk_2", "lawson_2a", "lawson_2b"], 2),
    **dict.fromkeys(["res_3s", "hochbruck_ostermann_3", "dpmpp_3s", "etdrk_3"], 3),
    **dict.fromkeys(["etdrk_4", "krogstad", "strehmel_weiner", "friedli", "hochbruck_ostermann_5", "lawson_4"], 4),
}
MULTISTEP = [
    *((partial(adams.exponential_adams, order=n), n) for n in (1, 2, 3, 4)),
    *((partial(multistep.deis, max_order=n), n) for n in (1, 2, 3)),
    (partial(unipc.uni_pc, order=3), 2),  # as its last step is of order 1
    (partial(unipc.uni_pc, order=3, variant="bh1"), 2),
    (partial(adams.sa_solver, tau=0.0, corrector_order=3), 3),
    (partial(adams.sa_solver, tau=0.0, corrector_order=3, pece=True), 3),
]


def model(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return DATA.denoise(x, Level(1.0, float(sigma[0])))


def order(sampler: Any, steps: tuple[int, ...], high: float = 10.0) -> list[float]:
    """Between each number of steps and the next, on Karras' levels from `high` down."""
    exact = torch.from_numpy(DATA.transport(high * NOISE.numpy(), Level(1.0, high), Level(1.0, LOW)).x)

    def error(n: int) -> float:
        levels = torch.linspace(high ** (1 / 7), LOW ** (1 / 7), n + 1, dtype=torch.float64) ** 7
        return float((sampler(model, high * NOISE, levels) - exact).square().mean().sqrt())

    errors = [error(n) for n in steps]
    return [math.log(a / b) / math.log(m / n) for (a, b), (n, m) in zip(pairwise(errors), pairwise(steps), strict=True)]


def named(value: Any) -> str:
    return f"{value.func.__name__} {value.keywords}" if isinstance(value, partial) else str(value)


@pytest.mark.parametrize("name", tableaus._EXPLICIT)
def test_an_explicit_runge_kutta_method_has_its_order(name: str) -> None:
    found = order(partial(runge_kutta.runge_kutta, tableau=name), (40, 80, 160))
    assert found[-1] == pytest.approx(ORDERS[name], abs=0.35)


@pytest.mark.parametrize("name", EXPONENTIAL)
def test_an_exponential_rk_method_has_its_order(name: str) -> None:
    found = order(partial(runge_kutta.exponential_rk, tableau=name), (40, 80, 160))
    assert found[-1] == pytest.approx(EXPONENTIAL[name], abs=0.35)


@pytest.mark.parametrize(("sampler", "expected"), MULTISTEP, ids=named)
def test_a_multistep_method_has_its_order(sampler: Any, expected: int) -> None:
    """From where the estimate hardly changes yet: the first steps are of lower order."""
    assert order(sampler, (80, 160, 320), high=80.0)[-1] == pytest.approx(expected, abs=0.4)


def test_every_tableau_is_in_the_registry_or_an_entry_of_another_class() -> None:
    options = [e.options for e in builtin_registry().entries.values() if ".runge_kutta." in e.cls]
    named = {o["tableau"] for o in options}
    elsewhere = {"euler", "heun", "dpmpp_2s", "etdrk_2"}
    assert named | elsewhere == {*ORDERS, *EXPONENTIAL}


@pytest.mark.parametrize("name", EXPONENTIAL)
def test_an_exponential_method_is_exact_for_a_constant_estimate_unless_it_is_lawsons(name: str) -> None:
    method = tableaus.exponential(name, 2.0)
    for row, place in [*zip(method.a, method.c[1:], strict=True), (method.b, 1.0)]:
        assert (math.fsum(row) == pytest.approx(place * tableaus.phi(1, 2 * place))) != name.startswith("lawson")


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_phi_functions_are_their_integrals(k: int) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(40)
    s = (nodes + 1) / 2
    for z in (0.0, 1e-9, 0.3, 0.999999, 1.0, 5.0):
        integral = np.exp(-(1 - s) * z) * s ** (k - 1) / math.factorial(k - 1) if k else None
        expected = math.exp(-z) if integral is None else float((weights / 2 * integral).sum())
        assert tableaus.phi(k, z) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("function", [tableaus.explicit, lambda name: tableaus.exponential(name, 0.1)])
def test_an_unknown_tableau_is_refused_with_those_there_are(function: Any) -> None:
    with pytest.raises(ValueError, match=r"tableau must be one of .*_4"):
        function("gauss")
