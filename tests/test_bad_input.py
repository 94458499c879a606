"""What the library says to bad input: one line with the argument and layer, the value, and the remedy."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial, reduce

import jax
import jaxtyping
import numpy as np
import optax
import pytest
import scipy.sparse

import pctheory
from pctheory import dynamics, nonlinear, random_matrix, saddles
from pctheory.arguments import public
from pctheory.saddles import Derivatives


@pytest.fixture(autouse=True)
def without_shape_checks():
    """The users' experience: beartype and the shapes in the annotations are checked in tests only."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


W1, W2 = np.ones((3, 2)), np.ones((1, 3))
X, Y = np.ones((4, 2)), np.ones((4, 1))
HIDDEN = [np.ones((4, 3))]
LAW = random_matrix.semicircle(1.0)


def net() -> pctheory.LinearPCN:
    return pctheory.LinearPCN([W1, W2])


def coordinates(gradient: Callable[..., object]) -> object:
    def drawn(size: int, seed: int) -> pctheory.LinearPCN:
        return pctheory.standard((2, size, 1), seed=seed)

    return pctheory.coordinate_check(
        drawn, (2, 3), (X, Y), seeds=(0, 1), optimiser=lambda size: optax.sgd(0.1), gradient=gradient
    )


def flow_until(quantity: Callable[..., object]) -> object:
    tolerances = {"relative_tolerance": 1e-8, "absolute_tolerance": 1e-12}
    return pctheory.escape_time_of_flow(pctheory.loss, net(), X, Y, quantity=quantity, threshold=0.1, **tolerances)


def unseeing() -> pctheory.LinearPCN:
    """Without a look at the second input."""
    return pctheory.LinearPCN([W1 * [1.0, 0.0], W2])


def with_entry(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed[-1, -1] = value
    return changed


BUILD: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "no layers": (
        lambda: pctheory.LinearPCN([]),
        ValueError,
        "weights is empty; a network needs at least one layer",
    ),
    "empty weights": (
        lambda: pctheory.LinearPCN([W1, np.ones((0, 3))]),
        ValueError,
        "weights, layer 2 is empty (shape (0, 3)); every axis needs at least one entry",
    ),
    "shapes that do not fit": (
        lambda: pctheory.LinearPCN([W1, np.ones((1, 2))]),
        ValueError,
        "weights, layer 2 has shape (1, 2), expected (any, 3): layer 1 has 3 rows; transpose or resize one of them",
    ),
    "weights with one axis": (
        lambda: pctheory.LinearPCN([np.ones(3)]),
        ValueError,
        "weights, layer 1 has shape (3,), expected 2 axes; reshape it",
    ),
    "ragged weights": (
        lambda: pctheory.LinearPCN([[[1.0], [1.0, 2.0]]]),
        TypeError,
        "weights, layer 1 is not an array",
    ),
    "NaN in weights": (
        lambda: pctheory.LinearPCN([W1, with_entry(W2, np.nan)]),
        ValueError,
        "weights, layer 2 holds nan at index (0, 2); every entry must be finite",
    ),
    "infinite weights": (
        lambda: pctheory.LinearPCN([with_entry(W1, -np.inf), W2]),
        ValueError,
        "weights, layer 1 holds -inf at index (2, 1)",
    ),
    "integer weights": (
        lambda: pctheory.LinearPCN([W1.astype(int), W2]),
        TypeError,
        "weights, layer 1 has dtype int64, expected float64; convert it with numpy.asarray(value, dtype=float)",
    ),
    "complex weights": (
        lambda: pctheory.LinearPCN([W1, W2 + 0j]),
        TypeError,
        "weights, layer 2 has dtype complex128, expected float64",
    ),
    "single precision": (
        lambda: pctheory.LinearPCN([W1.astype(np.float32), W2]),
        TypeError,
        "weights, layer 1 has dtype float32, expected float64",
    ),
    "words": (lambda: pctheory.LinearPCN([[["a"]]]), TypeError, "weights, layer 1 has dtype <U1, expected float64"),
    "weights that are None": (
        lambda: pctheory.LinearPCN([None]),
        TypeError,
        "weights, layer 1 has dtype object, expected float64",
    ),
    "zero precision": (
        lambda: pctheory.LinearPCN([W1, W2], precisions=[1.0, 0.0]),
        ValueError,
        "precisions, layer 2 is 0.0, expected a positive number",
    ),
    "negative precision": (
        lambda: pctheory.LinearPCN([W1, W2], precisions=[-2.0, 1.0]),
        ValueError,
        "precisions, layer 1 is -2.0, expected a positive number",
    ),
    "too many scalings": (
        lambda: pctheory.LinearPCN([W1, W2], scalings=[1.0, 1.0, 1.0]),
        ValueError,
        "scalings has shape (3,), expected (2,): one per layer",
    ),
    "skip between unequal widths": (
        lambda: pctheory.LinearPCN([W1, W2], skips=[0.0, 0.5]),
        ValueError,
        "skips, layer 2 is 0.5 but its weights have shape (1, 3); a skip needs equal widths",
    ),
    "too few biases": (
        lambda: pctheory.LinearPCN([W1, W2], biases=[np.zeros(3)]),
        ValueError,
        "biases has 1 entries, expected 2: one per layer",
    ),
    "bias of the wrong size": (
        lambda: pctheory.LinearPCN([W1, W2], biases=[np.zeros(3), np.zeros(2)]),
        ValueError,
        "biases, layer 2 has shape (2,), expected (1,)",
    ),
    "widths of one number": (
        lambda: pctheory.standard((3,), seed=0),
        ValueError,
        "widths is (3,), expected at least (N_0, N_L): one layer",
    ),
    "zero width": (
        lambda: pctheory.ntp((3, 0, 2), seed=0),
        ValueError,
        "widths, layer 1 is 0, expected a whole number of at least 1",
    ),
    "fractional width": (
        lambda: pctheory.mupc((3, 2.5, 2), seed=0),
        ValueError,
        "widths, layer 1 is 2.5, expected a whole number of at least 1",
    ),
    "skips with unequal hidden widths": (
        lambda: pctheory.mupc((3, 4, 5, 2), seed=0),
        ValueError,
        "widths, layer 2 is 5 above 4; skips need equal hidden widths: make them equal or pass skips=False",
    ),
    "unknown initialisation": (
        lambda: pctheory.standard((3, 2), seed=0, initialisation="normal"),
        ValueError,
        "initialisation is 'normal', expected 'gaussian', 'uniform' or 'orthogonal'",
    ),
    "negative variance": (
        lambda: pctheory.standard((3, 2), seed=0, variance=-1.0),
        ValueError,
        "variance is -1.0, expected a positive finite number",
    ),
    "zero gamma": (
        lambda: pctheory.mupc((3, 2), seed=0, gamma=0.0),
        ValueError,
        "gamma is 0.0, expected a positive finite number",
    ),
    "zero output precision": (
        lambda: pctheory.mupc((3, 2), seed=0, output_precision=0.0),
        ValueError,
        "output_precision is 0.0, expected a positive finite number",
    ),
}

CALL: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "x too wide": (
        lambda: pctheory.loss(net(), np.ones((4, 3)), Y),
        ValueError,
        "x has 3 columns, expected N_0 = 2; rows are examples",
    ),
    "y too wide": (
        lambda: pctheory.equilibrium(net(), X, np.ones((4, 2))),
        ValueError,
        "y has 2 columns, expected N_L = 1; rows are examples",
    ),
    "one example without its axis": (
        lambda: pctheory.feedforward(net(), np.ones(2)),
        ValueError,
        "x has shape (2,), expected 2 axes; reshape it",
    ),
    "mismatched batch": (
        lambda: pctheory.equilibrated_energy(net(), X, np.ones((3, 1))),
        ValueError,
        "x has 4 rows and y has 3; expected one row of each per example",
    ),
    "empty batch": (
        lambda: pctheory.equilibrated_gradient(net(), np.ones((0, 2)), np.ones((0, 1))),
        ValueError,
        "x is empty (shape (0, 2)); every axis needs at least one entry",
    ),
    "NaN in the data": (
        lambda: pctheory.equilibrated_energy(net(), X, with_entry(Y, np.nan)),
        ValueError,
        "y holds nan at index (3, 0); every entry must be finite",
    ),
    "integer data": (
        lambda: pctheory.loss(net(), X.astype(int), Y),
        TypeError,
        "x has dtype int64, expected float64",
    ),
    "too many activities": (
        lambda: pctheory.energy(net(), [*HIDDEN, Y], X, Y),
        ValueError,
        "activities has 2 layers, expected 1: the hidden ones only",
    ),
    "activities of the wrong width": (
        lambda: pctheory.energy(net(), [np.ones((4, 2))], X, Y),
        ValueError,
        "activities, layer 1 has shape (4, 2), expected (4, 3): (examples, width)",
    ),
    "NaN in activities": (
        lambda: pctheory.activity_gradient(net(), [with_entry(HIDDEN[0], np.nan)], X, Y),
        ValueError,
        "activities, layer 1 holds nan at index (3, 2)",
    ),
    "negative decay": (
        lambda: pctheory.equilibrium_with_decay(net(), X, Y, -0.1),
        ValueError,
        "decay is -0.1, expected a finite number of at least 0",
    ),
    "infinite decay": (
        lambda: pctheory.equilibrium_with_decay(net(), X, Y, np.inf),
        ValueError,
        "decay is inf, expected a finite number of at least 0",
    ),
    "activity Hessian without hidden layers": (
        lambda: pctheory.activity_hessian_dense(pctheory.LinearPCN([W1])),
        ValueError,
        "activity_hessian_blocks: a network of depth 1 has no hidden layers; add one",
    ),
    "solve without hidden layers": (
        lambda: pctheory.activity_hessian_solve(pctheory.LinearPCN([W1]), []),
        ValueError,
        "a network of depth 1 has no hidden layers; add one",
    ),
    # found by the long mode of the fuzzer
    "an array of objects for laws": (
        lambda: random_matrix.mixture(np.array([object(), None]), [0.25, 0.75]),
        TypeError,
        "laws holds a object, expected laws such as semicircle(1.0)",
    ),
    "a sparse matrix for shares": (
        lambda: random_matrix.mixture([LAW], scipy.sparse.csr_matrix([[1.0]])),
        TypeError,
        "shares is a csr_matrix of shape (1, 1), expected a number",
    ),
    "inputs whose kernel overflows": (
        lambda: pctheory.mean_field_descent(1e300 * X, Y, depth=2, rate=0.1, steps=2),
        FloatingPointError,
        "mean_field_descent: the result holds inf at index (0, 0)",
    ),
    "a gradient unlike the weights": (
        lambda: coordinates(lambda net, x, y: float("nan")),
        TypeError,
        "gradient returns nan, expected numbers shaped like the weights",
    ),
    "a gradient of other shapes": (
        lambda: coordinates(lambda net, x, y: jax.tree.map(lambda w: w[..., :1], net.weights)),
        TypeError,
        "gradient returns a Layers, expected numbers shaped like the weights",
    ),
    "a rule whose direction is unlike the weights": (
        lambda: pctheory.weight_descent_by_rule(
            lambda net, x, y: (1.0, 2.0), net(), (X[None], Y[None]), optax.sgd(0.1)
        ),
        TypeError,
        "rule returns 1.0, expected numbers shaped like the weights",
    ),
    "a quantity that is none": (
        lambda: flow_until(lambda net, x, y: None),
        TypeError,
        "quantity returns None, expected a number",
    ),
    "a quantity for each example": (
        lambda: flow_until(lambda net, x, y: y[:, 0]),
        ValueError,
        "quantity returns shape (4,), expected a number; sum or average it",
    ),
    "a generator for records": (
        lambda: dynamics.divergence_step(one for one in [X]),
        TypeError,
        "records holds a generator, expected arrays of numbers",
    ),
    "a sparse matrix for records": (
        lambda: dynamics.divergence_step({"loss": scipy.sparse.csr_matrix([[1.0]])}),
        TypeError,
        "records holds a csr_matrix of shape (1, 1), expected arrays of numbers",
    ),
    "an activity Hessian that overflows": (
        lambda: pctheory.activity_hessian_spectrum(pctheory.LinearPCN([W1, 1e200 * W2])),
        FloatingPointError,
        "activity_hessian_spectrum: the result holds inf",
    ),
    "a diagonal part that overflows": (
        lambda: pctheory.activity_hessian_spectrum(pctheory.LinearPCN([W1, 1e200 * W2]), "diagonal"),
        FloatingPointError,
        "activity_hessian_spectrum: the result holds inf",
    ),
    "maps that overflow": (
        lambda: pctheory.activity_hessian_spectrum(
            pctheory.LinearPCN([W1, 1e200 * W2], scalings=[1.0, 1e200]), "diagonal"
        ),
        FloatingPointError,
        "activity_hessian_spectrum: the result holds inf",
    ),
    "a text for a record of inference": (
        lambda: pctheory.inference_descent(net(), X, Y, rate=0.1, steps=2, record=lambda *_: "text"),
        TypeError,
        "record returns 'text', expected numbers and arrays of them",
    ),
    "a text for a record of a flow": (
        lambda: dynamics.weight_flow(
            pctheory.loss,
            net(),
            X,
            Y,
            times=[0.0],
            record=lambda *_: "text",
            relative_tolerance=1e-3,
            absolute_tolerance=1e-6,
        ),
        TypeError,
        "record returns 'text', expected numbers and arrays of them",
    ),
    "a whole number of 5001 digits among numbers": (
        lambda: pctheory.log_log_fit([10**5000, 1, 2], [1.0, 2.0, 3.0]),
        TypeError,
        "x is a list, expected a list of numbers",
    ),
    "a generator for a record of learning": (
        lambda: pctheory.weight_descent(
            pctheory.loss, net(), (X[None], Y[None]), optax.sgd(0.1), record=lambda *_: (v for v in [1.0])
        ),
        TypeError,
        "record returns a generator, expected numbers and arrays of them",
    ),
    "a threshold beyond 64 bits": (
        lambda: pctheory.escape_time([0.0, 1.0], [np.inf, 0.5], threshold=2**64),
        ValueError,
        "values holds inf before it crosses",
    ),
    "a generator for an activation": (
        lambda: nonlinear.NonlinearPCN(net(), (v for v in [1.0])),
        TypeError,
        "activation is a generator, expected a function",
    ),
    "an objective that is a text": (
        lambda: pctheory.landscape_values(
            lambda *_: "text", net(), X, Y, directions=np.ones((1, 9)), axes=[X[:, 0]]
        ),
        TypeError,
        "objective returns 'text', expected a number",
    ),
    "a sparse matrix for axes": (
        lambda: pctheory.landscape_values(
            pctheory.loss, net(), X, Y, directions=np.ones((1, 9)), axes=scipy.sparse.csr_matrix([[1.0]])
        ),
        TypeError,
        "axes, direction 1 has dtype",
    ),
    "a gradient whose norm overflows": (
        lambda: pctheory.classification(net(), 1e80 * X, 1e80 * Y, OF_LOSS),
        FloatingPointError,
        "classification: the result holds",
    ),
    "records of more than double precision": (
        lambda: dynamics.divergence_step(np.ones(3, np.longdouble)),
        TypeError,
        "records holds a ndarray of shape (3,), expected arrays of numbers",
    ),
    "records that are keys": (
        lambda: dynamics.divergence_step(jax.random.split(jax.random.key(0))),
        TypeError,
        "records holds a PRNGKeyArray of shape (2,), expected arrays of numbers",
    ),
    "a width that is an array": (
        lambda: pctheory.mupc((np.ma.masked_array(np.ones((3, 2)), mask=np.eye(3, 2)), 3, 1), seed=0),
        ValueError,
        "widths, layer 0 is a MaskedArray of shape (3, 2), expected a whole number of at least 1",
    ),
    "targets beyond double precision": (
        lambda: saddles.exact_classification([[[1]], [[1]]], [[1]], [[10**400]]),
        FloatingPointError,
        "exact_classification: a derivative is beyond double precision",
    ),
    "a sparse matrix for the least value": (
        lambda: saddles.exact_classification([[[1]], [[1]]], [[1]], [[1]], least=scipy.sparse.csr_matrix([[1.0]])),
        TypeError,
        "least is a csr_matrix of shape (1, 1), expected a number",
    ),
    "a width beyond double precision": (
        lambda: pctheory.mupc([10**400, 3, 1], seed=0),
        MemoryError,
        "weights: more than 1e308 numbers need more than 1e20 GiB",
    ),
    "a key of JAX among times": (
        lambda: pctheory.escape_time([jax.random.key(0)], [1.0], threshold=0.5),
        TypeError,
        "times is a list, expected an array of numbers",
    ),
    "directions whose squares are 0": (
        lambda: pctheory.landscape_field(
            pctheory.loss, net(), X, Y, directions=np.full((1, 9), 1e-200), axes=[np.ones(1)]
        ),
        ValueError,
        "directions are too short for their squares",
    ),
    "a batch of other columns": (
        lambda: pctheory.coordinate_check(
            lambda size, seed: pctheory.standard((2, size, 1), seed=seed), (2, 3), (Y, X), seeds=(0, 1)
        ),
        ValueError,
        "batch, x has 1 columns, expected N_0 = 2; rows are examples",
    ),
    "a list too deep for a rate": (
        lambda: dynamics.Inference(reduce(lambda a, _: [a], range(200), 1.0), steps=2),
        ValueError,
        "rate is",
    ),
    "a sparse matrix among steps": (
        lambda: learnt(at=[scipy.sparse.csr_matrix([[1.0]])], steps=2),
        ValueError,
        "at holds a csr_matrix of shape (1, 1), expected",
    ),
    "a sparse matrix for widths": (
        lambda: pctheory.mupc(scipy.sparse.csr_matrix([[1.0]]), seed=0),
        ValueError,
        "widths is ",
    ),
    "inputs whose Hessian overflows": (
        lambda: pctheory.weight_directions(unseeing(), with_entry(X, -1e300), Y, damping=1e300),
        FloatingPointError,
        "weight_directions: the result holds",
    ),
    "a curvature that is no text": (
        lambda: pctheory.taylor_model(net(), X, Y, curvature=np.zeros(3, dtype=[("a", float)])),
        TypeError,
        "curvature is a ndarray of shape (3,), expected a text",
    ),
    "a key of JAX for a matrix": (
        lambda: pctheory.enclosed_extremes(jax.random.key(0)),
        TypeError,
        "enclosed_extremes: matrix is a PRNGKeyArray of shape (), expected numbers, n x n",
    ),
}
WIDE = 1_000_000
OF_LOSS = Derivatives(pctheory.loss, pctheory.weight_gradient, pctheory.weight_hessian_dense)


def wide_hidden() -> pctheory.LinearPCN:
    return pctheory.LinearPCN([np.ones((WIDE, 2)), np.ones((1, WIDE))])


def wide_output() -> pctheory.LinearPCN:
    return pctheory.LinearPCN([np.ones((2, 2)), np.ones((WIDE, 2))])


def learnt(**options: object) -> object:
    rule = pctheory.backpropagation_rule
    return pctheory.weight_descent_snapshots(rule, wide_hidden(), (X[None], Y[None]), optax.sgd(0.1), **options)


# What would not fit into any machine's memory is refused before it is tried.
MEMORY: dict[str, tuple[Callable[[], object], str]] = {
    "weights": (
        lambda: pctheory.standard((WIDE, WIDE), seed=0),
        "weights: 1000000000000 numbers need 7450.6 GiB",
    ),
    "rescaling": (lambda: pctheory.rescaling(wide_output()), "output_maps: 1000000 x 1000004 numbers need"),
    "equilibrium": (
        lambda: pctheory.equilibrium(wide_output(), X, np.ones((4, WIDE))),
        "output_maps: 1000000 x 1000004 numbers need",
    ),
    "gradient at equilibrium": (
        lambda: pctheory.equilibrated_gradient(wide_output(), X, np.ones((4, WIDE))),
        "output_maps: 1000000 x 1000004 numbers need",
    ),
    "equilibrium with decay": (
        lambda: pctheory.equilibrium_with_decay(wide_hidden(), X, Y, 0.1),
        "equilibrium_with_decay: 1000000000000 numbers need",
    ),
    "blocks": (
        lambda: pctheory.activity_hessian_blocks(wide_hidden()),
        "activity_hessian_blocks: 1000000000000 numbers need",
    ),
    "Fisher metric": (
        lambda: pctheory.fisher_metric(wide_output(), X),
        "fisher_metric: 1 x 1000000 x 1000000 numbers need",
    ),
    "part of the Fisher metric": (
        lambda: pctheory.fisher_metric(wide_hidden(), X).target_part(),
        "FisherMetric.target_part: 1 x 1000000 x 1000000 numbers need",
    ),
    "Hessian at the origin": (
        lambda: pctheory.equilibrated_hessian_at_origin(pctheory.origin(wide_hidden()), X, Y).kernel,
        "StructuredHessian.kernel: 1000000 x 1000000 numbers need",
    ),
    "random directions": (
        lambda: pctheory.random_directions(wide_hidden(), WIDE, seed=0),
        "count of directions: 1000000 x 3000000 numbers need",
    ),
    "plane": (
        lambda: pctheory.landscape_values(
            pctheory.loss, wide_hidden(), X, Y, directions=np.ones((1, 3 * WIDE)), axes=[np.arange(1.0 * WIDE)]
        ),
        "a row of the grid, with weights: 1000000 x 3000000 numbers need",
    ),
    "starts of a search": (
        lambda: pctheory.critical_point_search(net(), X, Y, OF_LOSS, starts=10**12, seed=0),
        "critical_point_search: starts x weights: 1000000000000 x 9 numbers need",
    ),
    "Hessians of a search": (
        lambda: pctheory.critical_point_search(wide_hidden(), X, Y, OF_LOSS, starts=2, seed=0),
        "critical_point_search: a Hessian: 3000000 x 3000000 numbers need",
    ),
    "exact derivatives": (
        lambda: pctheory.exact_derivatives([np.ones((20_000, 1), int), np.ones((1, 20_000), int)], [[1]], [[1]]),
        "exact_derivatives: 16 x 40000 x 40000 numbers need",
    ),
    "chain of a law": (
        lambda: pctheory.activity_hessian_law(pctheory.RandomChain((2,) * WIDE, (1.0,) * (WIDE - 1))),
        "activity_hessian_law: 999999 x 999998 numbers need",
    ),
    "snapshots": (
        lambda: learnt(at=range(WIDE), steps=WIDE),
        "weight_descent_snapshots: networks x weights: 1000000 x 3000000 numbers need",
    ),
    "records": (
        lambda: pctheory.inference_descent(net(), X, Y, rate=0.1, steps=10**13),
        "records: steps x numbers in one: 10000000000000 x 1 numbers need",
    ),
    "records of learning": (
        lambda: pctheory.weight_descent(
            pctheory.loss, net(), (X[None], Y[None]), optax.sgd(0.1), record=pctheory.loss, steps=10**13
        ),
        "records: steps x numbers in one: 10000000000000 x 1 numbers need",
    ),
    "a dense Hessian": (
        lambda: pctheory.activity_hessian_dense(wide_hidden()),
        "activity_hessian_dense: 1000000 x 1000000 numbers need 7450.6 GiB",
    ),
}


@pytest.mark.parametrize(("call", "error", "text"), (BUILD | CALL).values(), ids=(BUILD | CALL).keys())
def test_message(call: Callable[[], object], error: type[Exception], text: str):
    with pytest.raises(error) as raised:
        call()
    message = str(raised.value)
    assert message.startswith(text) or text in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("infer", "name"),
    [
        (partial(nonlinear.inference_descent, rate=0.1), "steps"),
        (partial(nonlinear.inference_by_halving, rate=0.1), "steps"),
        (partial(nonlinear.inference_to_stationarity, allow_unfinished=True), "max_steps"),
    ],
)
def test_whole_numbers_of_numpy_count(infer: Callable[..., nonlinear.Inferred], name: str):
    given = nonlinear.NonlinearPCN(net(), jax.numpy.tanh), X, Y
    one, other = (infer(*given, **{name: count}) for count in (2, np.int64(2)))
    np.testing.assert_array_equal(one.activities[0], other.activities[0])


def test_what_is_expected_is_said_once():
    with pytest.raises(TypeError, match=r"^part is 3, expected a text$"):
        pctheory.activity_hessian_spectrum(net(), 3)


def test_fractions_and_whole_numbers_of_any_size_are_numbers():
    assert pctheory.mupc((2, 3, 1), seed=0, gamma=2**64).scalings[-1] == 2.0**-64 / 3
    assert pctheory.ntp((2, 4, 1), seed=0, gamma=Fraction(1, 2)).scalings[-1] == 1.0
    assert pctheory.ntp((2, 4, 1), seed=0, output_precision=2**64).precisions[-1] == 2.0**64
    one, other = (pctheory.equilibrium_with_decay(net(), X, Y, decay) for decay in (0.25, Fraction(1, 4)))
    assert one.energy == other.energy
    matrix = [[2.0, 1.0], [1.0, 0.0]]
    low, _ = pctheory.enclosed_extremes(matrix, goal=Fraction(1, 2))
    assert low.overlaps(pctheory.enclosed_extremes(matrix, goal=1e-9)[0])


CHAIN = random_matrix.RandomChain((4, 4, 4), (0.25, 0.25))
WITH_A_FLOAT: dict[str, Callable[[float], object]] = {
    "width": lambda v: pctheory.spectral_density(np.eye(3), points=np.zeros(2), width=v).density,
    "variance": lambda v: pctheory.standard((2, 3, 1), seed=0, variance=v).weights,
    "decay": lambda v: pctheory.activity_hessian_spectrum(net(), decay=v),
    "level": lambda v: pctheory.log_log_fit([1.0, 2.0, 4.0], [1.0, 2.5, 4.0], level=v),
    "tolerance of a law": lambda v: random_matrix.activity_hessian_law(CHAIN, tolerance=v / 2**32).densities,
    "tolerance of inference": lambda v: (
        nonlinear.inference_to_stationarity(
            nonlinear.NonlinearPCN(net(), jax.numpy.tanh), X, Y, tolerance=v / 2**10
        ).activities
    ),
}


@pytest.mark.parametrize("call", WITH_A_FLOAT.values(), ids=WITH_A_FLOAT.keys())
def test_fractions_do_where_floats_are_asked_for(call: Callable[[float], object]):
    one, other = call(0.25), call(Fraction(1, 4))
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), one, other))


def test_only_what_is_asked_for_as_a_float_becomes_one():
    @public
    def given(a: float, b: object, *, c: float | None = None) -> tuple[object, ...]:
        return a, b, c

    half = Fraction(1, 2)
    found = given(half, half, c=half)
    assert found == (0.5, half, 0.5)
    assert [type(value) for value in found] == [float, Fraction, float]
    assert [type(value) for value in given(2, 2**70, c=half)] == [int, int, float]


@pytest.mark.parametrize(("call", "text"), MEMORY.values(), ids=MEMORY.keys())
def test_what_does_not_fit_is_refused_beforehand(call: Callable[[], object], text: str):
    with pytest.raises(MemoryError) as raised:
        call()
    assert str(raised.value).startswith(text)
    assert "more than this machine's" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_single_precision_jax(run_python):
    """With x64 off, float64 input would silently become single precision; it is refused instead."""
    printed = run_python(
        "import numpy, pctheory\n"
        "for make in (lambda: pctheory.LinearPCN([numpy.ones((2, 2))]), lambda: pctheory.mupc((2, 2), seed=0)):\n"
        "    try: make()\n"
        "    except TypeError as error: print(error)\n"
    )
    assert printed.splitlines() == [
        "weights, layer 1: JAX is in single precision; call pctheory.enable_x64() first",
        "weights: JAX is in single precision; call pctheory.enable_x64() first",
    ]


def test_nothing_is_changed_in_place():
    """Input arrays are copied, so a later change of theirs does not reach the network."""
    w = W1.copy()
    made = pctheory.LinearPCN([w, W2])
    w[0, 0] = 77.0
    assert made.weights[0][0, 0] == 1.0
