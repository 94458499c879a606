r"""What skips do to the conditioning of inference, with how many outputs. Derived for this project.

Claims
    own/conditioning-with-skips   exponential in depth for SP with few outputs, quadratic for muPC

Notation: H hidden layers of width N, L = H + 1, d_y outputs; "variance" is that of the weights times their fan-in.
Independent routes: LAPACK's banded solver and ARPACK on H_z as applied here.

The largest eigenvalue of muPC, for N to infinity: at the top of the spectrum of the chain without weights,
neighbours have opposite signs, and a wave of number pi + q has the eigenvalue 4 - q^2. There the weights X_l, of
variance 1/(N L), add 2 (X_l + X_l^T) to each layer, a semicircle of variance s = 8/L. With m = lambda - 4 - s G and
G = integral of dq / (2 pi (m + q^2)) = 1 / (2 sqrt m), the edge is the minimum of lambda - 4 = m + s / (2 sqrt m):
it is at m = (s/4)^(2/3), where it is 3 m = 3 (2/L)^(2/3). Corrections are of the order 1/L.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from paper_checks._conditioning import Ensemble, Values, fitted, outside
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
