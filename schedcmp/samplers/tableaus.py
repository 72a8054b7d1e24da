"""Runge-Kutta methods as tables: explicit ones, and exponential ones, whose weights depend on the step's length.

An exponential method solves dx/dlambda = denoised - x over a step of length h in lambda = -log sigma: stage i lies at
c_i of the step, x_i = exp(-c_i h) x + h sum_j a_ij D_j, and the step's end is exp(-h) x + h sum_j b_j D_j. Its weights
are made of phi_k(-c h), here `p(k, c)`; the first of each row is what makes it exact for a constant D.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Rows = tuple[tuple[float, ...], ...]
Phi = Callable[..., float]

_SERIES = 20  # terms; exact to rounding for arguments up to 1
_R5 = math.sqrt(5)


@dataclass(frozen=True)
class Tableau:
    """A Runge-Kutta method at one length of step."""

    c: tuple[float, ...]  # where in the step each stage lies
    a: Rows  # a row for each stage after the first
    b: tuple[float, ...]


# Each row of `a`, then `b`
_EXPLICIT: dict[str, Sequence[Sequence[float]]] = {
    "euler": [[1]],
    "midpoint": [[1 / 2], [0, 1]],
    "heun": [[1], [1 / 2, 1 / 2]],
    "ralston": [[2 / 3], [1 / 4, 3 / 4]],  # Ralston 1962, as the next but one and `ralston_4`
    "heun_3": [[1 / 3], [0, 2 / 3], [1 / 4, 0, 3 / 4]],
    "ralston_3": [[1 / 2], [0, 3 / 4], [2 / 9, 1 / 3, 4 / 9]],
    "kutta_3": [[1 / 2], [-1, 2], [1 / 6, 2 / 3, 1 / 6]],
    "houwen_wray": [[8 / 15], [1 / 4, 5 / 12], [1 / 4, 0, 3 / 4]],
    "ssprk_3": [[1], [1 / 4, 1 / 4], [1 / 6, 1 / 6, 2 / 3]],  # Shu and Osher 1988
    "ssprk_4": [[1 / 2], [1 / 2, 1 / 2], [1 / 6, 1 / 6, 1 / 6], [1 / 6, 1 / 6, 1 / 6, 1 / 2]],
    "rk4": [[1 / 2], [0, 1 / 2], [0, 0, 1], [1 / 6, 1 / 3, 1 / 3, 1 / 6]],
    "rk38": [[1 / 3], [-1 / 3, 1], [1, -1, 1], [1 / 8, 3 / 8, 3 / 8, 1 / 8]],
    "ralston_4": [
        [2 / 5],
        [(-2889 + 1428 * _R5) / 1024, (3785 - 1620 * _R5) / 1024],
        [(-3365 + 2094 * _R5) / 6040, (-975 - 3046 * _R5) / 2552, (467040 + 203968 * _R5) / 240845],
        [(263 + 24 * _R5) / 1812, (125 - 1000 * _R5) / 3828, (3426304 + 1661952 * _R5) / 5924787, (30 - 4 * _R5) / 123],
    ],
    "dormand_prince": [  # Dormand and Prince 1980, without the stage that only estimates the error
        [1 / 5],
        [3 / 40, 9 / 40],
        [44 / 45, -56 / 15, 32 / 9],
        [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
        [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
        [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
    ],
    "tsitouras": [  # Tsitouras 2011, without the stage that only estimates the error
        [0.161],
        [-0.008480655492356989, 0.335480655492357],
        [2.8971530571054935, -6.359448489975075, 4.3622954328695815],
        [5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525],
        [5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383],
        [0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774],
    ],
    "bogacki_shampine_5": [  # Bogacki and Shampine 1996
        [1 / 6],
        [2 / 27, 4 / 27],
        [183 / 1372, -162 / 343, 1053 / 1372],
        [68 / 297, -4 / 11, 42 / 143, 1960 / 3861],
        [597 / 22528, 81 / 352, 63099 / 585728, 58653 / 366080, 4617 / 20480],
        [174197 / 959244, -30942 / 79937, 8152137 / 19744439, 666106 / 1039181, -29421 / 29068, 482048 / 414219],
        [587 / 8064, 0, 4440339 / 15491840, 24353 / 124800, 387 / 44800, 2152 / 5985, 7267 / 94080],
    ],
    "butcher_6": [  # Butcher 1964
        [1 / 3],
        [0, 2 / 3],
        [1 / 12, 1 / 3, -1 / 12],
        [-1 / 16, 9 / 8, -3 / 16, -3 / 8],
        [0, 9 / 8, -3 / 8, -3 / 4, 1 / 2],
        [9 / 44, -9 / 11, 63 / 44, 18 / 11, 0, -16 / 11],
        [11 / 120, 0, 27 / 40, 27 / 40, -4 / 15, -4 / 15, 11 / 120],
    ],
}  # fmt: skip

_LAWSON = {"lawson_2a": "midpoint", "lawson_2b": "heun", "lawson_4": "rk4"}  # Lawson 1967: of an explicit method


def _cox_matthews(p: Phi) -> list[float]:
    """The weights of four stages at 0, 1/2, 1/2 and 1."""
    return [2 * p(2) - 4 * p(3), 2 * p(2) - 4 * p(3), 4 * p(3) - p(2)]


def _at_half(p: Phi) -> list[float]:
    """The same for methods that leave out the second stage."""
    return [0, 4 * p(2) - 8 * p(3), 4 * p(3) - p(2)]


def _hochbruck_ostermann(p: Phi) -> list[list[float]]:
    a52 = p(2, 0.5) / 2 - p(3) + p(2) / 4 - p(3, 0.5) / 2
    return [
        [],
        [p(2, 0.5)],
        [p(2), p(2)],
        [a52, a52, p(2, 0.5) / 4 - a52],
        [0, 0, 4 * p(3) - p(2), 4 * p(2) - 8 * p(3)],
    ]


# Where the stages after the first lie; each row of `a` after its first weight, then `b` after its first
_EXPONENTIAL: dict[str, tuple[tuple[float, ...], Callable[[Phi], list[list[float]]]]] = {
    # Hochbruck and Ostermann 2005; RES (arXiv:2308.02157) are those of full order for stiff problems too
    "res_2s": ((1 / 2,), lambda p: [[], [2 * p(2)]]),
    "res_3s": ((1 / 2, 1), lambda p: [[], [2 * p(2, 0.5) + 2 * p(2)], [p(2) * 4 / 3, p(2) / 3]]),
    "hochbruck_ostermann_3": ((4 / 9, 2 / 3), lambda p: [[], [p(2, 2 / 3)], [0, p(2) * 3 / 2]]),
    "hochbruck_ostermann_5": ((1 / 2, 1 / 2, 1, 1 / 2), _hochbruck_ostermann),
    # Lu et al. 2022, arXiv:2211.01095
    "dpmpp_2s": ((1 / 2,), lambda p: [[], [p(1)]]),
    "dpmpp_3s": ((1 / 3, 2 / 3), lambda p: [[], [p(2, 2 / 3) * 4 / 3], [0, p(2) * 3 / 2]]),
    # Cox and Matthews 2002
    "etdrk_2": ((1,), lambda p: [[], [p(2)]]),
    "etdrk_3": ((1 / 2, 1), lambda p: [[], [2 * p(1)], [4 * p(2) - 8 * p(3), 4 * p(3) - p(2)]]),
    "etdrk_4": ((1 / 2, 1 / 2, 1), lambda p: [[], [p(1, 0.5) / 2], [0, p(1, 0.5)], _cox_matthews(p)]),
    # as in Hochbruck and Ostermann 2010, "Exponential integrators", section 2.3
    "krogstad": ((1 / 2, 1 / 2, 1), lambda p: [[], [p(2, 0.5)], [0, 2 * p(2)], _cox_matthews(p)]),
    "strehmel_weiner": ((1 / 2, 1 / 2, 1), lambda p: [[], [p(2, 0.5) / 2], [-2 * p(2), 4 * p(2)], _at_half(p)]),
    "friedli": (
        (1 / 2, 1 / 2, 1),
        lambda p: [
            [], [p(2, 0.5) / 2], [(2 * p(2) - 26 * p(1)) / 25, (26 * p(1) + 48 * p(2)) / 25], _at_half(p),
        ],
    ),
}  # fmt: skip


def explicit(name: str) -> Tableau:
    """An explicit Runge-Kutta method. Raises ValueError."""
    rows = tuple(tuple(map(float, row)) for row in _known(name, _EXPLICIT))
    return Tableau((0.0, *(math.fsum(row) for row in rows[:-1])), rows[:-1], rows[-1])


@lru_cache(maxsize=4096)
def exponential(name: str, h: float) -> Tableau:
    """An exponential Runge-Kutta method for steps of length h. Raises ValueError."""
    if name in _LAWSON:
        return _lawson(explicit(_LAWSON[name]), h)
    after, rows = _known(name, _EXPONENTIAL)
    places = (*after, 1.0)
    filled = [
        (place * phi(1, place * h) - math.fsum(row), *row)
        for place, row in zip(places, rows(lambda k, c=1.0: phi(k, c * h)), strict=True)
    ]
    return Tableau((0.0, *after), tuple(filled[:-1]), filled[-1])


def phi(k: int, z: float) -> float:
    """phi_k(-z) for z >= 0: the integral over s from 0 to 1 of exp(-(1 - s) z) s^(k-1) / (k-1)!."""
    if z < 1:
        return math.fsum((-z) ** j / math.factorial(j + k) for j in range(_SERIES))
    value = math.exp(-z)
    for i in range(k):
        value = (1 / math.factorial(i) - value) / z
    return value


def _lawson(plain: Tableau, h: float) -> Tableau:
    """The method for exp(lambda) x, whose derivative is exp(lambda) D."""

    def damped(row: tuple[float, ...], place: float) -> tuple[float, ...]:
        return tuple(weight * math.exp((c - place) * h) for weight, c in zip(row, plain.c[: len(row)], strict=True))

    rows = tuple(damped(row, place) for row, place in zip(plain.a, plain.c[1:], strict=True))
    return Tableau(plain.c, rows, damped(plain.b, 1.0))


def _known(name: str, table: Mapping[str, Any]) -> Any:
    if name not in table:
        raise ValueError(f"tableau must be one of {', '.join([*table, *(_LAWSON if table is _EXPONENTIAL else ())])}")
    return table[name]
