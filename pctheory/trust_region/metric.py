r"""The Fisher metric of the generative model in its hidden activities, example by example.

The model p(z, y | x) is the Gaussian chain z_l = f_l(z_{l-1}) + noise of variance 1/pi_l, with z_L = y. Linearised
at given activities, with J_l = df_l/dz_{l-1} there,

    I = A^T Pi A,     A has I in its blocks (l, l) and -J_l in (l, l-1), l = 1..L, over the hidden columns.

It is -E over y given z of the Hessian of log p where the hidden errors vanish, as at the feedforward activities,
and the Gauss-Newton matrix of the energy everywhere. In a linear network it is the activity Hessian H_z.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, ArrayLike, Float

from ..arguments import public
from ..arrays import on_device
from ..energy import Activities
from ..network import (
    Layer,
    Layers,
    LinearPCN,
    double_array,
    finite_result,
    refuse_too_large,
    scan_layers,
    without_first,
)
from ..nonlinear import NonlinearPCN, _linearised, _pulled, _skipped, _weighted
from .activities import Network, as_nonlinear, start_activities


class FisherMetric(eqx.Module):
    r"""I = A^T Pi A of each example, never formed. Made by `fisher_metric`.

    slopes: phi' of what each layer's weights see, in one row per example, or in a single row that serves all
    vectors, as in a linear network. factor: the triangular R of each S = sum_l P_l P_l^T / pi_l = R^T R.
    Symmetric positive definite. Per example: no 1/B.
    """

    net: LinearPCN
    slopes: Layers
    factor: Float[Array, "examples d_y d_y"]

    @public
    def product(self, vectors: Activities) -> Layers:
        """I v for each row v. Twin: `dense`. Cost: two passes, O(L N^2) a row."""
        return finite_result("FisherMetric.product", _product(self, self._rows(vectors)))

    @public
    def solve(self, vectors: Activities) -> Layers:
        r"""I^-1 v by sweeps: with lambda_l = v_l + J_{l+1}^T lambda_{l+1} and lambda_L = q,

            u_l = J_l u_{l-1} + lambda_l / pi_l,   q such that u_L = 0:   S q = -(u_L reached with q = 0).

        Twin: a dense solve. Cost: four passes, O(L N^2) a row. Error: about eps cond(I).
        """
        return finite_result("FisherMetric.solve", _solve(self, self._rows(vectors)))

    def blocks(self) -> tuple[list[Float[Array, "examples _ _"]], list[Float[Array, "examples _ _"]]]:
        r"""The diagonal blocks pi_l I + pi_{l+1} J_{l+1}^T J_{l+1}, and those below them, -pi_{l+1} J_{l+1}."""
        examples = len(self.factor)
        largest = max(self.net.widths[1:])
        refuse_too_large(
            "FisherMetric.blocks", (examples, self.net.depth, largest, largest), "use product and solve"
        )
        diagonal, below = finite_result("FisherMetric.blocks", _blocks(self))
        return list(diagonal), list(below)[:-1]

    def target_part(self) -> Float[Array, "examples n n"]:
        """pi_L J_L^T J_L, of rank d_y at most: what y alone tells of the last hidden layer; in that block."""
        shape = (len(self.factor), self.net.widths[-2], self.net.widths[-2])
        refuse_too_large("FisherMetric.target_part", shape, "use product")
        j = _jacobian(jax.tree.map(lambda a: a[-1], self.net.runs[-1]), self.slopes[-1])
        return finite_result("FisherMetric.target_part", self.net.precisions[-1] * jnp.swapaxes(j, 1, 2) @ j)

    def dense(self) -> Float[Array, "examples activities activities"]:
        """One matrix over (z_1, .., z_H) for each example: the slow twin. MemoryError where they would not fit."""
        stops = np.cumsum([0, *self.net.widths[1:-1]]).tolist()
        shape = (len(self.factor), stops[-1], stops[-1])
        refuse_too_large("FisherMetric.dense", shape, "use product and solve")
        diagonal, below = self.blocks()
        dense = np.zeros(shape)
        for l, block in enumerate(diagonal):
            dense[:, stops[l] : stops[l + 1], stops[l] : stops[l + 1]] = block
        for l, block in enumerate(below):
            dense[:, stops[l + 1] : stops[l + 2], stops[l] : stops[l + 1]] = block
            dense[:, stops[l] : stops[l + 1], stops[l + 1] : stops[l + 2]] = np.swapaxes(block, 1, 2)
        return on_device(dense)

    def _rows(self, vectors: Activities) -> Layers:
        examples = len(self.factor)
        if examples > 1:
            return self.net.hidden(vectors, examples, "vectors")
        vectors = vectors if isinstance(vectors, Layers) else list(vectors)
        rows = len(double_array(vectors[0], "vectors, layer 1", ndim=2)) if len(vectors) else 1
        return self.net.hidden(vectors, rows, "vectors")


@public
def fisher_metric(net: Network, x: ArrayLike, *, at: Activities | None = None) -> FisherMetric:
    r"""The metric at the hidden activities `at`, by default those of the feedforward pass from `x`.

    Raises ValueError at depth 1, and FloatingPointError where the activation has no finite derivative.
    Source: trust-region-2023/fisher. Cost: d_y passes, and a QR of (d_y + N_l) x d_y for each layer and example; a
    `LinearPCN` has one metric for all examples.
    """
    nonlinear = as_nonlinear(net)
    x = nonlinear.linear.inputs(x)
    hidden = start_activities(nonlinear, x, at)
    if isinstance(net, LinearPCN):
        slopes = Layers(tuple(on_device(np.ones((len(run), 1, run.shape[2]))) for run in net.weights.runs))
    else:
        unseen = jnp.zeros((len(x), net.widths[-1]))
        slopes = finite_result("fisher_metric", _linearised(net, hidden, (x, unseen)).slopes)
    return finite_result("fisher_metric", metric_of_slopes(nonlinear, slopes))


@eqx.filter_jit
def metric_of_slopes(net: NonlinearPCN, slopes: Layers) -> FisherMetric:
    """The metric, its factor brought up to date layer by layer. Differentiating it is left undone."""
    examples, d_y = slopes.runs[-1].shape[1], net.widths[-1]
    refuse_too_large("fisher_metric", (examples, d_y, max(net.widths)), "take fewer examples or outputs")

    def step(above: tuple[Array, Array], layer: Layer, slope: Array) -> tuple[tuple[Array, Array], None]:
        p, r = above
        rows = jnp.concatenate([r, jnp.swapaxes(p, 1, 2) / jnp.sqrt(layer.precision)], axis=1)
        return (_pulled(layer, slope[:, None, :], p), jnp.linalg.qr(rows, mode="r")), None

    nothing = jnp.zeros((examples, d_y, d_y))
    (_, factor), _ = scan_layers(net.linear.runs, step, (nothing + jnp.eye(d_y), nothing), slopes, reverse=True)
    return FisherMetric(net.linear, slopes, factor)


def _applied(layer: Layer, slope: Array, v: Array) -> Array:
    """J v for each row v."""
    return _weighted(layer, slope * v) + _skipped(layer, v)


def _jacobian(layer: Layer, slope: Array) -> Float[Array, "examples out in"]:
    return _pulled(layer, slope[:, None, :], jnp.eye(layer.weight.shape[0]))


@eqx.filter_jit
def _product(metric: FisherMetric, vectors: Layers) -> Layers:
    rows, net = vectors.runs[0].shape[1], metric.net
    clamped = vectors.appended(jnp.zeros((rows, net.widths[-1])), net.weights.lengths)

    def up(below: Array, layer: Layer, slope: Array, v: Array) -> tuple[Array, Array]:
        return v, layer.precision * (v - _applied(layer, slope, below))

    def down(pull: Array, layer: Layer, slope: Array, force: Array) -> tuple[Array, Array]:
        return _pulled(layer, slope, force), force - pull

    _, forces = scan_layers(net.runs, up, jnp.zeros((rows, net.widths[0])), metric.slopes, clamped)
    return scan_layers(net.runs, down, jnp.zeros_like(forces[-1]), metric.slopes, forces, reverse=True)[
        1
    ].without_last()


@eqx.filter_jit
def _solve(metric: FisherMetric, vectors: Layers) -> Layers:
    rows, net = vectors.runs[0].shape[1], metric.net
    d_y = net.widths[-1]
    sources = vectors.appended(jnp.zeros((rows, d_y)), net.weights.lengths)

    def down(above: Array, layer: Layer, slope: Array, v: Array) -> tuple[Array, Array]:
        force = v + above
        return _pulled(layer, slope, force), force

    def up(below: Array, layer: Layer, slope: Array, force: Array) -> tuple[Array, Array]:
        u = _applied(layer, slope, below) + force / layer.precision
        return u, u

    def swept(q: Array) -> tuple[Array, Layers]:
        forces = scan_layers(net.runs, down, q, metric.slopes, sources, reverse=True)[1]
        return scan_layers(net.runs, up, jnp.zeros((rows, net.widths[0])), metric.slopes, forces)

    missed, _ = swept(jnp.zeros((rows, d_y)))
    columns = jnp.swapaxes(-missed.reshape(len(metric.factor), -1, d_y), 1, 2)  # one factor may serve all rows
    q = jax.vmap(lambda r, b: solve_triangular(r, solve_triangular(r, b, trans="T")))(metric.factor, columns)
    return swept(jnp.swapaxes(q, 1, 2).reshape(rows, d_y))[1].without_last()


@eqx.filter_jit
def _blocks(metric: FisherMetric) -> tuple[Layers, Layers]:
    def step(pi_below: Array, layer: Layer, slope: Array) -> tuple[Array, tuple[Array, Array]]:
        j = _jacobian(layer, slope)
        own = pi_below * jnp.eye(j.shape[2])
        return layer.precision, (own + layer.precision * jnp.swapaxes(j, 1, 2) @ j, -layer.precision * j)

    upper = without_first(metric.net.runs)
    slopes = Layers(without_first(metric.slopes.runs))
    return scan_layers(upper, step, metric.net.precisions[0], slopes)[1]
