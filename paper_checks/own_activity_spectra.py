r"""The activity Hessian taken apart, and with an activation function.

Claims
    own/hessian-parts            the spectra of its diagonal and its off-diagonal blocks
    own/bent-activity-hessian    what an activation function adds to it

Notation: H_z = D + O, D the diagonal blocks pi_l I + pi_{l+1} A_{l+1}^T A_{l+1}, O those beside them, -pi_l A_l.
With an activation phi, z_l = a_l W_l phi(z_{l-1}) + s_l z_{l-1} + c_l + e_l and
J_l = a_l W_l diag(phi'(z_{l-1})) + s_l I; phi acts on hidden activities only, not on x.
Independent routes: characteristic polynomials in fractions, second differences of the energy, power series of the
energy along moves of the activities, for polynomials phi exact.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paper_checks._trust_region import layers_of
from pctheory import conditioning, nonlinear
from pctheory.claims import Check, claim, judged, largest, scaled_error
from pctheory.nonlinear import NonlinearPCN
from tests import oracles
from tests.cases import FEW, Case, case, rational_cases
from tests.series import Series

# --- own/hessian-parts ---


def _stops(given: Case) -> list[int]:
    stops: list[int] = np.cumsum([0, *given.widths[1:-1]]).tolist()
    return stops


def _parts(given: Case) -> dict[str, np.ndarray]:
    """H_z from the stacked errors, its blocks on the diagonal, and the rest."""
    whole = oracles.linear_system(given)[0]
    own = np.zeros_like(whole)
    for i, j in pairwise(_stops(given)):
        own[i:j, i:j] = whole[i:j, i:j]
    return {"all": whole, "diagonal": own, "off-diagonal": whole - own}


def _characteristic(matrix: np.ndarray) -> list[Any]:
    """Coefficients of det(t I - A), highest first, by Faddeev and Le Verrier."""
    identity = np.eye(len(matrix), dtype=int) * Fraction(1)
    found: list[Any] = [Fraction(1)]
    power = 0 * identity
    for k in range(1, len(matrix) + 1):
        power = matrix @ power + found[-1] * identity
        found.append(-sum(np.diag(matrix @ power)) / k)
    return found


def _pairs_remainder(part: str, given: Case) -> list[Any]:
    """Coefficients that vanish where eigenvalues come in pairs of opposite sign, or are 0."""
    coefficients = _characteristic(_parts(given)[part])
    even, odd = given.widths[1:-1][1::2], given.widths[1:-1][::2]
    zeros = abs(sum(even) - sum(odd))
    return [*coefficients[1::2], *coefficients[len(coefficients) - zeros :]]


def _blocks_remainder(own: int, given: Case) -> list[Any]:
    """The characteristic polynomial of D, minus the product of those of pi_l I + pi_{l+1} A_{l+1}^T A_{l+1}."""
    product: np.ndarray = np.array([Fraction(1)])
    for l, a in enumerate(given.maps[1:]):
        block = own * given.precisions[l] * np.eye(a.shape[1], dtype=int) + given.precisions[l + 1] * a.T @ a
        product = np.convolve(product, np.array(_characteristic(block)))
    return list(np.array(_characteristic(_parts(given)["diagonal"])) - product)


def _spectrum_error(exchanged: dict[str, str], given: Case, *, decay: float = 0.5, shifted: bool = True) -> float:
    """The library's spectra, with a decay, against those of the dense parts."""
    parts, errors = _parts(given), []
    for part in ("all", "diagonal", "off-diagonal"):
        found = conditioning.activity_hessian_spectrum(given.net, part, decay=decay)
        expected = np.linalg.eigvalsh(parts[exchanged.get(part, part)])
        shift = decay * (part != "off-diagonal") if shifted else 0.0
        size = float(np.abs(np.linalg.eigvalsh(parts["all"])).max())
        errors.append(scaled_error(found, expected + shift, scale=size))
    return largest(*errors)


DEEP = [given for given in FEW if given.depth > 1]


@claim(
    key="own/hessian-parts",
    statement=r"""$H_z = D + O$ with the diagonal blocks in $D$. The spectrum of $D$ is that of the blocks
        $\pi_l I + \pi_{l+1} A_{l+1}^T A_{l+1}$ together. $O$ joins odd layers to even ones only: its eigenvalues
        come in pairs of opposite sign, and at least as many as odd layers have more units than even ones, or fewer,
        are 0. A decay moves the spectra of $H_z$ and $D$ by itself, and leaves that of $O$.""",
    hypotheses=("linear networks with at least one hidden layer", "any widths, scalings, skips and precisions"),
    attribution="own",
    source="derived here; what mupc-2025 takes apart to explain the spectrum",
    uses=("mupc-2025/activity-hessian",),
)
def hessian_parts(check: Check) -> None:
    cases = rational_cases(40, seed=740, depths=(3, 5))
    check.exact(
        "pairs and zeros of the off-diagonal part in fractions",
        cases,
        partial(_pairs_remainder, "off-diagonal"),
        twins=judged(_pairs_remainder, {"of the whole": "all", "of the diagonal": "diagonal"}),
    )
    check.exact(
        "the diagonal part in fractions",
        cases,
        partial(_blocks_remainder, 1),
        twins=judged(_blocks_remainder, {"without pi_l I": 0}),
    )
    check.property(
        "the library's spectra of the three",
        DEEP,
        partial(_spectrum_error, {}),
        twins={
            "the off-diagonal part's for the whole's": partial(_spectrum_error, {"all": "off-diagonal"}),
            "the whole's for the diagonal part's": partial(_spectrum_error, {"diagonal": "all"}),
            "without the decay": partial(_spectrum_error, {}, shifted=False),
        },
    )


# --- own/bent-activity-hessian ---

Function = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Bend:
    """An activation function with its first two derivatives, for NumPy and for the library."""

    phi: Function
    first: Function
    second: Function
    library: Function | None = None


SQUARE = Bend(lambda z: z + z * z / 2, lambda z: 1 + z, lambda z: 1 + 0 * z)
CUBE = Bend(lambda z: z - z * z * z / 3, lambda z: 1 - z * z, lambda z: -2 * z)
TANH = Bend(np.tanh, lambda z: 1 - np.tanh(z) ** 2, lambda z: -2 * np.tanh(z) * (1 - np.tanh(z) ** 2), jnp.tanh)
SOFTPLUS = Bend(
    lambda z: np.log1p(np.exp(z)),
    lambda z: 1 / (1 + np.exp(-z)),
    lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
    jax.nn.softplus,
)
RELU = Bend(lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0, lambda z: 0 * z, jax.nn.relu)


@dataclass(frozen=True, eq=False)
class Bent:
    """One example of a network with an activation, at given activities."""

    given: Case
    bend: Bend
    hidden: list[np.ndarray]

    def errors(self, hidden: list[np.ndarray]) -> list[Any]:
        layers, found = [self.given.x[0], *hidden, self.given.y[0]], []
        for l, (w, c) in enumerate(zip(self.given.weights, self.given.biases, strict=True)):
            signal = self.bend.phi(layers[l]) if l else layers[l]
            skipped = self.given.skips[l] * layers[l] if self.given.skips[l] else 0
            found.append(layers[l + 1] + -1 * (self.given.scalings[l] * (w @ signal) + c + skipped))
        return found

    def energy(self, hidden: list[np.ndarray]) -> Any:
        return sum(pi * (e @ e) / 2 for pi, e in zip(self.given.precisions, self.errors(hidden), strict=True))

    def feedforward(self) -> "Bent":
        hidden: list[np.ndarray] = []
        for l in range(self.given.depth - 1):
            rest = [0 * self.given.x[0, :1].repeat(n) for n in self.given.widths[1 + l : -1]]
            hidden.append(-self.errors([*hidden, *rest])[l])
        return replace(self, hidden=hidden)


def _split(given: Case, flat: np.ndarray) -> list[np.ndarray]:
    return [row[0] for row in layers_of(given, flat[None])]


def _bent(given: Case, bend: Bend, seed: int) -> Bent:
    """At activities in eighths: any kind of number."""
    drawn = np.random.default_rng(seed).integers(-6, 7, _stops(given)[-1])
    return Bent(given, bend, _split(given, (drawn + 0 * given.x[0, 0]) / 8))


def _hessian(made: Bent, *, bent: int = 1, inner: bool = True, sign: int = 1) -> np.ndarray:
    """J^T Pi J - diag(C); `bent` multiplies C, of which without `inner` only the last layer counts."""
    given, errors, stops = made.given, made.errors(made.hidden), _stops(made.given)
    slopes = [made.bend.first(z) for z in made.hidden]
    maps = [a * w * d for a, w, d in zip(given.scalings[1:], given.weights[1:], slopes, strict=True)]
    chain = replace(
        given, weights=[given.weights[0], *maps], scalings=np.append(given.scalings[:1], 0 * given.scalings[1:] + 1)
    )
    found = oracles.linear_system(chain)[0].copy()
    for l, (z, i, j) in enumerate(zip(made.hidden, stops[:-1], stops[1:], strict=True)):
        above = given.scalings[l + 1] * given.precisions[l + 1] * given.weights[l + 1].T @ errors[l + 1]
        if inner or l == len(made.hidden) - 1:
            found[range(i, j), range(i, j)] -= bent * sign * made.bend.second(z) * above
    return found


def _form_remainder(hessian: Callable[[Bent], np.ndarray], made: Bent) -> list[Any]:
    """v^T H_z v minus twice the coefficient of t^2 of the energy along v, for three moves v of odd numbers.

    A move by 0 would leave the energy a number, which has no coefficients.
    """
    found = []
    for seed in range(3):
        odd = 2 * np.random.default_rng(seed).integers(-2, 2, _stops(made.given)[-1]) + 1
        v = odd + 0 * made.given.x[0, 0]
        t = Series((0, 1), 2)
        moved = [z + t * d for z, d in zip(made.hidden, _split(made.given, v), strict=True)]
        found.append(v @ hessian(made) @ v - 2 * made.energy(moved)[2])
    return found


def _feedforward_remainder(hessian: Callable[[Bent], np.ndarray], made: Bent) -> np.ndarray:
    start = made.feedforward()
    return hessian(start) - _hessian(start)


def _skip_after_activation(made: Bent) -> list[np.ndarray]:
    """Activities of the feedforward pass if skips carried phi(z) instead of z."""
    given, z, found = made.given, made.given.x[0], []
    layers = zip(given.weights, given.scalings, given.skips, given.biases, strict=True)
    for l, (w, a, s, c) in enumerate(layers):
        signal = made.bend.phi(z) if l else z
        z = a * (w @ signal) + c + (s * signal if s else 0)
        found.append(z)
    return found[:-1]


def _feedforward_error(activities: Callable[[Bent], list[np.ndarray]], made: Bent) -> float:
    """The library's feedforward activities, of the first example."""
    if made.bend.library is None:
        raise ValueError("bend has no function for the library, expected one")
    found = nonlinear.feedforward(NonlinearPCN(made.given.net, made.bend.library), made.given.x[:1])[:-1]
    return largest(*(scaled_error(z[0], expected) for z, expected in zip(found, activities(made), strict=True)))


def _extremes_error(hessian: Callable[[Bent], np.ndarray], made: Bent) -> float:
    given, activation = made.given, made.bend.library
    if activation is None:
        raise ValueError("bend has no function for the library, expected one")
    found = conditioning.activity_hessian_extremes_nonlinear(
        NonlinearPCN(given.net, activation),
        [z[None] for z in made.hidden],
        given.x[:1],
        given.y[:1],
        tolerance=1e-9,
    )
    values = np.linalg.eigvalsh(hessian(made))
    return scaled_error([found.smallest, found.largest], values[[0, -1]])


def _wide() -> Bent:
    """1,050 activities, more than go by the eigenvalues of the dense matrix."""
    given = case("", (5, 350, 350, 350, 3), seed=741, batch=1)
    rng = np.random.default_rng(742)
    return Bent(given, TANH, [0.1 * rng.standard_normal(n) for n in given.widths[1:-1]])


FALSE_HESSIANS: dict[str, Callable[[Bent], np.ndarray]] = {
    "the linearised chain's": partial(_hessian, bent=0),
    "C added": partial(_hessian, sign=-1),
}
FALSE_FORMS: dict[str, Callable[[Bent], np.ndarray]] = {
    **FALSE_HESSIANS,
    "C of the last layer only": partial(_hessian, inner=False),
}


@claim(
    key="own/bent-activity-hessian",
    statement=r"""With an activation $\phi$ the activity Hessian of one example is $J^T \Pi J - \mathrm{diag}(C)$,
        $J$ the chain of the maps $J_l = a_l W_l \mathrm{diag}(\phi'(z_{l-1})) + s_l I$ and
        $C_l = \phi''(z_l) (a_{l+1} W_{l+1}^T \pi_{l+1} e_{l+1})$. It may be indefinite. For piecewise linear
        $\phi$ it is the Hessian of the linearised chain, and at the feedforward activities only $C_H$ is not 0.""",
    hypotheses=("at least one hidden layer", "twice differentiable at the activities", "the input enters as it is"),
    attribution="own",
    source="derived here",
    uses=("mupc-2025/activity-hessian",),
)
def bent_activity_hessian(check: Check) -> None:
    networks = rational_cases(30, seed=743, depths=(2, 4))
    polynomials = [_bent(given, (SQUARE, CUBE)[k % 2], k) for k, given in enumerate(networks)]
    check.exact(
        "along moves of the activities in fractions, activations of degree 2 and 3",
        polynomials,
        partial(_form_remainder, _hessian),
        twins=judged(_form_remainder, FALSE_FORMS),
    )
    check.exact(
        "at the feedforward activities in fractions",
        polynomials,
        partial(_feedforward_remainder, partial(_hessian, inner=False)),
        twins=judged(_feedforward_remainder, {"no C there": partial(_hessian, bent=0)}),
    )
    smooth = [_bent(given, bend, k) for k, given in enumerate((DEEP[2], DEEP[4])) for bend in (TANH, SOFTPLUS)]
    check.property(
        "the library's feedforward activities, whose errors vanish",
        smooth,
        partial(_feedforward_error, lambda made: made.feedforward().hidden),
        twins=judged(_feedforward_error, {"skips carry what the activation made": _skip_after_activation}),
    )
    check.property(
        "the library's extremes, tanh and softplus",
        [*smooth, _wide()],
        partial(_extremes_error, _hessian),
        twins=judged(_extremes_error, FALSE_HESSIANS),
        bound=1e-8,  # ten times the tolerance asked for
    )
    kinked = [_bent(given, RELU, 3) for given in (DEEP[2], DEEP[4])]
    check.property(
        "the library's extremes with ReLU are those of the linearised chain",
        kinked,
        partial(_extremes_error, partial(_hessian, bent=0)),
        twins=judged(
            _extremes_error, {"of the chain without slopes": lambda made: oracles.linear_system(made.given)[0]}
        ),
        bound=1e-8,
    )
