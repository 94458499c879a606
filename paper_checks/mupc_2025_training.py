r"""What training does to the ratio of loss and equilibrated energy in linear residual networks with muPC.

Claims
    mupc-2025/limit-in-training   where loss / F* grows away from 1, by which law, and where it does not

Training is a loop in NumPy over batches and layers, seeds and rates side by side; the library's runs are compared
with it. Intervals are of 95 per cent confidence, by Student's t.

Reference: F. Innocenti, E. M. Achour, C. L. Buckley, arXiv 2505.13124 (maps of loss / F* at times of training).
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
import sympy
from scipy.stats import t as students_t

import pctheory
from pctheory import dynamics
from pctheory.claims import Check, claim, largest, scaled_error
from tests import oracles
from tests.cases import Case, rational_cases

Values = npt.NDArray[np.float64]

SEEDS, UPDATES, BATCH = 3, 100, 64
RATES = {"mupc": (0.1, 0.01), "standard": (1e-4,)}  # published ones of muPC and of SP, and a slower one of muPC


@dataclass(frozen=True)
class Setting:
    """Networks of one width N and depth L, muPC or SP, all with skips between hidden layers."""

    width: int
    depth: int
    kind: str = "mupc"

    def widths(self, d_x: int, d_y: int) -> tuple[int, ...]:
        return (d_x, *(self.width,) * (self.depth - 1), d_y)


SHALLOW = tuple(Setting(width, 4) for width in (16, 32, 64))
DEEP = tuple(Setting(*cell) for cell in ((16, 8), (32, 8), (64, 8), (32, 16), (64, 16)))
CELLS = (*SHALLOW, *DEEP)  # N and L vary separately
WIDE, NARROW, FEW, SP = Setting(128, 4), Setting(16, 4), Setting(4, 8), Setting(64, 16, "standard")


@cache
def _batches() -> tuple[Values, Values]:
    """Of the digits, those of one pass after another; one more than updates, to look at the end."""
    return pctheory.stacked_batches(pctheory.dataset("digits"), BATCH, seed=0, count=UPDATES + 1)


def _start(setting: Setting) -> tuple[list[Values], Values]:
    """Weights of (rate, seed), the same for each rate, and the scalings a_l."""
    xs, ys = _batches()
    widths = setting.widths(xs.shape[2], ys.shape[2])
    rng = np.random.default_rng(900)
    scalings = 1 / np.sqrt(widths[:-1])
    if setting.kind == "mupc":
        scalings[1:-1] /= math.sqrt(setting.depth)
        scalings[-1] = 1 / setting.width
    spread = np.ones(setting.depth) if setting.kind == "mupc" else scalings
    drawn = [
        v * rng.standard_normal((SEEDS, above, below))
        for v, (below, above) in zip(spread, pairwise(widths), strict=True)
    ]
    rates = len(RATES[setting.kind])
    weights = [np.repeat(w[None], rates, axis=0) for w in drawn]
    return weights, scalings if setting.kind == "mupc" else np.ones(setting.depth)


def _step(weights: list[Values], scalings: Values, x: Values, y: Values) -> tuple[list[Values], Values]:
    """dF*/dW_l, and loss / F*: everything by the formulas, S formed and solved with."""
    depth = len(weights)
    skips = [float(0 < l < depth - 1) for l in range(depth)]
    p = [np.broadcast_to(np.eye(y.shape[1]), (*weights[0].shape[:2], y.shape[1], y.shape[1]))]
    for l in range(depth - 1, -1, -1):
        p.append(scalings[l] * p[-1] @ weights[l] + (p[-1] if skips[l] else 0.0))
    p = p[::-1]  # P_0 .. P_L
    rescaling = sum(m @ np.swapaxes(m, -1, -2) for m in p[1:])
    residual = y - x @ np.swapaxes(p[0], -1, -2)
    force = np.swapaxes(np.linalg.solve(rescaling, np.swapaxes(residual, -1, -2)), -1, -2)
    ratio = np.sum(residual**2, axis=(-1, -2)) / np.sum(residual * force, axis=(-1, -2))
    gradients, z = [], np.broadcast_to(x, (*weights[0].shape[:2], *x.shape))
    for l in range(depth):
        gradients.append(-scalings[l] * np.swapaxes(p[l + 1], -1, -2) @ (np.swapaxes(force, -1, -2) @ z) / len(x))
        if l < depth - 1:
            z = scalings[l] * z @ np.swapaxes(weights[l], -1, -2) + (z if skips[l] else 0.0) + force @ p[l + 1]
    return gradients, ratio


@cache
def _ratios(setting: Setting) -> Values:
    """loss / F* of (rate, seed, time), on the batch of each time before its update, by Adam written out."""
    weights, scalings = _start(setting)
    first, second = ([np.zeros_like(w) for w in weights] for _ in range(2))
    rates = np.array(RATES[setting.kind])[:, None, None, None]
    found = []
    for t, (x, y) in enumerate(zip(*_batches(), strict=True), start=1):
        gradients, ratio = _step(weights, scalings, x, y)
        found.append(ratio)
        for w, g, m, v in zip(weights, gradients, first, second, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g**2 - v)
            w -= rates * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return np.stack(found, axis=-1)


def _excess(setting: Setting, rate: int, time: int) -> Values:
    """log(loss / F* - 1) of each seed at a time; after the start the mean over that and the four times before."""
    times = slice(max(0, time - 4), time + 1) if time else slice(1)
    return np.asarray(np.log(_ratios(setting)[rate, :, times] - 1).mean(axis=-1))


# --- the library against the loop ---


LOOPED = Setting(32, 8)
FOLLOWED = 20  # updates


@jax.jit
def _library_ratios(net: pctheory.LinearPCN, xs: jax.Array, ys: jax.Array, rate: float) -> jax.Array:
    rule = dynamics.equilibrium_rule
    return dynamics.weight_descent_by_rule(rule, net, (xs, ys), optax.adam(rate))[1].energy_ratio


def _library_error(shift: int, case: tuple[int, int]) -> float:
    """loss / F* along the first updates, for a rate and a seed; rounding grows along the way, less than 1000 times.

    `shift`: by how many updates the library is taken to be ahead.
    """
    rate, seed = case
    xs, ys = (part[:FOLLOWED] for part in _batches())
    weights, _ = _start(LOOPED)
    blank = pctheory.mupc(LOOPED.widths(xs.shape[2], ys.shape[2]), seed=0)
    net = blank.with_weights(pctheory.Layers.of(w[rate, seed] for w in weights))
    found = np.asarray(_library_ratios(net, jnp.asarray(xs), jnp.asarray(ys), RATES["mupc"][rate]))
    looped = _ratios(LOOPED)[rate, seed, :FOLLOWED]
    return scaled_error(found[shift:], looped[: FOLLOWED - shift], condition=1e3)


# --- growth and its law ---


@dataclass(frozen=True)
class Estimate:
    """A number with the margin of its interval of confidence."""

    value: float
    margin: float

    @property
    def text(self) -> str:
        return f"{self.value:.2f} +- {self.margin:.2f}"


def _growth(setting: Setting, rate: int = 0, *, to: int = UPDATES, since: int = 0) -> Estimate:
    """By how much log(loss / F* - 1) rises between two times, over seeds."""
    rise = _excess(setting, rate, to) - _excess(setting, rate, since)
    margin = students_t.ppf(0.975, SEEDS - 1) * rise.std(ddof=1) / math.sqrt(SEEDS)
    return Estimate(float(rise.mean()), float(margin))


def _exponents(rate: int, time: int) -> tuple[Estimate, Estimate, Estimate]:
    """a, b and a - b of the least-squares fit  loss / F* - 1 = c L^a / N^b  to means over seeds."""
    rows = np.array([[1.0, math.log(cell.depth), -math.log(cell.width)] for cell in CELLS])
    found = np.array([_excess(cell, rate, time).mean() for cell in CELLS])
    inverse = np.linalg.inv(rows.T @ rows)
    fitted = inverse @ rows.T @ found
    free = len(CELLS) - len(fitted)
    variance = float(np.sum((found - rows @ fitted) ** 2)) / free
    reach = float(students_t.ppf(0.975, free))
    contrasts = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, -1.0]])
    a, b, gap = (Estimate(float(c @ fitted), reach * math.sqrt(variance * c @ inverse @ c)) for c in contrasts)
    return a, b, gap


def _short_of(least: float, found: Estimate) -> float:
    """By how much the interval reaches below `least`."""
    return largest(0.0, least - (found.value - found.margin))


def _outside(low: float, high: float, found: Estimate) -> float:
    """By how much the interval reaches out of [low, high]."""
    return largest(0.0, low - (found.value - found.margin), found.value + found.margin - high)


@claim(
    key="mupc-2025/limit-in-training",
    statement=r"""Training a linear residual network with muPC on F*, loss / F* grows away from 1. In deep networks
        it does: at the published rate of 0.1, loss / F* less 1 grows tenfold or more within 100 updates for
        $L = 8$, $N = 16$ to 64, and $L = 16$, $N = 32$ and 64. It behaves as $L^a / N^b$, with
        $a \approx b \approx 1$ at the start; after 50 updates $a$ is about 3 and $b$ still about 1, so that in
        training the ratio is no function of $L / N$. At a tenth of the rate $a$ grows more slowly, and $b$
        shrinks to about 1/2. Not everywhere: the ratio falls in the first ten updates for $N = 16$, $L = 4$,
        stays within a factor of 2 for $N = 128$, $L = 4$, and falls towards 1 for $N < d_y$: where
        $A_L^T r = 0$, as for the residual of a fit, $S r = r$.""",
    hypotheses=(
        "digits, batches of 64, Adam, 100 updates, exact inference; 3 seeds",
        "the law: $L = 4, 8$ with $N = 16, 32, 64$ and $L = 16$ with $N = 32, 64$",
    ),
    attribution="stated",
    source="mupc-2025 (a figure); the law in L and N and where the ratio does not grow are ours",
    uses=("saddles-2024/equilibrated-energy", "saddles-2024/envelope"),
)
def limit_in_training(check: Check) -> None:
    check.property(
        "the library's training against the loop, two rates and two seeds",
        [(rate, seed) for rate in range(2) for seed in range(2)],
        partial(_library_error, 0),
        twins={"one update ahead": partial(_library_error, 1)},
        seed=900,
    )
    _growth_of_deep_networks(check)
    for rate, value in enumerate(RATES["mupc"]):
        _law_in_depth_and_width(check, rate, value)
    _where_it_does_not_grow(check)


def _growth_of_deep_networks(check: Check) -> None:
    found = [_growth(setting) for setting in DEEP]
    named = ", ".join(f"N = {s.width}, L = {s.depth}: {g.text}" for s, g in zip(DEEP, found, strict=True))
    check.property(
        f"tenfold within 100 updates, log of the growth: {named}",
        found,
        partial(_short_of, math.log(10)),
        twins={
            "with time reversed": lambda g: _short_of(math.log(10), Estimate(-g.value, g.margin)),
            "shallow networks too": lambda _: _short_of(math.log(10), _growth(SHALLOW[-1])),
            "SP at its published rate, 1e-4": lambda _: _short_of(math.log(10), _growth(SP)),
        },
        bound=0.0,  # the whole interval
        seed=900,
    )


def _law_in_depth_and_width(check: Check, rate: int, value: float) -> None:
    """Exponents at the start and after 50 updates: those of L and N part."""
    at_start, later = _exponents(0, 0), _exponents(rate, 50)
    text = ", ".join(
        f"t = {time}: L^({a.text}) N^-({b.text})"
        for time in (0, 10, 50, 100)
        for a, b, _ in [_exponents(rate, time)]
    )
    check.property(
        f"rate {value:g}, exponents differ by 1 or more after 50 updates; {text}",
        [later[2]],
        partial(_short_of, 1.0),
        twins={
            "a function of L / N": lambda gap: _outside(-0.5, 0.5, gap),
            "already at the start": lambda _: _short_of(1.0, at_start[2]),
            "depth and width exchanged": lambda gap: _short_of(1.0, Estimate(-gap.value, gap.margin)),
        },
        bound=0.0,
        seed=900,
    )
    band = (0.75, 1.35) if rate == 0 else (0.2, 0.85)  # 1 and 1/2, up to what intervals of +- 0.3 allow
    check.property(
        f"rate {value:g}, exponent of 1 / N after 50 updates in {band}",
        [later[1]],
        partial(_outside, *band),
        twins={
            "as at the other rate": lambda _: _outside(*band, _exponents(1 - rate, 50)[1]),
            "that of L": lambda _: _outside(*band, later[0]),
        },
        bound=0.0,
        seed=900,
    )


def _where_it_does_not_grow(check: Check) -> None:
    first, wide, few = _growth(NARROW, to=10), _growth(WIDE), _growth(FEW)
    check.difference(
        "it does not grow from the start on",
        first.value + first.margin < 0,
        f"N = {NARROW.width}, L = {NARROW.depth}, rate 0.1: log(loss / F* - 1) changes by {first.text} within 10 "
        f"updates, by {_growth(NARROW).text} within 100",
    )
    check.difference(
        "it stays where it is in wide and shallow networks",
        abs(wide.value) + wide.margin < math.log(2),
        f"N = {WIDE.width}, L = {WIDE.depth}: changes by {wide.text} within 100 updates",
    )
    check.difference(
        "it falls towards 1 in networks narrower than their output",
        few.value + few.margin < 0,
        f"N = {FEW.width} < d_y = 10, L = {FEW.depth}: changes by {few.text} within 100 updates",
    )
    check.false_twin("nor does it grow in N = 16, L = 4 within 100 updates", _short_of(0.0, _growth(NARROW)) == 0)
    check.exact(
        "a residual that the last layer does not reach is not rescaled, in fractions",
        [given for given in rational_cases(80, seed=910, depths=(2, 4), precisions=False) if _unreached(given)],
        partial(_unreached_remainder, True),
        twins={"any residual": partial(_unreached_remainder, False)},
    )


def _unreached(given: Case) -> list[sympy.Matrix]:
    """A basis of the null space of A_L^T."""
    return list(sympy.Matrix(given.maps[-1].T).nullspace())


def _unreached_remainder(unreached: bool, given: Case) -> npt.NDArray[np.object_]:
    """S r - r in exact arithmetic, for an r in the null space of A_L^T, or for another one."""
    r = np.array([Fraction(k + 1) for k in range(given.widths[-1])])
    if unreached:
        r = np.array([Fraction(int(v.p), int(v.q)) for v in _unreached(given)[0]])
    return np.asarray(oracles.rescaling(given) @ r - r)
