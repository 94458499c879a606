r"""Training at infinite width: dynamical mean-field theory of deep linear networks in the muPC scaling.

Defined here
    mean_field_descent   loss, predictions and kernels along gradient descent as the width N grows without bound
    lazy_descent         the same with the kernels of initialisation: the limit of small gamma
    MeanFieldDescent     what they return

The network is `mupc(widths, seed=seed, skips=False, gamma=gamma)`: z_l = a_l W_l z_{l-1}, a_1 = 1/sqrt(N_0),
a_l = 1/sqrt(N), a_L = 1/(gamma N), all weights standard normal. It descends the loss by full batches of B
examples at the learning rate  rate gamma^2 N,  with which a step moves the predictions by an amount free of N.

With g_l^c = gamma N df_c/dz_l, per unit of layer l, and residuals r = y - f, the rule moves W_l by
(rate gamma / sqrt N) mean_mu r_mu^c g_l^c z_{l-1,mu}^T. So, with k = rate gamma / B and all sums over s < t,

    h_l(t) = W_l(0) h_{l-1}(t) / sqrt N       + k sum  r_nu^c(s) H_{l-1}(s nu, t mu) g_l^c(s)
    g_l(t) = W_{l+1}(0)^T g_{l+1}(t) / sqrt N + k sum  r_nu^c'(s) G_{l+1}(t c, s c') h_l,nu(s)

where H_l = h_l h_l / N and G_l = g_l g_l / N stop fluctuating. The weights of initialisation act twice, forwards
and backwards: the first terms are Gaussian sources, u_l of covariance H_{l-1} and v_l of G_{l+1}, and responses

    W_l(0) h_{l-1}(t) / sqrt N       = u_l(t) + sum  (dh_{l-1}(t) / dv_{l-1}(s)) g_l(s)
    W_{l+1}(0)^T g_{l+1}(t) / sqrt N = v_l(t) + sum  (dg_{l+1}(t) / du_{l+1}(s)) h_l(s)

Fields are linear in their sources, so the kernels close on themselves; as each looks at the past only, they are
solved forward in time, without iteration. H_0 = x x^T / N_0, G_L = I, and  f(t) = h_l(t) g_l(t) / (gamma N)  for
any hidden l. Predictive coding has the same limit: its rescaling is S = I + sum_l G_l / (gamma^2 N).

Source: limits-2026/dmft (by code); the general theory is that of B. Bordelon and C. Pehlevan, arXiv 2205.09653, the
equations in discrete time as they stand here are derived for this project.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import ArrayLike, Float

from .arguments import is_whole, public, shown
from .network import double_array, finite_result, refuse_too_large

Inputs = Float[np.ndarray, "batch d_x"]
Targets = Float[np.ndarray, "batch d_y"]


@dataclass(frozen=True, eq=False)
class MeanFieldDescent:
    r"""Training at infinite width, before each of the steps 0, 1, ..

    feature_kernels: H_l(t mu, s nu) = h_l,mu(t) h_l,nu(s) / N of each hidden layer, h the activities;
    gradient_kernels: G_l(t c, s c') likewise of g_l^c = gamma N df_c/dz_l. Both are symmetric and positive
    semi-definite as matrices. losses: mean over the batch of (1/2)|y - prediction|^2.
    """

    predictions: Float[np.ndarray, "steps batch d_y"]
    losses: Float[np.ndarray, " steps"]
    feature_kernels: Float[np.ndarray, "hidden steps batch steps batch"]
    gradient_kernels: Float[np.ndarray, "hidden steps d_y steps d_y"]


@public
def mean_field_descent(
    x: ArrayLike, y: ArrayLike, *, depth: int, rate: float, steps: int, gamma: float = 1.0
) -> MeanFieldDescent:
    r"""Gradient descent on the loss at infinite width, for a network of `depth` layers: see the top of this file.

    The network's own learning rate is  rate gamma^2 N. At finite width the loss of one network is off by
    O(1/sqrt N), as its predictions at initialisation are, and its mean over networks by O(1/N).

    Raises ValueError for a depth below 2 (without hidden layer there is no width), numbers that are not positive
    and data that do not match; FloatingPointError where the descent diverges: the rate is too large.
    Source: limits-2026/dmft. Twins: iteration of the equations from all times at once; closed recursions for L = 2
    and 3; wide networks. Cost: O(L (steps (batch + d_y))^3) time, O(L (steps (batch + d_y))^2) memory.
    """
    x, y = _batch(x, y)
    _check(depth, rate, steps, gamma)
    refuse_too_large(
        "mean_field_descent",
        (depth + 1, 2, steps, steps, len(x) ** 2 + y.size + y.shape[1] ** 2),
        "take fewer steps or examples",
    )
    layers = _at_rest(_kernel("mean_field_descent", x), y.shape[1], depth, steps)
    forces, scale = np.zeros((steps, *y.shape)), rate * gamma / len(x)
    predictions = np.zeros((steps, *y.shape))
    for t in range(steps):
        when = _Moment(t, len(x), y.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):  # reported below
            for below, layer, above in zip(layers, layers[1:], layers[2:], strict=False):
                layer.advance(when, below, above, forces[:t])
            for below, layer, above in reversed(list(zip(layers, layers[1:], layers[2:], strict=False))):
                swapped = forces[:t].swapaxes(1, 2)
                layer.mirrored.advance(when.mirrored, above.mirrored, below.mirrored, swapped)
            predictions[t] = layers[-2].overlap(when, layers[-3], layers[-1]) / gamma
            forces[t] = scale * (y - predictions[t])
        if not np.isfinite(predictions[t]).all():
            break
    losses = _losses("mean_field_descent", predictions, y, rate)
    hidden = layers[1:-1]
    features = (steps, len(x)) * 2
    gradients = (steps, y.shape[1]) * 2
    kernels = (
        np.stack([layer.h_h.reshape(features) for layer in hidden]),
        np.stack([layer.g_g.reshape(gradients) for layer in hidden]),
    )
    return MeanFieldDescent(predictions, losses, *finite_result("mean_field_descent", kernels))


@public
def lazy_descent(x: ArrayLike, y: ArrayLike, *, depth: int, rate: float, steps: int) -> MeanFieldDescent:
    r"""The limit of small gamma: kernels stay as they were, and  f(t+1) = f(t) + (rate L / B) H_0 (y - f(t)).

    L H_0 = sum_l G_l H_{l-1} is the neural tangent kernel of initialisation. Raises as `mean_field_descent`.
    """
    x, y = _batch(x, y)
    _check(depth, rate, steps, 1.0)
    refuse_too_large(
        "lazy_descent", (depth, 2, steps, steps, len(x) ** 2 + y.shape[1] ** 2), "take fewer steps or layers"
    )
    predictions, kernel = np.zeros((steps, *y.shape)), _kernel("lazy_descent", x)
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(1, steps):
            predictions[t] = predictions[t - 1] + rate * depth / len(x) * kernel @ (y - predictions[t - 1])
    losses = _losses("lazy_descent", predictions, y, rate)
    ones, identity = np.ones((depth - 1, steps, 1, steps, 1)), np.eye(y.shape[1])
    return MeanFieldDescent(
        predictions,
        losses,
        ones * kernel[:, None, :],
        ones * identity[:, None, :],
    )


@dataclass(frozen=True)
class _Moment:
    """Where step t stands in arrays over (step, example), `h`, and over (step, output), `g`."""

    t: int
    batch: int
    outputs: int

    @property
    def mirrored(self) -> "_Moment":
        """The same for h and g exchanged."""
        return _Moment(self.t, self.outputs, self.batch)

    @property
    def h(self) -> slice:
        return slice(self.t * self.batch, (self.t + 1) * self.batch)

    @property
    def g(self) -> slice:
        return slice(self.t * self.outputs, (self.t + 1) * self.outputs)

    @property
    def h_past(self) -> slice:
        return slice(0, self.h.start)

    @property
    def g_past(self) -> slice:
        return slice(0, self.g.start)

    @property
    def h_known(self) -> slice:
        return slice(0, self.h.stop)

    @property
    def g_known(self) -> slice:
        return slice(0, self.g.stop)


@dataclass(frozen=True, eq=False)
class _Fields:
    """A unit of one layer over all times:  h = h_u u + h_v v,  g = g_u u + g_v v,  and the kernels of h and g.

    Steps that are still to come hold zeros.
    """

    h_u: Float[np.ndarray, "h h"]
    h_v: Float[np.ndarray, "h g"]
    g_u: Float[np.ndarray, "g h"]
    g_v: Float[np.ndarray, "g g"]
    h_h: Float[np.ndarray, "h h"]
    g_g: Float[np.ndarray, "g g"]

    @property
    def mirrored(self) -> "_Fields":
        """The same arrays with h and g, u and v exchanged: g obeys the equations of h read from the output down."""
        return _Fields(self.g_v, self.g_u, self.h_v, self.h_u, self.g_g, self.h_h)

    def advance(self, when: _Moment, below: "_Fields", above: "_Fields", forces: np.ndarray) -> None:
        """h at this step, from the layer below at this step and everything before."""
        t, now, past, known, drive = when.t, when.h, when.h_past, when.h_known, when.g_past
        kernel = below.h_h[now, past].reshape(when.batch, t, when.batch)
        moved = np.einsum("msn,snc->msc", kernel, forces).reshape(when.batch, -1)
        coupling = below.h_v[now, drive] + moved  # to g before this step
        self.h_u[now, now] = np.eye(when.batch)
        self.h_u[now, past] = coupling @ self.g_u[drive, past]
        self.h_v[now, drive] = coupling @ self.g_v[drive, drive]
        row = self.h_u[now, known] @ below.h_h[known, known] @ self.h_u[known, known].T
        row += self.h_v[now, drive] @ above.g_g[drive, drive] @ self.h_v[known, drive].T
        self.h_h[now, known], self.h_h[known, now] = row, row.T

    def overlap(self, when: _Moment, below: "_Fields", above: "_Fields") -> Targets:
        """h_mu(t) g^c(t) / N."""
        h, g = when.h, when.g
        from_below = self.h_u[h, when.h_known] @ below.h_h[when.h_known, when.h_past] @ self.g_u[g, when.h_past].T
        from_above = self.h_v[h, when.g_past] @ above.g_g[when.g_past, when.g_known] @ self.g_v[g, when.g_known].T
        return np.asarray(from_below + from_above)


def _kernel(name: str, x: Inputs) -> Float[np.ndarray, "batch batch"]:
    """Of the inputs; FloatingPointError where it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return finite_result(name, x @ x.T / x.shape[1])


def _at_rest(kernel: np.ndarray, outputs: int, depth: int, steps: int) -> list[_Fields]:
    """Layers 0..L, of which 0 has the kernel of the inputs and L that of the outputs."""
    n, m = steps * len(kernel), steps * outputs
    shapes = ((n, n), (n, m), (m, n), (m, m), (n, n), (m, m))
    layers = [_Fields(*(np.zeros(shape) for shape in shapes)) for _ in range(depth + 1)]
    layers[0].h_h[:] = np.tile(kernel, (steps, steps))
    layers[-1].g_g[:] = np.tile(np.eye(outputs), (steps, steps))
    return layers


def _losses(name: str, predictions: np.ndarray, y: Targets, rate: float) -> Float[np.ndarray, " steps"]:
    """Raises FloatingPointError where the descent diverges."""
    with np.errstate(over="ignore", invalid="ignore"):
        losses = np.asarray(np.sum((y - predictions) ** 2, axis=(1, 2)) / (2 * len(y)))
    if not np.isfinite(losses).all():
        step = int(np.argmin(np.isfinite(losses)))
        raise FloatingPointError(
            f"{name}: the loss is {losses[step]} at step {step}: the descent diverges at rate {rate:g}; "
            "take a smaller rate"
        )
    return losses


def _batch(x: ArrayLike, y: ArrayLike) -> tuple[Inputs, Targets]:
    inputs, targets = (np.asarray(double_array(part, name, ndim=2)) for part, name in ((x, "x"), (y, "y")))
    if len(inputs) != len(targets):
        raise ValueError(f"x has {len(inputs)} rows and y has {len(targets)}; expected one row of each per example")
    return inputs, targets


def _check(depth: int, rate: float, steps: int, gamma: float) -> None:
    for name, count, least, why in (
        ("depth", depth, 2, ": without hidden layer there is no width; add one"),
        ("steps", steps, 1, ""),
    ):
        if not is_whole(count) or count < least:
            raise ValueError(f"{name} is {shown(count)}, expected a whole number of at least {least}{why}")
    for name, value in (("rate", rate), ("gamma", gamma)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} is {value}, expected a positive finite number")
