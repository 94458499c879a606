r"""Infinite width: the training curve of muPC-like linear networks by dynamical mean-field theory.

Claims
    limits-2026/dmft   the limit of the training loss, and how BP and PC approach it

Notation: N is the width, gamma the output factor, B the number of examples; the learning rate is rate gamma^2 N.
`pctheory.mean_field` solves for the kernels forward in time. Independent routes: a recursion of Gram matrices for
L = 2; for L = 3 the algebra of one Gaussian matrix, whose moments are the Catalan numbers; for any L the kernel
equations as matrices over all times, iterated until they repeat themselves; and wide networks, trained by loops.

Reference: F. Innocenti, E. M. Achour, R. Bogacz, arXiv 2602.07697, whose code solves such equations; the general
theory is that of B. Bordelon and C. Pehlevan, arXiv 2205.09653. The equations in discrete time are derived here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from scipy.stats import t as student

import pctheory
from figures._wide_networks import Setting, ensemble, mean_distance, trained, whitened_batch
from pctheory.claims import Check, claim, judged, scaled_error
from pctheory.mean_field import lazy_descent, mean_field_descent

Values = npt.NDArray[np.float64]


Predictions = Callable[[Setting], Values]


def _theory(given: Setting) -> Values:
    return mean_field_descent(given.x, given.y, gamma=given.gamma, **given.options).predictions


def _lazy(given: Setting) -> Values:
    return lazy_descent(given.x, given.y, **given.options).predictions


def _drawn(count: int, depths: Sequence[int], *, seed: int, steps: int) -> list[Setting]:
    """Random data of 1 to 4 examples, 1 to 4 inputs and 1 to 3 outputs; rates at which the descent is stable."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        batch, d_x, d_y = (int(rng.integers(1, top)) for top in (5, 5, 4))
        depth, gamma = depths[i % len(depths)], float(np.exp(rng.uniform(-0.7, 1.0)))
        x, y = rng.standard_normal((batch, d_x)), rng.standard_normal((batch, d_y))
        top = np.linalg.eigvalsh(x @ x.T / d_x)[-1] * depth / batch
        rate = rng.uniform(0.1, 0.4) / top / max(1.0, gamma * float(np.abs(y).max())) ** 2
        made.append(Setting(x, y, depth, float(rate), steps, gamma))
    return made


def _prediction_error(claimed: Predictions, route: Predictions, given: Setting) -> float:
    return scaled_error(claimed(given), route(given), scale=float(np.abs(given.y).max()))


# --- independent routes ---


def _by_gram_matrices(given: Setting) -> Values:
    """L = 2: U = [W_1, W_2^T] moves by U <- U J, so its Gram matrix by U^T U / N <- J^T (U^T U / N) J, from I."""
    d_x, d_y = given.x.shape[1], given.y.shape[1]
    gram, found = np.eye(d_x + d_y), []
    for _ in range(given.steps):
        f = given.x @ gram[:d_x, d_x:] / math.sqrt(d_x) / given.gamma
        move = given.rate * given.gamma * (given.y - f).T @ given.x / len(f) / math.sqrt(d_x)
        j = np.block([[np.eye(d_x), move.T], [move, np.eye(d_y)]])
        gram = j.T @ gram @ j
        found.append(f)
    return np.array(found)


def _flat(stack: Values) -> Values:
    return stack.reshape(len(stack), -1)


def _by_catalan_numbers(given: Setting) -> Values:
    r"""L = 3: all vectors are polynomials of V = W_2(0) / sqrt N on X = h_1(0) and w = W_3(0).

    Rows of coefficients: layer 1 has (V^T V)^j X and (V^T V)^j V^T w, layer 2 (V V^T)^j V X and (V V^T)^j w. As N
    grows, (1/N) v^T (V^T V)^k v -> Catalan(k) |v|^2 / N for X and for w, and X and w do not overlap.
    """
    batch, d_y, size = len(given.x), given.y.shape[1], 2 * given.steps + 2
    k, examples = given.rate * given.gamma / batch, slice(batch)
    catalan = [math.comb(2 * n, n) / (n + 1) for n in range(2 * size + 1)]
    hankel = np.array([[[catalan[i + j + up] for j in range(size)] for i in range(size)] for up in range(2)])
    kernel = given.input_kernel

    def inner(a: Values, b: Values, layer: int) -> Values:
        """a_m b_n / N for stacks of vectors of the layer, each (size, batch + d_y)."""
        of_x = _flat(a[..., :batch]) @ _flat(hankel[layer - 1] @ b[..., :batch] @ kernel).T
        of_w = _flat(a[..., batch:]) @ _flat(hankel[2 - layer] @ b[..., batch:]).T
        return np.asarray(of_x + of_w)

    def shifted(a: Values, part: slice) -> Values:
        moved = a.copy()
        moved[:, 1:, part], moved[:, 0, part] = a[:, :-1, part], 0
        return moved

    h, g = np.zeros((batch, size, batch + d_y)), np.zeros((d_y, size, batch + d_y))
    h[range(batch), 0, range(batch)] = 1
    g[range(d_y), 0, range(batch, batch + d_y)] = 1
    history: list[tuple[Values, Values, Values]] = []
    found = []
    for _ in range(given.steps):
        up, down = shifted(h, slice(batch, None)), shifted(g, examples)  # V h and V^T g
        for r, past_h, past_g in history:
            up = up + k * np.einsum("nc,cij,nm->mij", r, past_g, inner(past_h, h, 1))
            down = down + k * np.einsum("nc,nij,cd->dij", r, past_h, inner(past_g, g, 2))
        found.append(inner(up, g, 2) / given.gamma)
        r = given.y - found[-1]
        history.append((r, h, g))
        h = h + k * np.einsum("nc,nm,cij->mij", r, kernel, down)
        g = g + k * np.einsum("nc,nij->cij", r, up)
    return np.array(found)


def _at_all_times(given: Setting, *, responses: bool = True) -> Values:
    """The kernel equations as matrices over all times; as many sweeps as there are hidden layers settle a step."""
    steps, batch, d_y, hidden = given.steps, len(given.x), given.y.shape[1], given.depth - 1
    n, m = steps * batch, steps * d_y
    bottom, top = np.tile(given.input_kernel, (steps, steps)), np.tile(np.eye(d_y), (steps, steps))
    features, gradients = [bottom] * (hidden + 1), [top] * (hidden + 2)
    h_v, g_u = [np.zeros((n, m))] * (hidden + 2), [np.zeros((m, n))] * (hidden + 2)
    earlier = np.tril(np.ones((steps, steps)), -1)
    f = np.zeros((steps, batch, d_y))
    for sweep in range(hidden * (steps + 1)):
        force = given.rate * given.gamma / batch * (given.y - f)
        force[sweep // hidden :] = 0  # not yet known
        for l in range(1, hidden + 1):
            below, above = (
                a[i].reshape(steps, w, steps, w) for a, i, w in ((features, l - 1, batch), (gradients, l + 1, d_y))
            )
            p = np.einsum("ts,snc,sntm->tmsc", earlier, force, below).reshape(n, m) + responses * h_v[l - 1]
            q = np.einsum("ts,snd,tcsd->tcsn", earlier, force, above).reshape(m, n) + responses * g_u[l + 1]
            of_h, of_g = np.linalg.inv(np.eye(n) - p @ q), np.linalg.inv(np.eye(m) - q @ p)
            h_v[l], g_u[l] = of_h @ p, of_g @ q
            lower, upper = features[l - 1], gradients[l + 1]
            features[l] = of_h @ (lower + p @ upper @ p.T) @ of_h.T
            gradients[l] = of_g @ (upper + q @ lower @ q.T) @ of_g.T
            overlap = of_h @ (lower @ q.T + p @ upper) @ of_g.T
        f = np.einsum("tmtc->tmc", overlap.reshape(steps, batch, steps, d_y)) / given.gamma
    return np.asarray(f)


# --- wide networks ---

DEPTH, STEPS, RATE = 4, 20, 0.05
WIDTHS, NETWORKS = (16, 24, 32, 48, 64, 96, 128, 192, 256), 160  # of each
AVERAGED = 2000  # networks of each width, where their mean is what counts


def _whitened(gamma: float = 1.0) -> Setting:
    return Setting(*whitened_batch(4, seed=0), DEPTH, RATE, STEPS, gamma)


def _losses(predictions: Values, y: Values) -> Values:
    return np.asarray(np.sum((y - predictions) ** 2, axis=(-2, -1)) / (2 * len(y)))


@cache
def _curves() -> dict[str, dict[int, Values]]:
    made = {width: ensemble(_whitened(), width, NETWORKS, 0) for width in WIDTHS}
    return {method: {width: both[method] for width, both in made.items()} for method in ("loss", "energy")}


@cache
def _limit(claimed: Predictions) -> Values:
    """The claimed loss curve of the networks that are trained."""
    return _losses(claimed(_whitened()), _whitened().y)


def _fit(deviations: Mapping[int, float]) -> tuple[float, float]:
    """Exponent p of c N^p (1 + d/N), which leaves room for the next order, and its 95 % confidence interval."""
    n, sizes = np.array(list(deviations), dtype=float), np.log(list(deviations.values()))
    design = np.stack([np.log(n), np.ones(len(n)), 1 / n], axis=1)
    solution, (rest,), *_ = np.linalg.lstsq(design, sizes)
    free = len(n) - design.shape[1]
    variance = rest / free * np.linalg.inv(design.T @ design)[0, 0]
    return float(solution[0]), float(np.sqrt(variance) * student.ppf(0.975, free))


def _distance(curves: Mapping[int, Values], other: Values | Mapping[int, Values]) -> dict[int, float]:
    """Root mean square over networks and steps, by width."""
    against = other if isinstance(other, Mapping) else dict.fromkeys(curves, other)
    return {n: mean_distance(c, against[n]) for n, c in curves.items()}


def _exponent_error(claimed: Predictions, pair: tuple[str, float]) -> float:
    """By how much the exponent of the distance of the curves of a method to a claimed limit is off."""
    method, exponent = pair
    return abs(_fit(_distance(_curves()[method], _limit(claimed)))[0] - exponent)


def _difference_error(exponent: float, _: str) -> float:
    curves = _curves()
    return abs(_fit(_distance(curves["energy"], curves["loss"]))[0] - exponent)


@cache
def _extrapolated() -> dict[str, tuple[Values, Values]]:
    """(8 m(64) - 6 m(32) + m(16)) / 3 for the mean loss m(N), free of 1/N and 1/N^2, and its standard error."""
    made = {width: ensemble(_whitened(), width, AVERAGED, 1) for width in (16, 32, 64)}
    found = {}
    for method in ("loss", "energy"):
        parts = [(c / 3, made[width][method]) for width, c in ((64, 8), (32, -6), (16, 1))]
        mean = sum(c * losses.mean(axis=0) for c, losses in parts)
        variance = sum(c**2 * losses.var(axis=0, ddof=1) / AVERAGED for c, losses in parts)
        found[method] = np.asarray(mean), np.sqrt(variance)
    return found


def _standard_errors(claimed: Predictions, method: str) -> float:
    """Largest distance of the claimed losses to the extrapolated mean, in standard errors."""
    mean, error = _extrapolated()[method]
    return float(np.max(np.abs(mean - _limit(claimed)) / error))


@cache
def _by_library(method: str) -> tuple[Values, Values]:
    """Losses of one network of width 16 that the library trains, and those of the loops."""
    given, objectives = _whitened(1.5), {"loss": pctheory.loss, "energy": pctheory.equilibrated_energy}
    net = pctheory.mupc((4, 16, 16, 16, 1), seed=0, skips=False, gamma=given.gamma)
    batches = jnp.asarray(given.x)[None], jnp.asarray(given.y)[None]
    optimiser = optax.sgd(given.rate * given.gamma**2 * 16)
    options: dict[str, Any] = {"record": pctheory.loss, "steps": given.steps}
    _, losses = pctheory.weight_descent(objectives[method], net, batches, optimiser, **options)
    return np.asarray(losses), trained(given, method, [np.asarray(w)[None] for w in net.weights])[0]


def _library_error(other: Mapping[str, str], method: str) -> float:
    losses, looped = _by_library(method)[0], _by_library(other.get(method, method))[1]
    return scaled_error(losses, looped, condition=100.0)  # twenty steps of rounding


FALSE_LIMITS: dict[str, Predictions] = {
    "kernels of initialisation (lazy)": _lazy,
    "the square of gamma": lambda given: _theory(replace(given, gamma=given.gamma**2 * 1.5)),
    "a rate without gamma": lambda given: _theory(replace(given, rate=given.rate / (1.5 * given.gamma) ** 2)),
    "one layer less": lambda given: _theory(replace(given, depth=max(2, given.depth - 1), rate=0.9 * given.rate)),
}
WITHOUT_RESPONSES: dict[str, Predictions] = {
    "without the responses": partial(_at_all_times, responses=False),
}


@claim(
    key="limits-2026/dmft",
    statement=r"""As the width N of the network $f = W_L \cdots W_1 x / (\gamma N \sqrt{N^{L-2} N_0})$ grows, its
        training loss under gradient descent at the rate $\eta \gamma^2 N$ tends to a deterministic curve: with
        $h_l = u_l + (A_{l-1} + C_l) g_l$ and $g_l = v_l + (B_l + D_l) h_l$ per unit, Gaussian sources
        $u_l \sim N(0, H_{l-1})$, $v_l \sim N(0, G_{l+1})$, kernels $H_l = \langle h_l h_l^T \rangle$,
        $G_l = \langle g_l g_l^T \rangle$, responses $A_l = \partial h_l / \partial v_l$,
        $B_l = \partial g_{l+1} / \partial u_{l+1}$, learning $C_l(t\mu, sc) = (\eta\gamma/B) \sum_\nu r_\nu^c(s)
        H_{l-1}(s\nu, t\mu)$, $D_l(tc, s\nu) = (\eta\gamma/B) \sum_{c'} r_\nu^{c'}(s) G_{l+1}(tc, sc')$ for s < t,
        $f = \langle h_l g_l^T \rangle / \gamma$. BP and PC at equilibrium both approach it: one network is off by
        $O(N^{-1/2})$, the mean over networks by O(1/N), and PC is off BP by O(1/N).""",
    hypotheses=(
        "linear, no skips, L >= 2, full batches, weights of variance 1; fixed depth, steps and batch",
        "equilibrium of unit precision before every step of PC",
        "exponents: L = 4, 4 whitened examples, one output, gamma = 1, N = 16 to 256, 20 steps",
    ),
    attribution="stated",
    source="limits-2026 (by code: a mean-field theory as the common limit); equations in discrete time, rates: own",
    uses=("saddles-2024/equilibrated-energy", "saddles-2024/envelope"),
)
def dmft(check: Check) -> None:
    check.property(
        "two layers, against the recursion of Gram matrices",
        _drawn(60, [2], seed=960, steps=15),
        partial(_prediction_error, _theory, _by_gram_matrices),
        twins={name: partial(_prediction_error, wrong, _by_gram_matrices) for name, wrong in FALSE_LIMITS.items()},
        seed=960,
    )
    wrong_in_general = FALSE_LIMITS | WITHOUT_RESPONSES
    check.property(
        "three layers, against the algebra of one Gaussian matrix",
        _drawn(30, [3], seed=961, steps=8),
        partial(_prediction_error, _theory, _by_catalan_numbers),
        twins={
            name: partial(_prediction_error, wrong, _by_catalan_numbers) for name, wrong in wrong_in_general.items()
        },
        seed=961,
    )
    check.property(
        "two to six layers, against the equations over all times",
        _drawn(20, [2, 3, 4, 5, 6], seed=962, steps=7),
        partial(_prediction_error, _theory, _at_all_times),
        twins={name: partial(_prediction_error, wrong, _at_all_times) for name, wrong in wrong_in_general.items()},
        seed=962,
    )
    check.property(
        "loops against the library's training",
        ["loss", "energy"],
        partial(_library_error, {}),
        twins={"BP for PC": partial(_library_error, {"energy": "loss"})},
    )
    curves, texts = _curves(), []
    for name, method in (("BP", "loss"), ("PC", "energy")):
        slope, width = _fit(_distance(curves[method], _limit(_theory)))
        texts.append(f"{name} {slope:.2f} +- {width:.2f}")
    check.property(
        f"distance of one network to the limit, exponent of N: {', '.join(texts)}; expected -1/2",
        [("loss", -0.5), ("energy", -0.5)],
        partial(_exponent_error, _theory),
        twins=judged(_exponent_error, wrong_in_general),
        bound=0.1,  # about the interval of the fit; a false limit has an exponent near 0
        seed=0,
    )
    slope, width = _fit(_distance(curves["energy"], curves["loss"]))
    check.property(
        f"distance of PC to BP from the same start, exponent of N: {slope:.2f} +- {width:.2f}; expected -1",
        ["PC minus BP"],
        partial(_difference_error, -1.0),
        twins=judged(_difference_error, {"-1/2, as each to the limit": -0.5, "-2": -2.0}),
        bound=0.1,  # as above
        seed=0,
    )
    check.property(
        f"mean over {AVERAGED} networks, extrapolated from N = 16, 32 and 64, in standard errors",
        ["loss", "energy"],
        partial(_standard_errors, _theory),
        twins=judged(_standard_errors, wrong_in_general),
        bound=3.0,  # the largest of twenty steps, strongly correlated, and terms of order N^-3 beside it
        seed=1,
    )
