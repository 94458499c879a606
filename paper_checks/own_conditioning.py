r"""What skips do to the conditioning of inference, with how many outputs. Derived for this project.

Claims
    own/conditioning-with-skips       exponential in depth for SP with few outputs, quadratic for muPC
    own/conditioning-beyond-doubles   the same where floats have no digits left, in balls

Notation: H hidden layers of width N, L = H + 1, d_y outputs; "variance" is that of the weights times their fan-in.
Independent routes: LAPACK's banded solver and ARPACK on H_z as applied here; beyond 1e16 balls.

The largest eigenvalue of muPC, for N to infinity: at the top of the spectrum of the chain without weights,
neighbours have opposite signs, and a wave of number pi + q has the eigenvalue 4 - q^2. There the weights X_l, of
variance 1/(N L), add 2 (X_l + X_l^T) to each layer, a semicircle of variance s = 8/L. With m = lambda - 4 - s G and
G = integral of dq / (2 pi (m + q^2)) = 1 / (2 sqrt m), the edge is the minimum of lambda - 4 = m + s / (2 sqrt m):
it is at m = (s/4)^(2/3), where it is 3 m = 3 (2/L)^(2/3). Corrections are of the order 1/L.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

import pctheory
from paper_checks._conditioning import Ensemble, Values, banded_extremes, fitted, outside
from pctheory.claims import Check, claim, judged, largest
from pctheory.conditioning import LawFit, exponential_fit, log_log_fit

SP = Ensemble(16, 8, 4, skips=True)
THIRD = replace(SP, variance=1 / 3)
MUPC = replace(SP, mupc=True)
EARLY, LATE, ALL = (4, 8, 12, 16), (20, 26, 32, 40), (8, 16, 32, 64)
LEAST = 0.12  # a layer: a power of 3 grows by that at H = 25, and by ever less
WIDE = replace(MUPC, width=64)


@cache
def _largest(drawn: Ensemble, seed: int) -> float:
    """By ARPACK, with the maps applied one by one: too large a matrix for the banded solver."""
    maps = drawn.maps(seed)[1:]
    inner, last = np.stack(maps[:-1]), maps[-1]

    def product(vector: Values) -> Values:
        z = vector.reshape(drawn.hidden, drawn.width)
        errors = z.copy()
        errors[1:] -= (inner @ z[:-1, :, None])[:, :, 0]
        image = errors.copy()
        image[:-1] -= (errors[1:, None, :] @ inner)[:, 0]
        image[-1] += last.T @ (last @ z[-1])
        return image.ravel()

    size = drawn.hidden * drawn.width
    start = np.random.default_rng(seed).standard_normal(size)
    operator = LinearOperator((size, size), matvec=product, dtype=float)
    # an eigenvalue is off by about the square of the residual, 1e-4
    return float(eigsh(operator, k=1, which="LA", tol=1e-4, v0=start, return_eigenvectors=False)[0])


def _rate(drawn: Ensemble, hidden: tuple[int, ...], *, square: bool = False) -> LawFit:
    return fitted(drawn, hidden, fit=exponential_fit, square=square)


def _below(instead: LawFit | None, found: LawFit) -> float:
    """By how much the interval of the rate, or of the one put in its place, reaches below the least."""
    return largest(0.0, LEAST - (instead or found).interval[0])


def _other(band: tuple[float, float], instead: LawFit, _: LawFit) -> float:
    """`outside`, for another law in its place."""
    return outside(band, instead)


def _edge_error(edge: Callable[[int], float], hidden: int) -> float:
    """Mean of lambda_max - 4 over two networks of width 64, against the edge, relative."""
    found = np.mean([_largest(replace(WIDE, hidden=hidden), seed) for seed in range(2)]) - 4
    return abs(float(found) / edge(hidden + 1) - 1)


EDGES: dict[str, Callable[[int], float]] = {
    "L^(-1/2)": lambda depth: 3 * (2 / depth) ** 0.5,
    "L^-1": lambda depth: 3 * 2 / depth,
    "variance 4/L": lambda depth: 3 * (1 / depth) ** (2 / 3),
    "2 for 3": lambda depth: 2 * (2 / depth) ** (2 / 3),
}


def _edge(depth: int) -> float:
    return 3 * (2 / depth) ** (2 / 3)


@claim(
    key="own/conditioning-with-skips",
    statement=r"""At initialisation cond($H_z$) of SP with skips grows exponentially with depth where $d_y < N$ (at
        $d_y = N/4$ by a factor of about 1.5 a layer at variance 1, 1.25 at 1/3), but only like a power of H, 2.3 to
        2.8, where $d_y = N$: every direction that grows is held at the output then. With muPC scalings it grows as
        about $H^2$, and $\lambda_{max} \to 4$ as $4 + 3 (2/L)^{2/3}$ for wide networks.""",
    hypotheses=(
        "linear networks, Gaussian weights, unit precision",
        "rates and exponents: N = 16, d_y = 4 or 16, H = 4 to 64, 4 seeds; the edge: N = 64, H = 32 to 256",
    ),
    attribution="own",
    source="measured and derived here; that skips make SP far worse and muPC less is stated in mupc-2025",
    uses=("mupc-2025/activity-hessian",),
)
def conditioning_with_skips(check: Check) -> None:
    for name, drawn, band in (("variance 1", SP, (0.33, 0.65)), ("variance 1/3", THIRD, (0.15, 0.4))):
        early, late = _rate(drawn, EARLY), _rate(drawn, LATE)
        square = _rate(drawn, LATE, square=True)
        check.property(
            f"SP, {name}, d_y = N/4: log cond per layer, H to 16 {early.text}, from 20 on {late.text}",
            [early, late],
            partial(_below, None),
            twins={f"with d_y = N, from 20 on {square.text}": partial(_below, square)},
            bound=0.0,
            seed=0,
        )
        whole = _rate(drawn, (*EARLY, *LATE[1:]))
        check.property(
            f"SP, {name}, d_y = N/4: log cond per layer {whole.text}",
            [whole],
            partial(outside, band),
            twins={"a power of H": partial(_other, (1.8, 3.3), fitted(drawn, LATE))},
            bound=0.0,
            seed=0,
        )
        power = fitted(drawn, (8, 16, 32), square=True)
        check.property(
            f"SP, {name}, d_y = N: exponent in H {power.text}",
            [power],
            partial(outside, (1.5, 3.5)),
            twins={"with d_y = N/4": partial(_other, (1.5, 3.5), fitted(drawn, (8, 16, 32)))},
            bound=0.0,
            seed=0,
        )
    for outputs in (4, 16):
        found = fitted(replace(MUPC, outputs=outputs), ALL)
        check.property(
            f"muPC, d_y = {outputs}: exponent in H {found.text}",
            [found],
            partial(outside, (1.6, 2.2)),
            twins={"linear": partial(outside, (0.8, 1.2)), "cubic": partial(outside, (2.7, 3.3))},
            bound=0.0,
            seed=0,
        )
    depths = (32, 64, 128, 256)
    tops = [_largest(replace(WIDE, hidden=hidden), seed) - 4 for hidden in depths for seed in range(2)]
    law = log_log_fit([hidden + 1.0 for hidden in depths for _ in range(2)], tops)
    check.property(
        f"muPC: lambda_max - 4 as a power of L: {law.text}",
        [law],
        partial(outside, (-0.72, -0.6)),
        twins={"-1/2": partial(outside, (-0.55, -0.45)), "-1": partial(outside, (-1.05, -0.95))},
        bound=0.0,
        seed=0,
    )
    check.property(
        "muPC: lambda_max - 4 against 3 (2/L)^(2/3)",
        depths,
        partial(_edge_error, _edge),
        twins=judged(_edge_error, EDGES),
        bound=0.06,  # 1/L beside 3 (2/L)^(2/3) is 0.2 L^(-1/3), up to 0.065; the finite width takes off some of it
        seed=0,
    )


NARROW = Ensemble(8, 32, 2, skips=True)
STEPS = [(32, 64), (64, 96), (96, 128)]


@cache
def _enclosed(hidden: int) -> tuple[Any, Any]:
    return pctheory.enclosed_activity_hessian_extremes(replace(NARROW, hidden=hidden).net(0))


def _growth(step: tuple[int, int]) -> Any:
    """The logarithm of the factor a layer, from one depth to the next."""
    (low, high), (deep_low, deep_high) = (_enclosed(hidden) for hidden in step)
    return ((deep_high / deep_low) / (high / low)).log() / (step[1] - step[0])


def _cubic_growth(step: tuple[int, int]) -> Any:
    """The same for H^3."""
    low, _ = _enclosed(step[0])
    return 0 * low + 3 * np.log(step[1] / step[0]) / (step[1] - step[0])


@cache
def _found(hidden: int) -> pctheory.conditioning.ActivityHessianExtremes:
    return pctheory.activity_hessian_extremes(replace(NARROW, hidden=hidden).net(0))


def _relative_error(hidden: int, *, library: bool = True) -> Any:
    """Of the library's smallest eigenvalue, or of LAPACK's, relative to that."""
    smallest = _found(hidden).smallest if library else banded_extremes(replace(NARROW, hidden=hidden).maps(0))[0]
    return 1 - _enclosed(hidden)[0] / smallest


def _share_of_stated_error(hidden: int, *, library: bool = True) -> Any:
    return _relative_error(hidden, library=library) / _found(hidden).errors[0]


@claim(
    key="own/conditioning-beyond-doubles",
    statement=r"""A network of SP with skips, $N = 8$, $d_y = 2$: cond($H_z$) is 5.4e9 at H = 32, 2.3e14 at 64,
        8.0e19 at 96 and 3.1e24 at 128. It grows by a factor of 1.38 to 1.5 a layer all the way, where an
        eigensolver in double precision has long lost the smallest eigenvalue and its sign; the library's keeps its
        first digit, and the error that it states.""",
    hypotheses=("Gaussian weights of variance 1 / N, unit precision, seed 0",),
    attribution="own",
    source="measured here",
    uses=("mupc-2025/activity-hessian",),
)
def conditioning_beyond_doubles(check: Check) -> None:
    check.enclosure(
        "cond over the value stated",
        [(32, 5.4e9), (64, 2.3e14), (96, 8.0e19), (128, 3.1e24)],
        lambda stated: _enclosed(stated[0])[1] / _enclosed(stated[0])[0] / stated[1],
        within=(0.98, 1.02),
        twins={"a layer less": lambda stated: _enclosed(stated[0])[1] / _enclosed(stated[0])[0] / stated[1] / 1.4},
    )
    check.enclosure(
        "log of the factor a layer",
        STEPS,
        _growth,
        within=(float(np.log(1.38)), float(np.log(1.5))),
        twins={"as H^3": _cubic_growth},
    )
    check.enclosure(
        "the relative error of the library's smallest eigenvalue",
        [32, 64, 96, 128],
        _relative_error,
        within=(-0.1, 0.1),
        twins={"of LAPACK's": partial(_relative_error, library=False)},
    )
    check.enclosure(
        "the same beside the error that the library states",
        [32, 64, 96, 128],
        _share_of_stated_error,
        within=(-1.0, 1.0),
        twins={"of LAPACK's": partial(_share_of_stated_error, library=False)},
    )
