r"""muPC: how large activities and the rescaling are at initialisation, and the limit in which F* becomes the loss.

Claims
    mupc-2025/forward-pass    the mean square activity of every layer, in closed form
    mupc-2025/limit-to-loss   F* tends to the loss, and its gradient to that of the loss, as L/N -> 0

Notation: x is fixed with |x|^2 / N_0 = q_0; t is the variance of a weight of SP times its fan-in; hidden layers
have the width N. S = sum_l P_l P_l^T / pi_l. Expectations are over the weights.
Independent routes: sums over all weights that are signs (exact for any distribution, see `_limits`), sampled
networks, and at large width gradients measured without forming them.

Reference: F. Innocenti, E. M. Achour, C. L. Buckley, NeurIPS 2025, arXiv 2505.13124.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache, partial
from itertools import product

import jax
import numpy as np
from jaxtyping import Array

import pctheory
from figures._random_chains import compared
from paper_checks._limits import (
    MUPC,
    NORMAL_LIKE,
    NTP,
    SCALARS,
    SETTINGS,
    SIGNED,
    SP,
    Enumerated,
    Setting,
    Values,
    Wide,
    drawn_error,
    exponent_error,
    fixed_example,
    measured,
    sampled_rescalings,
    sampled_squares,
    standard_errors,
)
from pctheory.claims import Check, claim, judged, largest, scaled_error
from pctheory.conditioning import LawFit, log_log_fit
from pctheory.random_matrix.expectations import (
    expected_forward_pass,
    expected_relu_forward_pass,
    expected_rescaling,
    forward_pass_variance,
    rescaling_moments,
    typical_forward_pass,
)

STANDARD_ERRORS = 3.0  # of Monte Carlo
Law = Callable[[Enumerated], list[Fraction]]

# --- mupc-2025/forward-pass ---


def forward_law(made: Enumerated, *, relu: bool = False, fan_out: bool = False, skip: int = 1) -> list[Fraction]:
    """|x|^2 times the product of s_k^2 + v_k N_k, k <= l; the `relu` of layers below halves the random part."""
    found = [Fraction(int(made.start @ made.start))]
    for l, (v, s, width) in enumerate(zip(made.variances, made.skips, made.widths[1:], strict=True)):
        fan = made.widths[l] if fan_out else width
        found.append(found[-1] * (skip * s**2 + v * fan / (2 if relu and l else 1)))
    return found[1:]


def _forward_remainder(law: Law, made: Enumerated, relu: bool = False) -> list[Fraction]:
    return [made.mean(q) - expected for q, expected in zip(made.squares(relu=relu), law(made), strict=True)]


FALSE_FORWARD: dict[str, Law] = {
    "fan-in for fan-out": partial(forward_law, fan_out=True),
    "without the skip": partial(forward_law, skip=0),
    "a cross term of skip and weights": lambda made: [
        q + 2 * s for q, s in zip(forward_law(made), made.skips, strict=True)
    ],
}


def _spread_remainder(made: Enumerated, *, fourth: int = 2) -> list[Fraction]:
    """Of E|z_l|^4 = |x|^4 prod ((s^2 + v N)^2 + 4 s^2 v + 2 v^2 N)."""
    found, expected = [], Fraction(int(made.start @ made.start)) ** 2
    layers = zip(made.squares(), made.variances, made.skips, made.widths[1:], strict=True)
    for squares, v, s, width in layers:
        expected *= (s**2 + v * width) ** 2 + 4 * s**2 * v + fourth * v**2 * width
        found.append(made.mean(squares**2) - expected)
    return found


def _library_forward_error(shift: int, made: Enumerated) -> float:
    """The library's functions against the sums."""
    q0 = float(np.mean(made.start.astype(float) ** 2))
    found = [made.mean(squares) / width for squares, width in zip(made.squares(), made.widths[1:], strict=True)]
    errors = [scaled_error(np.roll(expected_forward_pass(made.chain, q0), shift), np.array(found, dtype=float))]
    if not any(made.skips):
        halved = [made.mean(q) / n for q, n in zip(made.squares(relu=True), made.widths[1:], strict=True)]
        errors.append(scaled_error(expected_relu_forward_pass(made.chain, q0), np.array(halved, dtype=float)))
    if made in NORMAL_LIKE:
        ratios = [float(made.mean(q**2) / made.mean(q) ** 2) - 1 for q in made.squares()]
        errors.append(scaled_error(forward_pass_variance(made.chain), np.array(ratios)))
    return largest(*errors)


FEW_LAYERS = tuple(made for made in SIGNED + NORMAL_LIKE if not any(made.skips))
BENT = Enumerated((1, 1, 1, 1), (2, 1, 1), (0, 2, 2), (1, 1, 1))  # ReLU, a skip and one unit a layer

# q_l of hidden layers for unit input, by parameterisation: a function of l and L.
HIDDEN: dict[str, Callable[[int, int], float]] = {
    "SP": lambda l, depth: 1.0,
    "SP, skips": lambda l, depth: 2.0 ** (l - 1),
    "SP, t = 1/3": lambda l, depth: 3.0**-l,
    "SP, t = 1/3, skips": lambda l, depth: (4 / 3) ** (l - 1) / 3,
    "NTP": lambda l, depth: 1.0,
    "muPC": lambda l, depth: (1 + 1 / depth) ** (l - 1),
    "muPC, no skips": lambda l, depth: 1.0,
}
FALSE_HIDDEN: dict[str, dict[str, Callable[[int, int], float]]] = {
    "muPC, one factor more": {"muPC": lambda l, depth: (1 + 1 / depth) ** l},
    "muPC, width for depth": {"muPC": lambda l, depth: (1 + 1 / 8) ** (l - 1)},
    "SP with t = 1/3 as with 1": {"SP, t = 1/3": lambda l, depth: 1.0},
    "skips add nothing": {"SP, skips": lambda l, depth: 1.0},
}
BY_NAME = {setting.name: setting for setting in SETTINGS}


def _hidden_error(changed: dict[str, Callable[[int, int], float]], name: str) -> float:
    """The formulas for each layer against the recursion of the library, on networks of the library."""
    law, setting = (HIDDEN | changed)[name], BY_NAME[name]
    depth = setting.chain.depth
    claimed = np.array([law(l, depth) for l in range(1, depth)])
    return scaled_error(expected_forward_pass(setting.chain)[:-1], claimed)


def _sampled_forward_error(square: Callable[[float], float], given: Setting) -> float:
    """Standard errors between sampled networks and the library; ReLU too where it is exact."""
    q0 = square(float(np.mean(fixed_example(given.widths)[0] ** 2)))
    error = standard_errors(sampled_squares(given), expected_forward_pass(given.chain, q0))
    if any(given.chain.skips):
        return error
    halved = expected_relu_forward_pass(given.chain, q0)
    return largest(error, standard_errors(sampled_squares(given, relu=True), halved))


def _typical_error(formula: Callable[..., Values], given: Setting) -> float:
    """The same for the mean of the logarithm of the activities of normal weights."""
    q0 = float(np.mean(fixed_example(given.widths)[0] ** 2))
    return standard_errors(np.log(sampled_squares(given)), np.log(formula(given.chain, q0)))


NARROW = (2, 4, 8, 16, 32)


@cache
def _relu_excess() -> LawFit:
    """By how much SP with skips, L = 8, exceeds (3/2)^6 at layer 7, against N.

    A layer is normal, given the one below: its weights need not be drawn.
    """
    rng, found = np.random.default_rng(902), []
    for width in NARROW:
        z = rng.standard_normal((120_000, width))
        for _ in range(6):
            length = np.linalg.norm(np.maximum(z, 0), axis=1, keepdims=True)
            z = z + length * width**-0.5 * rng.standard_normal(z.shape)
        found.append(np.mean(z**2) / 1.5**6 - 1)
    return log_log_fit(NARROW, found)


@claim(
    key="mupc-2025/forward-pass",
    statement=r"""At initialisation $q_l = E|z_l|^2 / N_l$ obeys $q_l = (s_l^2 + v_l N_{l-1}) q_{l-1}$ in a linear
        network, $v_l$ the variance of the entries of $a_l W_l$: for unit input, in hidden layers, SP with t = 1 has
        1 without skips and $2^{l-1}$ with, SP with t = 1/3 has $3^{-l}$ and $(1/3)(4/3)^{l-1}$, NTP and muPC have
        1 without skips and $(1 + 1/L)^{l-1} \le e$ with. With ReLU, $v_l N_{l-1}$ is halved from layer 2 on, so
        that SP with t = 1 halves per layer: exact at any width without skips, for $N \to \infty$ with; at finite N
        skips make activities larger, by a share that falls like 1/N. These are means over networks: single ones
        without skips show $\exp E \log |z_l|^2$, about $e^{-1/N}$ per layer less.""",
    hypotheses=(
        "uncorrelated weights of mean 0, any widths: normal, uniform, orthogonal; a fixed input",
        "ReLU: weights symmetric, z_l = a_l W_l relu(z_{l-1}) + s_l z_{l-1}, no skip from the input",
        "skips where widths are equal",
    ),
    attribution="stated",
    source="mupc-2025 (that SP vanishes or explodes and muPC is stable); formulas derived here",
)
def forward_pass(check: Check) -> None:
    check.exact(
        "E|z_l|^2, all patterns of signs and of three values",
        SIGNED + NORMAL_LIKE,
        partial(_forward_remainder, forward_law),
        twins={name: partial(_forward_remainder, law) for name, law in FALSE_FORWARD.items()},
    )
    check.exact(
        "E|z_l|^2 with ReLU, no skips",
        FEW_LAYERS,
        partial(_forward_remainder, partial(forward_law, relu=True), relu=True),
        twins={
            "not halved": partial(_forward_remainder, forward_law, relu=True),
            "exact with skips too": lambda made: _forward_remainder(
                partial(forward_law, relu=True), BENT, relu=True
            ),
        },
    )
    check.exact(
        "E|z_l|^4 of normal weights, patterns of three values",
        NORMAL_LIKE,
        _spread_remainder,
        twins={"one degree of freedom for two": partial(_spread_remainder, fourth=1)},
    )
    check.property(
        "the library's means, with and without ReLU, and variances, against the sums",
        SIGNED + NORMAL_LIKE,
        partial(_library_forward_error, 0),
        twins={"one layer off": partial(_library_forward_error, 1)},
    )
    check.property(
        "formulas of the layers against the recursion on the library's networks",
        HIDDEN,
        partial(_hidden_error, {}),
        twins=judged(_hidden_error, FALSE_HIDDEN),
    )
    check.property(
        "4000 sampled networks of each parameterisation, in standard errors",
        SETTINGS,
        partial(_sampled_forward_error, lambda q0: q0),
        twins={"sum for mean over the units of the input": partial(_sampled_forward_error, lambda q0: 5 * q0)},
        seed=900,
        bound=STANDARD_ERRORS,
    )
    check.property(
        "weights as the library draws them, mean squares in standard errors",
        [BY_NAME[name] for name in ("SP, t = 1/3", "SP, unequal widths", "orthogonal")],
        partial(drawn_error, 0),
        twins={"variance by the width above": partial(drawn_error, 1)},
        bound=5.0,  # the largest of some 20 normal numbers may well be beyond 3, not beyond 5
    )
    check.property(
        "mean logarithms of sampled normal networks, in standard errors",
        [given for given in SETTINGS if given.drawn == "normal"],
        partial(_typical_error, typical_forward_pass),
        twins={"the logarithm of the mean": partial(_typical_error, expected_forward_pass)},
        seed=900,
        bound=STANDARD_ERRORS,
    )
    excess = _relu_excess()
    check.property(
        f"excess of ReLU with skips, SP, L = 8, N = 2 to 32: exponent {excess.text}",
        [excess],
        partial(exponent_error, -1.0),
        twins=judged(exponent_error, {"does not vanish": 0.0, "vanishes like 1/N^2": -2.0}),
        seed=902,
        bound=0.25,  # the next term of the excess, a share of order l/N of it, and the noise of the sample
    )


# --- mupc-2025/limit-to-loss ---


def rescaling_law(made: Enumerated, *, fan_out: bool = False, outermost: int = 0) -> list[Fraction]:
    """sigma_L as the sum over layers l of  1/pi_l times the product of s_k^2 + v_k N_{k-1} for k > l."""
    gains = [s**2 + v * n for v, s, n in zip(made.variances, made.skips, made.widths[fan_out:], strict=False)]
    found = []
    for depth in range(1, len(gains) + 1):
        terms = [made.inverses[l] * math.prod(gains[l + 1 : depth], start=Fraction(1)) for l in range(depth)]
        found.append(sum(terms[outermost:], Fraction(0)))
    return found


def _rescaling_remainder(law: Law, made: Enumerated) -> list[Fraction]:
    """All entries of E[S_l] - sigma_l I."""
    found = []
    for s, sigma in zip(made.rescalings(), law(made), strict=True):
        places = product(range(s.shape[1]), repeat=2)
        found += [made.mean(s[:, i, j]) - (sigma if i == j else 0) for i, j in places]
    return found


def _library_rescaling_error(shift: int, made: Enumerated) -> float:
    """Means of signs; of normal weights the variance and the anisotropy as well."""
    moments, width = rescaling_moments(made.chain), np.array(made.widths[1:])
    sums = made.rescalings()
    traces = [np.trace(s, axis1=1, axis2=2) for s in sums]
    mean = np.array([made.mean(t) for t in traces], dtype=float) / width
    errors = [scaled_error(np.roll(expected_rescaling(made.chain), shift), mean)]
    if made in NORMAL_LIKE:
        squares = np.array([made.mean(t**2) for t in traces], dtype=float) / width**2
        lengths = np.array([made.mean((s**2).sum(axis=(1, 2))) for s in sums], dtype=float) / width
        for found, expected in ((moments.variance, squares), (moments.anisotropy, lengths)):
            errors.append(scaled_error(found + mean**2, expected))
    return largest(*errors)


RescalingLaw = Callable[[int, int], float]  # of N and L
RESCALINGS: dict[str, RescalingLaw] = {
    "muPC": lambda n, depth: 1 + depth / n * ((1 + 1 / depth) ** (depth - 1) - 1),
    "muPC, no skips": lambda n, depth: 1 + (depth - 1) / n,
    "NTP": lambda n, depth: float(depth),
    "NTP, skips": lambda n, depth: 1 + depth * ((1 + 1 / depth) ** (depth - 1) - 1) / 9,  # gamma is 3
    "SP": lambda n, depth: float(depth),
    "SP, skips": lambda n, depth: 2.0 ** (depth - 1),
    "SP, t = 1/3": lambda n, depth: 1.5 * (1 - 3.0**-depth),
    "SP, t = 1/3, skips": lambda n, depth: (4 / 3) ** (depth - 1),
}
FALSE_RESCALINGS: dict[str, dict[str, RescalingLaw]] = {
    "width and depth exchanged": {"muPC": lambda n, depth: 1 + n / depth * ((1 + 1 / n) ** (n - 1) - 1)},
    "the layer of the input counted too": {"muPC, no skips": lambda n, depth: 1 + depth / n},
    "NTP like muPC": {"NTP": lambda n, depth: 1 + (depth - 1) / n},
    "SP with skips, one factor more": {"SP, skips": lambda n, depth: 2.0**depth},
}


def _rescaling_error(changed: dict[str, RescalingLaw], name: str) -> float:
    chain = BY_NAME[name].chain
    claimed = (RESCALINGS | changed)[name](chain.widths[1], chain.depth)
    return scaled_error(expected_rescaling(chain)[-1], claimed)


def _sampled_rescaling_error(formula: Callable[[Values], float], given: Setting) -> float:
    s = sampled_rescalings(given)
    trace = np.trace(s, axis1=1, axis2=2) / s.shape[1]
    return standard_errors(trace, formula(expected_rescaling(given.chain)))


@cache
def _ratios(given: Setting, *, silent: bool) -> Values:
    """loss / F* of one example in each network; `silent` for the input 0."""
    x, y = fixed_example(given.widths)
    z = np.tile((0 if silent else 1) * x[:, None], (len(given.maps[0]), 1, 1))
    for a in given.maps:
        z = a @ z
    r = y[:, None] - z
    q = np.linalg.solve(sampled_rescalings(given), r)
    return np.asarray((r**2).sum(axis=(1, 2)) / (r * q).sum(axis=(1, 2)))


def _ratio_error(formula: Callable[[Setting], float], given: Setting) -> float:
    """One output: E[loss / F*] is E[S], whatever the residual."""
    return standard_errors(_ratios(given, silent=False), formula(given))


def _bracket_error(share: float, given: Setting) -> float:
    """Standard errors by which E[loss / F*] is outside [sigma - share anisotropy, sigma], for a residual y."""
    moments, ratios = rescaling_moments(given.chain), _ratios(given, silent=True)
    low, high = moments.mean[-1] - share * moments.anisotropy[-1], moments.mean[-1]
    error = float(ratios.std(ddof=1)) / len(ratios) ** 0.5
    return float(np.max([0.0, low - ratios.mean(), ratios.mean() - high])) / error


UNIT_PRECISION = ("SP", "SP, skips", "NTP", "NTP, skips", "muPC", "muPC, no skips", "NTP, unequal widths")
BRACKETED = tuple(BY_NAME[name] for name in UNIT_PRECISION)  # normal weights
WIDTHS, DEPTH = (64, 128, 256, 512), 4
GRID = tuple((n, depth) for n, depth in product((64, 128, 256), (4, 8, 16, 32)) if n >= 8 * depth)
SWEPT = ("SP, skips", "NTP, skips", "muPC, gamma and precision")
MEASURES = {"loss / F* - 1": 0, "relative distance of the gradients": 2}


@cache
def _width_fit(given: Wide, measure: int) -> LawFit:
    """Against N / L, at L = 4."""
    found = [measured(given, n, DEPTH)[measure] - (measure == 0) for n in WIDTHS]
    return log_log_fit(np.array(WIDTHS) / DEPTH, found)


@cache
def _grid_fit() -> LawFit:
    """loss / F* - 1 of muPC over N and L, against its law."""
    laws = [RESCALINGS["muPC"](n, depth) - 1 for n, depth in GRID]
    return log_log_fit(laws, [measured(MUPC, n, depth)[0] - 1 for n, depth in GRID])


def _sweeps_error(precision: float, name: str) -> float:
    """How F* and gradients are measured at large width, against the library on one of its networks."""
    net, (x, y) = BY_NAME[name].net, (part for part in np.random.default_rng(903).standard_normal((2, 6, 5)))
    x, y, precision = x, y[:, :3], precision * float(net.precisions[-1])
    of_energy, of_loss = (
        np.concatenate([np.ravel(g) for g in made])
        for made in (pctheory.equilibrated_gradient(net, x, y), jax.grad(_loss)(net.weights, net, x, y))
    )
    of_loss = precision * of_loss
    cosine = of_energy @ of_loss / np.linalg.norm(of_energy) / np.linalg.norm(of_loss)
    distance = np.linalg.norm(of_energy - of_loss) / np.linalg.norm(of_loss)
    ratio = precision * float(pctheory.loss(net, x, y) / pctheory.equilibrated_energy(net, x, y))
    found = compared([np.asarray(a) for a in net.maps], np.asarray(net.scalings), x, y, float(net.precisions[-1]))
    return scaled_error(np.array([ratio, 1 - cosine, distance]), np.array(found))


def _loss(weights: pctheory.Layers, net: pctheory.LinearPCN, x: Values, y: Values) -> Array:
    return pctheory.loss(net.with_weights(weights), x, y)


@claim(
    key="mupc-2025/limit-to-loss",
    statement=r"""Linear residual muPC at initialisation: F* tends to the loss, and its gradient to that of the
        loss, as $L/N \to 0$, both at the rate L/N. At any widths $E[S] = \sigma_L I$ with $\sigma_1 = 1/\pi_1$,
        $\sigma_l = 1/\pi_l + (s_l^2 + v_l N_{l-1}) \sigma_{l-1}$. So E[tr S] / d_y is
        $1 + (L/N)((1 + 1/L)^{L-1} - 1)$, about 1 + (e-1) L/N, with skips and 1 + (L-1)/N without; for NTP
        $1 + L((1 + 1/L)^{L-1} - 1)$ and L, which no width brings to 1; for SP $(1 + t)^{L-1}$ with skips, and
        without L for t = 1, $1.5 (1 - 3^{-L})$ for t = 1/3. From E[tr S] to loss / F*: with one output they have
        the same mean, whatever the residual. With more, for a residual independent of the weights and normal
        weights, $\sigma_L - E|S - \sigma_L I|^2 / d_y \le E[loss / F^*] \le \sigma_L$. A residual that depends on
        them is not covered by this.""",
    hypotheses=(
        "uncorrelated weights of mean 0; unit precision but where pi_l stands",
        "rates: d_x = d_y = 4, 16 normal examples, L = 4 with N = 64 to 512, and N = 64 to 256 with L = 4 to N/8",
    ),
    attribution="stated",
    source="mupc-2025 (the limit); expectations, brackets and rates derived or measured here",
    uses=("saddles-2024/equilibrated-energy",),
)
def limit_to_loss(check: Check) -> None:
    check.exact(
        "E[S], all patterns of signs and of three values",
        SIGNED + NORMAL_LIKE,
        partial(_rescaling_remainder, rescaling_law),
        twins=judged(
            _rescaling_remainder,
            {
                "fan-out for fan-in": partial(rescaling_law, fan_out=True),
                "without the layer of the input": partial(rescaling_law, outermost=1),
            },
        ),
    )
    check.property(
        "the library's means, and second moments of normal weights, against the sums",
        SIGNED + NORMAL_LIKE,
        partial(_library_rescaling_error, 0),
        twins={"one layer off": partial(_library_rescaling_error, 1)},
    )
    check.property(
        "formulas in L and N against the recursion on the library's networks",
        RESCALINGS,
        partial(_rescaling_error, {}),
        twins=judged(_rescaling_error, FALSE_RESCALINGS),
    )
    check.property(
        "4000 sampled networks of each parameterisation, in standard errors",
        SETTINGS,
        partial(_sampled_rescaling_error, lambda sigma: sigma[-1]),
        twins={"the layer below": partial(_sampled_rescaling_error, lambda sigma: sigma[-2])},
        seed=900,
        bound=STANDARD_ERRORS,
    )
    check.property(
        "one output: loss / F* of sampled networks, in standard errors",
        SCALARS,
        partial(_ratio_error, lambda given: expected_rescaling(given.chain)[-1]),
        twins={
            "width and depth exchanged": partial(
                _ratio_error, lambda given: FALSE_RESCALINGS["width and depth exchanged"]["muPC"](8, 6)
            )
        },
        seed=900,
        bound=STANDARD_ERRORS,
    )
    check.property(
        "several outputs: loss / F* within its bracket, in standard errors",
        BRACKETED,
        partial(_bracket_error, 1.0),
        twins={"sigma_L itself": partial(_bracket_error, 0.0)},
        seed=900,
        bound=STANDARD_ERRORS,
    )
    _check_rates(check)


def _as_well(other: Wide, measure: int, _: LawFit) -> float:
    """That another parameterisation keeps to the law of muPC."""
    return exponent_error(-1.0, _width_fit(other, measure))


def _check_rates(check: Check) -> None:
    check.property(
        "F* and gradients by sweeps, against the library",
        SWEPT,
        partial(_sweeps_error, 1.0),
        twins={"without the precision": partial(_sweeps_error, 0.25)},
        bound=1e-10,  # 1 - cosine is a difference of numbers near 1
    )
    for name, measure in MEASURES.items():
        fit = _width_fit(MUPC, measure)
        check.property(
            f"{name} against N/L, L = 4: exponent {fit.text}",
            [fit],
            partial(exponent_error, -1.0),
            twins={
                "does not vanish": partial(exponent_error, 0.0),
                "vanishes like (L/N)^2": partial(exponent_error, -2.0),
                "width and depth exchanged": partial(exponent_error, 1.0),
                "NTP as well": partial(_as_well, NTP, measure),
                "SP as well": partial(_as_well, SP, measure),
            },
            seed=901,
            bound=0.15,  # terms of the next order in L/N <= 1/16, and the noise of 4 to 32 networks at each width
        )
    over_grid = _grid_fit()
    check.property(
        f"loss / F* - 1 of muPC over N and L, against its law: exponent {over_grid.text}",
        [over_grid],
        partial(exponent_error, 1.0),
        twins={"another power": partial(exponent_error, 1.2)},
        seed=901,
        bound=0.1,  # as above
    )
    share = [(measured(MUPC, n, depth)[0] - 1) / (RESCALINGS["muPC"](n, depth) - 1) for n, depth in GRID]
    check.property(
        "loss / F* - 1 of muPC, its law times 1",
        share,
        lambda found: abs(found - 1.0),
        twins={"(e-1) for (1+1/L)^(L-1) - 1, also at L = 4": lambda found: abs(found * 0.953 / (math.e - 1) - 1)},
        seed=901,
        bound=0.15,  # noise of 8 to 32 networks, and L/N <= 1/8 of the next order
    )
