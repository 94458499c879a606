"""The limiting spectrum of the activity Hessian: the Dyson equation beside eigenvalues of one sample.

A law is made whole, with edges, distribution and moments. The sample is formed densely and its eigenvalues are
taken by NumPy: its time grows as the cube of width times depth, that of the law as the depth, whatever the width.
muPC in depth has dozens of bands, each with two edges to be found.
"""

from functools import partial

import numpy as np

from pctheory.random_matrix import RandomChain, activity_hessian_law

from .measure import Case, Goal, Row, alternating, milliseconds, quartiles

INPUTS = 10


def cases(*, quick: bool) -> list[Case]:
    if quick:
        return [Case(law, (8, 4), {"rounds": 3})]
    return [*(Case(law, (300, hidden)) for hidden in (1, 4)), *(Case(law, (16, hidden)) for hidden in (32, 128))]


def law(width: int, hidden: int, *, rounds: int = 5) -> list[Row]:
    layers, rows = hidden + 1, []
    plain = tuple(1 / n for n in (INPUTS, *(width,) * hidden))
    scaled = (1 / INPUTS, *(1 / (width * layers),) * (hidden - 1), 1 / width**2)
    widths, skips = (INPUTS, *(width,) * (hidden + 1)), (0.0, *(1.0,) * (hidden - 1), 0.0)
    for name, chain in {"no skips": RandomChain(widths, plain), "muPC": RandomChain(widths, scaled, skips)}.items():
        times = alternating({"law": partial(activity_hessian_law, chain), "sample": partial(sample, chain)}, rounds)
        low, seconds, high = quartiles(times["law"])
        rows.append(
            Row(
                f"Dyson law, H = {hidden}, {name}, 400 points",
                "seconds",
                seconds,
                "s",
                spread=(low, high),
                goal=Goal("at most", 5.0),
                details=milliseconds(times) | {"width of the sample": width},
            )
        )
    return rows


def sample(chain: RandomChain) -> np.ndarray:
    """Eigenvalues of one H_z."""
    random = np.random.default_rng(0)
    n, starts = chain.widths, np.cumsum([0, *chain.widths[1:-1]])
    hessian = np.eye(starts[-1])
    for l in range(1, chain.depth):
        here = slice(starts[l - 1], starts[l])
        upper = np.sqrt(chain.variances[l]) * random.standard_normal((n[l + 1], n[l]))
        upper += chain.skips[l] * np.eye(n[l + 1], n[l])
        hessian[here, here] += upper.T @ upper
        if l < chain.depth - 1:
            above = slice(starts[l], starts[l + 1])
            hessian[above, here], hessian[here, above] = -upper, -upper.T
    eigenvalues: np.ndarray = np.linalg.eigvalsh(hessian)
    return eigenvalues
