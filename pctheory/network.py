r"""The one object: a linear predictive-coding network.

Defined here
    Layers      per-layer arrays, consecutive equal shapes stacked so that `jax.lax.scan` can run over them
    Layer       one layer: its map A = a W + s I, its bias c and its precision pi
    LinearPCN   the chain of layers; immutable, a JAX pytree
    standard, ntp, mupc   the parameterisations, as constructors
    scan_layers           the one loop over the chain, forwards or backwards

Notation
    layers l = 1..L, widths N_0 = d_x, N_1..N_H, N_L = d_y, H = L - 1 hidden layers,
    A_l = a_l W_l + s_l I, and  A_l z_{l-1} + c_l  is the prediction of layer l. Rows of a batch are examples.

Reference: F. Innocenti, arXiv 2510.23323; parameterisations: arXiv 2505.13124, table 1.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice, pairwise
from typing import Any, TypeVar, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .arguments import public
from .arguments import refuse_too_large as refuse_too_large
from .arrays import (
    all_on_device,
    as_float,
    by_numpy,
    checked_array,
    double_arrays,
    entries,
    entry,
    own_array,
    stacked,
    with_last,
)
from .arrays import double_array as double_array
from .arrays import finite_result as finite_result
from .arrays import is_concrete as is_concrete
from .initialisation import Initialisation, Seed, check_widths, random_weights
from .initialisation import Scalar as Scalar

Carry = TypeVar("Carry")
Run = TypeVar("Run")


class Layers(eqx.Module):
    """A sequence of per-layer arrays, read like a tuple; consecutive equal shapes are stacked.

    `layers[0]` belongs to layer 1. The stacks keep the cost of compiling a sweep independent of depth.
    """

    runs: tuple[Float[Array, "..."], ...]

    @classmethod
    def of(cls, arrays: Iterable[ArrayLike], lengths: Sequence[int] | None = None) -> "Layers":
        """Stack the per-layer `arrays`: in runs of these `lengths`, by default of equal shape."""
        return cls(tuple(all_on_device(_stacks(list(arrays), lengths))))

    @property
    def lengths(self) -> tuple[int, ...]:
        """The number of layers in each stack."""
        return tuple(run.shape[0] for run in self.runs)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each layer's array."""
        return [run.shape[1:] for run in self.runs for _ in range(run.shape[0])]

    def appended(self, last: Array, lengths: Sequence[int]) -> "Layers":
        """One layer more, in stacks of these `lengths`."""
        if len(lengths) > len(self.runs):
            return Layers((*self.runs, last[None]))
        return Layers((*self.runs[:-1], jnp.concatenate([self.runs[-1], last[None]])))

    def restacked(self, lengths: Sequence[int]) -> "Layers":
        """The same layers in stacks of these `lengths`. Cost: a copy; its compilation does not grow with depth."""
        runs, pieces = list(self.runs), []
        for length in lengths:
            parts, missing = [], length
            while missing:
                run = runs.pop(0)
                parts.append(run[:missing])
                if run.shape[0] > missing:
                    runs.insert(0, run[missing:])
                missing -= parts[-1].shape[0]
            pieces.append(jnp.concatenate(parts))
        return Layers(tuple(pieces))

    def without_last(self) -> "Layers":
        """All layers but the last."""
        *runs, last = self.runs
        return Layers((*runs, last[:-1]) if last.shape[0] > 1 else tuple(runs))

    def __len__(self) -> int:
        return sum(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Array: ...
    @overload
    def __getitem__(self, index: slice) -> list[Array]: ...
    def __getitem__(self, index: int | slice) -> Array | list[Array]:
        if isinstance(index, slice):
            return list(self)[index]
        position = range(len(self))[index]  # negative indices and IndexError as in a tuple
        for run in self.runs:
            if position < run.shape[0]:
                return entry(run, position)
            position -= run.shape[0]
        raise AssertionError("unreachable: the position was checked against the length")

    def __iter__(self) -> Iterator[Array]:
        return iter(entries((run, i) for run in self.runs for i in range(run.shape[0])))


def _stacks(arrays: Sequence[ArrayLike], lengths: Sequence[int] | None = None) -> list[Any]:
    """As `Layers.of`, of NumPy where it has the values."""
    lengths = lengths or [len(list(run)) for _, run in groupby(arrays, key=np.shape)]
    rest = iter(arrays)
    return [stacked(list(islice(rest, length))) for length in lengths]


class Layer(eqx.Module):
    """One layer, or a stack of layers when every field has a leading axis. Batches hold examples in rows."""

    weight: Float[Array, "*stack out in"]
    scaling: Float[Array, "*stack"]
    skip: Float[Array, "*stack"]
    bias: Float[Array, "*stack out"]
    precision: Float[Array, "*stack"]

    @property
    def matrix(self) -> Float[Array, "out in"]:
        """The map A = a W + s I."""
        scaled = self.scaling * self.weight
        return scaled + self.skip * jnp.eye(len(scaled)) if self._is_square else scaled

    def applied(self, z: Float[Array, "rows in"]) -> Float[Array, "rows out"]:
        """A z for each row z."""
        image = self.scaling * (z @ self.weight.T)
        return image + self.skip * z if self._is_square else image

    def transposed(self, v: Float[Array, "rows out"]) -> Float[Array, "rows in"]:
        """A^T v for each row v."""
        image = self.scaling * (v @ self.weight)
        return image + self.skip * v if self._is_square else image

    def predicted(self, z: Float[Array, "rows in"]) -> Float[Array, "rows out"]:
        """A z + c for each row z."""
        return self.applied(z) + self.bias

    @property
    def _is_square(self) -> bool:
        return self.weight.shape[-1] == self.weight.shape[-2]


class LinearPCN(eqx.Module):
    r"""A chain of linear maps with precisions; everything pctheory states is a consequence of it.

        A_l = a_l W_l + s_l I,    F(z) = mean over the batch of sum_l (pi_l / 2) |z_l - A_l z_{l-1} - c_l|^2

    with z_0 = x and z_L = y clamped. Immutable; all fields are leaves of the pytree, so it passes through
    `jit`, `vmap` and `grad`. Validation runs here only, never when JAX rebuilds the tree.

    Raises: TypeError and ValueError that name the argument and the layer, counted from 1.
    """

    weights: Layers
    scalings: Float[Array, " depth"]
    skips: Float[Array, " depth"]
    biases: Layers
    precisions: Float[Array, " depth"]

    @public
    def __init__(
        self,
        weights: Iterable[ArrayLike],
        *,
        scalings: ArrayLike | Sequence[float] | None = None,
        skips: ArrayLike | Sequence[float] | None = None,
        biases: Iterable[ArrayLike] | None = None,
        precisions: ArrayLike | Sequence[float] | None = None,
    ):
        if isinstance(weights, Layers):
            matrices: list[Any] = [own_array(run, "weights", ndim=3) for run in weights.runs]
        else:
            items = enumerate(weights, start=1)
            matrices = _stacks([checked_array(w, f"weights, layer {l}", ndim=2) for l, w in items])
        lengths = [len(run) for run in matrices]
        depth = sum(lengths)
        if depth == 0:
            raise ValueError("weights is empty; a network needs at least one layer")
        numbers = [
            own_array(np.full(depth, default) if given is None else given, name, ndim=1)
            for name, given, default in (
                ("scalings", scalings, 1.0),
                ("skips", skips, 0.0),
                ("precisions", precisions, 1.0),
            )
        ]
        if biases is None:
            offsets: list[Any] = [np.zeros(run.shape[:2]) for run in matrices]
        else:
            vectors = [checked_array(c, f"biases, layer {l}", ndim=1) for l, c in enumerate(biases, start=1)]
            if len(vectors) != depth:
                raise ValueError(f"biases has {len(vectors)} entries, expected {depth}: one per layer")
            rows = [run.shape[1:2] for run in matrices for _ in range(len(run))]
            for l, (vector, shape) in enumerate(zip(vectors, rows, strict=True), start=1):
                if vector.shape != shape:
                    raise ValueError(f"biases, layer {l} has shape {vector.shape}, expected {shape}")
            offsets = _stacks(vectors, lengths)
        self.scalings, self.skips, self.precisions, *runs = all_on_device([*numbers, *matrices, *offsets])
        self.weights, self.biases = Layers(tuple(runs[: len(lengths)])), Layers(tuple(runs[len(lengths) :]))

    def __check_init__(self) -> None:
        shapes = self.weights.shapes
        for l, (below, above) in enumerate(pairwise(shapes), start=2):
            if above[1] != below[0]:
                raise ValueError(
                    f"weights, layer {l} has shape {above}, expected (any, {below[0]}): "
                    f"layer {l - 1} has {below[0]} rows; transpose or resize one of them"
                )
        for name in ("scalings", "skips", "precisions"):
            if getattr(self, name).shape != (self.depth,):
                raise ValueError(
                    f"{name} has shape {getattr(self, name).shape}, expected ({self.depth},): one per layer"
                )
        if is_concrete(self.precisions) and (bad := np.flatnonzero(np.asarray(self.precisions) <= 0)).size:
            raise ValueError(
                f"precisions, layer {bad[0] + 1} is {self.precisions[bad[0]]}, expected a positive number"
            )
        if is_concrete(self.skips):
            for l, (skip, shape) in enumerate(zip(np.asarray(self.skips), shapes, strict=True), start=1):
                if skip and shape[0] != shape[1]:
                    raise ValueError(
                        f"skips, layer {l} is {skip} but its weights have shape {shape}; "
                        "a skip needs equal widths: set it to 0 or make the layer square"
                    )

    @property
    def depth(self) -> int:
        """L, the number of weight layers."""
        return len(self.weights)

    @property
    def widths(self) -> tuple[int, ...]:
        """(N_0 = d_x, N_1, ..., N_L = d_y)."""
        return (self.weights.runs[0].shape[2], *(rows for rows, _ in self.weights.shapes))

    @property
    def hidden_lengths(self) -> tuple[int, ...]:
        """How many hidden layers each stack holds."""
        *lengths, last = self.weights.lengths
        return (*lengths, last - 1) if last > 1 else tuple(lengths)

    @property
    def runs(self) -> tuple[Layer, ...]:
        """The layers, consecutive equal shapes stacked."""
        stops = np.cumsum([0, *self.weights.lengths]).tolist()
        numbers = self.scalings, self.skips, self.precisions
        parts = iter(entries([(of_layer, slice(*ends)) for ends in pairwise(stops) for of_layer in numbers]))
        return tuple(
            Layer(w, a, s, c, pi)
            for w, c, (a, s, pi) in zip(
                self.weights.runs, self.biases.runs, zip(parts, parts, parts, strict=True), strict=True
            )
        )

    @property
    def maps(self) -> Layers:
        """The maps A_l. Cost: a copy of the weights; sweeps apply them without forming them."""
        return Layers(tuple(all_on_device([by_numpy(_matrices, (r.weight, r.scaling, r.skip)) for r in self.runs])))

    def with_weights(self, weights: Layers) -> "LinearPCN":
        """The same network with other weights, stacked as these; no validation, for use inside `grad`."""
        return eqx.tree_at(lambda net: net.weights, self, weights)

    def hidden(self, activities: Layers | Iterable[ArrayLike], rows: int, name: str = "activities") -> Layers:
        """`activities` z_1..z_H, checked to be finite with `rows` examples each, stacked like the weights."""
        given = (
            Layers(tuple(double_array(run, name, ndim=3) for run in activities.runs))
            if isinstance(activities, Layers)
            else [checked_array(z, f"{name}, layer {l}", ndim=2) for l, z in enumerate(activities, start=1)]
        )
        expected = [(rows, width) for width in self.widths[1:-1]]
        if len(given) != len(expected):
            raise ValueError(f"{name} has {len(given)} layers, expected {len(expected)}: the hidden ones only")
        shapes = given.shapes if isinstance(given, Layers) else [z.shape for z in given]
        for l, (shape, wanted) in enumerate(zip(shapes, expected, strict=True), start=1):
            if shape != wanted:
                raise ValueError(f"{name}, layer {l} has shape {shape}, expected {wanted}: (examples, width)")
        if not isinstance(given, Layers):
            return Layers.of(given, self.hidden_lengths)
        return given if given.lengths == self.hidden_lengths else given.restacked(self.hidden_lengths)

    def inputs(self, x: ArrayLike) -> Float[Array, "batch d_x"]:
        """`x` as a checked batch: float64, finite, one row per example."""
        x = double_array(x, "x", ndim=2)
        require_columns(x, "x", "N_0", self.widths[0])
        return x

    def batch(self, x: ArrayLike, y: ArrayLike) -> tuple[Float[Array, "batch d_x"], Float[Array, "batch d_y"]]:
        """`x` and `y` as checked batches: float64, finite, one row per example, widths N_0 and N_L."""
        x, y = double_arrays({"x": x, "y": y}, ndim=2)
        widths = self.widths
        require_columns(x, "x", "N_0", widths[0])
        require_columns(y, "y", "N_L", widths[-1])
        if len(x) != len(y):
            raise ValueError(f"x has {len(x)} rows and y has {len(y)}; expected one row of each per example")
        return x, y


def _matrices(xp: Any, parts: Sequence[Any]) -> Any:
    """The maps of a stack of layers, as `Layer.matrix` is one."""
    weight, scaling, skip = parts
    scaled = scaling[:, None, None] * weight
    rows, columns = weight.shape[1:]
    return scaled + skip[:, None, None] * xp.eye(rows) if rows == columns else scaled


def require_columns(array: Array, name: str, symbol: str, width: int) -> None:
    """Raises ValueError unless `array` has `width` columns."""
    if array.shape[1] != width:
        raise ValueError(f"{name} has {array.shape[1]} columns, expected {symbol} = {width}; rows are examples")


def scan_layers(
    runs: Sequence[Layer],
    step: Callable[..., tuple[Carry, Any]],
    carry: Carry,
    *extras: Layers,
    reverse: bool = False,
) -> tuple[Carry, Any]:
    """Apply `step(carry, layer, *extra) -> (carry, output)` to every layer in turn; stack the outputs.

    `runs` are stacks of layers (`LinearPCN.runs`), `extras` per-layer arrays stacked alike. Returns the last
    carry and the outputs, each as `Layers` in the order of the layers whichever way the loop runs.
    Cost: each stack is compiled once, whatever its length.
    """
    items = list(zip(runs, *(extra.runs for extra in extras), strict=True))
    outputs = []
    for run, *extra in reversed(items) if reverse else items:
        stacked = (run, *extra)
        if run.scaling.shape[0] == 1:  # the carry may change its width here, which a scan does not allow
            carry, output = step(carry, *jax.tree.map(lambda a: a[0], stacked))
            output = jax.tree.map(lambda a: a[None], output)
        else:
            carry, output = jax.lax.scan(lambda c, xs: step(c, *xs), carry, stacked, reverse=reverse)
        outputs.append(output)
    if reverse:
        outputs.reverse()
    return carry, jax.tree.map(lambda *parts: Layers(parts), *outputs)


def without_first(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The stacks of layers 2..L, be they of `Layer`s or of arrays."""
    first, *rest = runs
    alone = len(jax.tree.leaves(first)[0]) == 1
    return tuple(rest) if alone else (jax.tree.map(lambda a: a[1:], first), *rest)


@public
def standard(
    widths: Sequence[int],
    *,
    seed: Seed,
    skips: bool = False,
    initialisation: Initialisation = "gaussian",
    variance: Scalar = 1.0,
    gamma: Scalar = 1.0,
    output_precision: Scalar = 1.0,
) -> LinearPCN:
    r"""Standard parameterisation (SP): a_l = 1, entries of W_l of variance  variance / N_{l-1}.

    The papers' table has `variance=1`; the papers' code draws uniformly in +-1/sqrt(N_{l-1}), which is
    `initialisation="uniform", variance=1/3`. The two behave differently in depth. "orthogonal" draws W_l
    Haar-uniform with orthonormal rows or columns (the fewer of the two), times sqrt(variance).
    `skips` adds z_{l-1} to layers 2..L-1, `gamma` divides the output scaling, `output_precision` is pi_L.

    Raises ValueError for widths below 1, unequal hidden widths with skips, and numbers that are not positive.
    Source: mupc-2025, table 1.
    """
    weights = random_weights(widths, seed, initialisation, variance)
    return _parameterised(weights, np.ones(len(widths) - 1), skips, gamma, output_precision)


@public
def ntp(
    widths: Sequence[int],
    *,
    seed: Seed,
    skips: bool = False,
    gamma: Scalar = 1.0,
    output_precision: Scalar = 1.0,
) -> LinearPCN:
    r"""Neural tangent parameterisation: W_l standard normal, a_1 = 1/sqrt(N_0), a_L = 1/sqrt(N_{L-1}),
    hidden a_l = 1/sqrt(N_{l-1} L) with skips and 1/sqrt(N_{l-1}) without. Options as for `standard`.

    A network without hidden layer has a_1 only. Source: mupc-2025, table 1.
    """
    drawn = random_weights(widths, seed)
    return _parameterised(drawn, _ntp_scalings(widths, skips), skips, gamma, output_precision)


@public
def mupc(
    widths: Sequence[int], *, seed: Seed, skips: bool = True, gamma: Scalar = 1.0, output_precision: Scalar = 1.0
) -> LinearPCN:
    r"""muPC (Depth-muP): as `ntp`, but a_L = 1/N_{L-1}. Options as for `standard`; skips are on by default.

    A network without hidden layer has a_1 = 1/sqrt(N_0) only. Source: mupc-2025, table 1.
    """
    drawn = random_weights(widths, seed)
    scalings = _ntp_scalings(widths, skips)
    if len(widths) > 2:
        scalings[-1] = 1 / widths[-2]
    return _parameterised(drawn, scalings, skips, gamma, output_precision)


def _ntp_scalings(widths: Sequence[int], skips: bool) -> np.ndarray:
    """1/sqrt(fan-in), and with skips another 1/sqrt(L) in the layers that have one."""
    check_widths(widths, skips)
    scalings = 1 / np.sqrt(np.array(widths[:-1], dtype=float))
    if skips:
        scalings[1:-1] /= np.sqrt(len(widths) - 1)
    return scalings


def _parameterised(
    drawn: Sequence[Array], scalings: np.ndarray, skips: bool, gamma: Scalar, output_precision: Scalar
) -> LinearPCN:
    weights = Layers(tuple(drawn))
    depth = len(weights)
    check_widths((weights.shapes[0][1], *(rows for rows, _ in weights.shapes)), skips)
    for name, value in (("gamma", gamma), ("output_precision", output_precision)):
        if is_concrete(value) and not (0 < value < np.inf):
            raise ValueError(f"{name} is {value}, expected a positive finite number")
    with np.errstate(over="ignore"):
        last = scalings[-1] / np.float64(gamma) if is_concrete(gamma) else 1.0
    if not np.isfinite(last):
        raise ValueError(f"gamma is {gamma}, by which no scaling can be divided; take a larger one")
    has_skip = np.zeros(depth)
    has_skip[1:-1] = float(skips)
    return LinearPCN(
        weights,
        scalings=with_last(scalings, scalings[-1] / as_float(gamma)),
        skips=has_skip,
        precisions=with_last(np.ones(depth), as_float(output_precision)),
    )
