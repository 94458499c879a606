r"""Predictive coding as a trust-region method: the smallest network, y = w_2 w_1 x, in full.

Claims
    trust-region-2023/toy-equilibrium      where inference ends, and the energy there
    trust-region-2023/toy-faster-escape    both Hessians at the saddle: flatter trap, steeper escape
    trust-region-2023/toy-flatter-minima   both Hessians at the minima

Notation: one hidden activity z; loss = (y - w_2 w_1 x)^2 / 2, F(z) = (z - w_1 x)^2 / 2 + (y - w_2 z)^2 / 2. Over a
batch m, c, p are the means of x^2, xy, y^2. Loss and F* of one sample are polynomials in x and y of degree 2 whose
coefficients depend on the weights, so that their batch means have m, c, p in place of x^2, xy, y^2.
Inequalities are proved by witnesses (`_scalars`), on all of their domain.
Independent routes: power series of the loss and of the energy at the solution of the linear system, in fractions;
the Hessians of the library, by automatic differentiation.

Reference: F. Innocenti, R. Singh, C. L. Buckley, arXiv 2305.18188.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import sympy
from sympy import Integer, Matrix, symbols

import pctheory
from paper_checks._curvature import OBJECTIVES
from paper_checks._scalars import Identity, Less, Roots, ScalarProof
from pctheory.claims import Check, claim, judged, largest, scaled_error
from tests import oracles, series
from tests.cases import Case, Formula, case, rational

W1, W2, X, Y, Z, C = symbols("w_1 w_2 x y z c", real=True)
M, P, Q, D = symbols("m p q D", positive=True)  # q = |c|, D = sqrt(p^2 + 4 q^2)
ROOT: Roots = {D: P**2 + 4 * Q**2}
ENERGY = ((Z - W1 * X) ** 2 + (Y - W2 * Z) ** 2) / 2
LOSS = (Y - W2 * W1 * X) ** 2 / 2
ZERO = Integer(0)
EQUILIBRIUM = (W1 * X + W2 * Y) / (1 + W2**2)
ENERGY_THERE = LOSS / (1 + W2**2)


def _mean(of_sample: sympy.Expr) -> sympy.Expr:
    """Over the batch: m, c, p for x^2, xy, y^2. Raises KeyError for other powers of the data."""
    moments = {(2, 0): M, (1, 1): C, (0, 2): P}
    terms = sympy.Poly(of_sample, X, Y).terms()
    return sum((coefficient * moments[powers] for powers, coefficient in terms), ZERO)


def _curvature(of_sample: sympy.Expr) -> Matrix:
    """The Hessian in the weights of the batch mean."""
    return sympy.hessian(_mean(of_sample), (W1, W2))


def _characteristic(hessian: Matrix, value: sympy.Expr) -> sympy.Expr:
    return (hessian - value * sympy.eye(2)).det()


def _toys(count: int, seed: int, *, samples: int = 3) -> list[Case]:
    """Toy networks with standard normal weights and data."""
    return [case(f"toy {seed}/{i}", (1, 1, 1), seed=seed + i, batch=samples) for i in range(count)]


def _weights(given: Case) -> tuple[Any, Any]:
    first, last = (w[0, 0] for w in given.weights)
    return first, last


def _moments(given: Case) -> tuple[Any, Any, Any]:
    """m, c, p."""
    pairs = ((given.x, given.x), (given.x, given.y), (given.y, given.y))
    return tuple((a * b).sum() / len(given.x) for a, b in pairs)


# --- trust-region-2023/toy-equilibrium ---


def _equilibrium_proof(*, equilibrium: sympy.Expr = EQUILIBRIUM, rescaling: sympy.Expr = 1 + W2**2) -> ScalarProof:
    square = rescaling / 2 * (Z - equilibrium) ** 2
    reached = ENERGY.subs(Z, equilibrium)
    return ScalarProof(
        theorem=f"F(z) is least at z* = {equilibrium} and only there, where it is loss / ({rescaling}).",
        steps=(
            Identity("Completing the square.", ENERGY, LOSS / rescaling + square),
            Less("The square has a positive factor.", ZERO, rescaling / 2, rescaling / 2),
            *(
                Identity(
                    f"The gradient of F* in {w} is the partial one of F at z*.",
                    sympy.diff(reached, w),
                    sympy.diff(ENERGY, w).subs(Z, equilibrium),
                )
                for w in (W1, W2)
            ),
        ),
    )


def _activity(given: Case, *, denominator: Callable[[Any, Any], Any] = lambda w1, w2: 1 + w2**2) -> Any:
    w1, w2 = _weights(given)
    return (w1 * given.x + w2 * given.y) / denominator(w1, w2)


def _energy(given: Case, *, denominator: Callable[[Any, Any], Any] = lambda w1, w2: 1 + w2**2) -> Any:
    w1, w2 = _weights(given)
    return ((given.y - w2 * w1 * given.x) ** 2).sum() / (2 * len(given.x)) / denominator(w1, w2)


def _inference_remainder(formulas: tuple[Formula, Formula], given: Case) -> list[Any]:
    """Activities and energy, claimed minus those of the linear system."""
    activity, energy = formulas
    hidden = oracles.equilibrium(given)
    return [*(activity(given) - hidden[0]).ravel(), energy(given) - oracles.energy(given, hidden)]


def _inference_error(formulas: tuple[Formula, Formula], given: Case) -> float:
    """The same against the library; relative to sqrt(data) and data. cond(H_z) is 1."""
    activity, energy = formulas
    found = pctheory.equilibrium(given.net, given.x, given.y)
    size = oracles.scale(given, [np.asarray(found.activities[0])])
    return largest(
        scaled_error(found.activities[0], activity(given), scale=size**0.5),
        scaled_error(found.energy, energy(given), scale=size),
    )


FALSE_DENOMINATORS: dict[str, Callable[[Any, Any], Any]] = {
    "w_1 for w_2": lambda w1, w2: 1 + w1**2,
    "without the 1": lambda w1, w2: w2**2,
    "both weights": lambda w1, w2: 1 + w1**2 + w2**2,
}
FALSE_INFERENCES = {
    name: (partial(_activity, denominator=d), partial(_energy, denominator=d))
    for name, d in FALSE_DENOMINATORS.items()
}


@claim(
    key="trust-region-2023/toy-equilibrium",
    statement=r"""In the network $w_2 w_1 x$ inference has one equilibrium, the minimum
        $z^* = (w_1 x + w_2 y) / (1 + w_2^2)$, and there $F^* = \mathrm{loss} / (1 + w_2^2)$.""",
    hypotheses=("one unit in each of three layers", "unit precision, no biases", "any weights and data"),
    attribution="stated",
    source="trust-region-2023",
)
def toy_equilibrium(check: Check) -> None:
    check.proof(
        "by completing the square",
        [_equilibrium_proof()],
        twins={
            "w_1 for w_2": _equilibrium_proof(rescaling=1 + W1**2),
            "z* without the 1": _equilibrium_proof(equilibrium=(W1 * X + W2 * Y) / W2**2),
        },
    )
    claimed = (_activity, _energy)
    check.exact(
        "against the linear system in fractions",
        [rational(given) for given in _toys(40, seed=800)],
        partial(_inference_remainder, claimed),
        twins=judged(_inference_remainder, {n: f for n, f in FALSE_INFERENCES.items() if n != "without the 1"}),
    )
    check.property(
        "the library's equilibrium",
        _toys(300, seed=801),
        partial(_inference_error, claimed),
        twins=judged(_inference_error, FALSE_INFERENCES),
        seed=801,
    )


# --- trust-region-2023/toy-faster-escape ---

TRAP, ESCAPE = (D - P) / 2, (D + P) / 2  # the eigenvalues of F* are the first and minus the second


def _escape_proof(*, under_root: sympy.Expr = P**2 + 4 * Q**2, power: sympy.Expr = P, sign: int = 1) -> ScalarProof:
    """`under_root` is what D^2 is claimed to be, `power` what stands for the mean of y^2, `sign` that of c."""
    at_origin = {W1: 0, W2: 0, C: sign * Q}
    roots = {D: under_root}
    hessians = {name: _curvature(f).subs(at_origin) for name, f in (("loss", LOSS), ("F*", ENERGY_THERE))}
    trap, escape = (D - power) / 2, (D + power) / 2
    eigenvalues = [("loss", Q), ("loss", -Q), ("F*", trap), ("F*", -escape)]
    return ScalarProof(
        theorem=f"At the saddle, with c = {sign * Q}: 0 < lambda_+ < q < -lambda_-, and lambda_+ |lambda_-| = q^2.",
        steps=(
            *(
                Identity(
                    f"{value} is an eigenvalue of {name}.",
                    (hessians[name] - value * sympy.eye(2)).det(),
                    ZERO,
                    roots,
                )
                for name, value in eigenvalues
            ),
            Less("Those of F* differ.", -escape, trap, D, roots),
            Identity("Their product.", trap * escape, Q**2, roots),
            Less("F* rises along its trap.", ZERO, trap, 2 * Q**2 / (P + D), roots),
            Less("The trap is flatter.", trap, Q, 2 * P * Q / (2 * Q + P + D), roots),
            Less("The escape is steeper.", Q, escape, P / 2 + P**2 / (2 * (D + 2 * Q)), roots),
            Identity(
                "Cauchy-Schwarz: p (m p - c^2) is a mean of squares, so that c = 0 if p = 0.",
                _mean((P * X - C * Y) ** 2),
                P * (M * P - C**2),
            ),
        ),
    )


def _trap_proof() -> ScalarProof:
    """Along its own trap F* falls into the saddle, while the loss leaves it."""
    hessian = _curvature(ENERGY_THERE).subs({W1: 0, W2: 0, C: -Q})  # the loss escapes along (1, -1)
    direction = Matrix([Q, TRAP])
    rest = hessian * direction - TRAP * direction
    return ScalarProof(
        theorem="The trap of F*, (q, lambda_+) for c = -q, has a part along the escape (1, -1) of the loss.",
        steps=(
            *(Identity("An eigenvector.", entry, ZERO, ROOT) for entry in rest),
            Less("Its part along (1, -1).", TRAP, Q, 2 * P * Q / (2 * Q + P + D), ROOT),
        ),
    )


Spectrum = Callable[[Any, Any, Any], tuple[list[Any], list[Any]]]  # of m, c, p: of the loss, of F*


def _spectra(
    m: Any, c: Any, p: Any, *, root: Callable[[Any, Any, Any], Any] = lambda m, c, p: p**2 + 4 * c**2
) -> tuple[list[Any], list[Any]]:
    trap = (np.sqrt(root(m, c, p)) - p) / 2
    return [-abs(c), abs(c)], [-trap - p, trap]


def _hessians(given: Case) -> list[np.ndarray]:
    """Of the loss and of F*, by the library."""
    objectives = (pctheory.loss, pctheory.equilibrated_energy)
    return [np.asarray(pctheory.weight_hessian_dense(f, given.net, given.x, given.y)) for f in objectives]


def _at_origin(given: Case) -> Case:
    return replace(given, weights=[0 * w for w in given.weights])


def _origin_error(spectrum: Spectrum, given: Case) -> float:
    """Eigenvalues of both Hessians at the origin, by the library: of the differentiated and of its closed forms."""
    given = _at_origin(given)
    closed = [f(given.net, given.x, given.y).dense() for f in CLOSED_FORMS]
    found = [np.linalg.eigvalsh(np.asarray(hessians)) for hessians in (_hessians(given), closed)]
    size = oracles.scale(given, [given.x])
    claimed: np.ndarray = np.array(spectrum(*_moments(given)))
    return largest(*(scaled_error(values, claimed, scale=size) for values in found))


def _origin_remainder(corner: Callable[[Any, Any, Any], Any], given: Case) -> list[Any]:
    """Both Hessians, claimed minus power series. `corner`, of m, c, p: minus the curvature of F* in w_2."""
    m, c, p = _moments(given)
    claimed = [np.array([[0, -c], [-c, 0]]), np.array([[0, -c], [-c, -corner(m, c, p)]])]
    found = [series.hessian(objective, _at_origin(given)) for objective in OBJECTIVES.values()]
    return [*np.ravel(claimed[0] - found[0]), *np.ravel(claimed[1] - found[1])]


CLOSED_FORMS = (pctheory.loss_hessian_at_origin, pctheory.equilibrated_hessian_at_origin)
FALSE_SPECTRA: dict[str, Spectrum] = {
    "mean x^2 mean y^2 for (mean xy)^2": partial(_spectra, root=lambda m, c, p: p**2 + 4 * m * p),
    "factor 4 left out": partial(_spectra, root=lambda m, c, p: p**2 + c**2),
}


@claim(
    key="trust-region-2023/toy-faster-escape",
    statement=r"""At the saddle of $w_2 w_1 x$ at 0 the Hessian has the eigenvalues $\pm xy$ for the loss and
        $\lambda_\pm = (-y^2 \pm \sqrt{y^4 + 4 x^2 y^2}) / 2$ for F*, and
        $0 < \lambda_+ < |xy| < |\lambda_-|$: on F* the trap is flatter and the escape steeper, by the same factor,
        as $\lambda_+ |\lambda_-| = (xy)^2$. For a batch the same holds with the means of xy and $y^2$. These are
        rates, not times from a given start: in its own trap F* leads into the saddle while the loss leads out.""",
    hypotheses=(
        "one unit in each of three layers",
        "unit precision, no biases",
        "xy, or its mean over the batch, is not 0; then the mean of $y^2$ is not 0 either",
    ),
    attribution="stated",
    source="trust-region-2023; product, batch and the last sentence derived here",
    uses=("trust-region-2023/toy-equilibrium",),
)
def toy_faster_escape(check: Check) -> None:
    check.proof(
        "by witnesses, for either sign of mean xy; the trap of F* is no trap of the loss",
        [_escape_proof(), _escape_proof(sign=-1), _trap_proof()],
        twins={
            "mean x^2 mean y^2 for (mean xy)^2": _escape_proof(under_root=P**2 + 4 * M * P),
            "mean x^2 for mean y^2": _escape_proof(power=M),
        },
    )
    check.exact(
        "both Hessians by power series in fractions",
        [rational(given) for given in _toys(40, seed=810)],
        partial(_origin_remainder, lambda m, c, p: p),
        twins=judged(
            _origin_remainder,
            {"mean x^2 for mean y^2": lambda m, c, p: m, "as flat as the loss": lambda m, c, p: 0},
        ),
    )
    check.property(
        "spectra of the library's Hessians",
        _toys(300, seed=811),
        partial(_origin_error, _spectra),
        twins=judged(_origin_error, FALSE_SPECTRA),
        seed=811,
    )
    check.false_twin("also where the mean of xy is 0", not _spectra(1.0, 0.0, 1.0)[1][1] > 0)
    check.false_twin("sooner from every start", _trap_proof().holds)


# --- trust-region-2023/toy-flatter-minima ---

SLOPE, LAST = symbols("k w_2", real=True, nonzero=True)  # y = k x


def _minima_proof(*, rescaling: sympy.Expr = 1 + LAST**2, misfit: sympy.Expr | int = 0) -> ScalarProof:
    """At w_1 = k / w_2. `misfit` is what p has beyond m k^2: 0 iff y = k x on the whole batch."""
    curve = {W1: SLOPE / LAST, W2: LAST}
    batch = {C: M * SLOPE, P: M * SLOPE**2 + misfit}
    loss, energy = (_mean(f).subs(batch) for f in (LOSS, ENERGY_THERE))
    of_loss, of_energy = (sympy.hessian(f, (W1, W2)).subs(curve) for f in (loss, energy))
    steep = M * (LAST**4 + SLOPE**2) / LAST**2
    slopes = [sympy.diff(energy, w).subs(curve) for w in (W1, W2)]
    return ScalarProof(
        theorem=f"On w_1 w_2 = k the nonzero eigenvalue is {steep} for the loss, divided by {rescaling} for F*.",
        steps=(
            *(Identity("It is critical for F*.", slope, ZERO) for slope in slopes),
            Identity("An eigenvalue of the loss is 0.", of_loss.det(), ZERO),
            Identity("The other is the trace.", of_loss.trace(), steep),
            *(
                Identity("Entry by entry, F* is flatter.", entry, of / rescaling)
                for entry, of in zip(of_energy, of_loss, strict=True)
            ),
            Less("F* has curvature.", ZERO, steep / rescaling, steep / rescaling),
            Less("It has less.", steep / rescaling, steep, steep * LAST**2 / rescaling),
        ),
    )


def _at_minimum(given: Case) -> Case:
    """The same network where it fits: y = w_2 w_1 x. Weights in fractions are moved away from 0."""
    half: Any = Fraction(1, 2)
    weights = [abs(w) + half if w.dtype == object else w for w in given.weights]
    return replace(given, weights=weights, y=given.x @ weights[0] @ weights[1])


def _minima_spectra(given: Case, *, power: int = 1, weight: int = 2) -> tuple[Any, Any]:
    """The nonzero eigenvalues of loss and F*: the latter divided by (1 + w_`weight`^2)^`power`."""
    w1, w2 = _weights(given)
    m, _, p = _moments(given)
    steep = (w2**4 * m + p) / w2**2
    return steep, steep / (1 + (w1, w2)[weight - 1] ** 2) ** power


Nonzero = Callable[[Case], tuple[Any, Any]]
FALSE_MINIMA: dict[str, Nonzero] = {
    "divided twice": partial(_minima_spectra, power=2),
    "not divided": partial(_minima_spectra, power=0),
    "w_1 for w_2": partial(_minima_spectra, weight=1),
}


def _minima_remainder(nonzero: Nonzero, given: Case) -> list[Any]:
    """Trace minus the claimed eigenvalue, and the determinant, of both Hessians by power series."""
    hessians = [series.hessian(objective, given) for objective in OBJECTIVES.values()]
    traces = [h[0, 0] + h[1, 1] - value for h, value in zip(hessians, nonzero(given), strict=True)]
    return [*traces, *(h[0, 0] * h[1, 1] - h[0, 1] * h[1, 0] for h in hessians)]


def _minima_error(nonzero: Nonzero, given: Case) -> float:
    found = np.linalg.eigvalsh(np.asarray(_hessians(given)))
    claimed = np.array([[0.0, value] for value in nonzero(given)])
    return scaled_error(found, claimed, scale=claimed[0, 1] + oracles.scale(given, [given.x]))


def _slope_of_energy(given: Case) -> Any:
    """dF*/dw_2 by power series where the loss of the batch is least, w_1 w_2 = mean xy / mean x^2."""
    m, c, _ = _moments(given)
    w1, w2 = _at_minimum(given).weights
    at_fit = replace(given, weights=[c / m / w2, w2])
    return oracles.along(at_fit, [0 * w1, w2**0])[1]


@claim(
    key="trust-region-2023/toy-flatter-minima",
    statement=r"""Where $w_2 w_1 x = y \ne 0$ one eigenvalue of either Hessian is 0 and the other
        $(w_2^4 x^2 + y^2) / w_2^2$ for the loss, $1 + w_2^2$ times less for F*. For a batch the same holds with the
        means of $x^2$ and $y^2$ if one slope fits all samples. If none does, least loss is not critical for F*.""",
    hypotheses=(
        "one unit in each of three layers",
        "unit precision, no biases",
        "y = k x for all samples, k and some x not 0 (at k = 0 $w_2 = 0$ occurs, where F* is as steep as the loss)",
    ),
    attribution="stated",
    source="trust-region-2023; batch derived here",
    uses=("trust-region-2023/toy-equilibrium",),
)
def toy_flatter_minima(check: Check) -> None:
    check.proof(
        "by differentiation and witnesses",
        [_minima_proof()],
        twins={
            "divided twice": _minima_proof(rescaling=(1 + LAST**2) ** 2),
            "w_1 for w_2": _minima_proof(rescaling=1 + SLOPE**2 / LAST**2),
            "any batch": _minima_proof(misfit=Q),
        },
    )
    drawn = [_at_minimum(rational(given)) for given in _toys(40, seed=820)]
    check.exact(
        "trace and determinant by power series in fractions",
        drawn,
        partial(_minima_remainder, _minima_spectra),
        twins=judged(_minima_remainder, FALSE_MINIMA),
    )
    check.property(
        "spectra of the library's Hessians",
        [_at_minimum(given) for given in _toys(300, seed=821)],
        partial(_minima_error, _minima_spectra),
        twins=judged(_minima_error, FALSE_MINIMA),
        seed=821,
    )
    check.exact(
        "F* still falls in w_2 at least loss, where no slope fits all",
        [rational(given) for given in _toys(40, seed=822)],
        lambda given: [int(_slope_of_energy(given) == 0)],
        twins={"where one does": lambda given: [int(_slope_of_energy(_at_minimum(given)) == 0)]},
    )
