r"""Closed forms: the Hessians of the loss and of F* at the origin and at the simplest zero-rank saddles.

Only W_1 and W_L have curvature there. With Sigma_yy, Sigma_yx the second moments of the batch, V = M_{L-1:2} the
product of the maps between, and K = sum_{l<L} M_{L-1:l+1} M_{L-1:l+1}^T / pi_l,

    (H D)_L = -d Sigma_yy D_L K - c Sigma_yx D_1^T V^T,     (H D)_1 = -c V^T D_L^T Sigma_yx

    loss:  c = a_1 a_L,         d = 0
    F*:    c = pi_L a_1 a_L,    d = (pi_L a_L)^2

that is, -d Sigma_yy (x) K as the W_L-block (row by row). V is I if H = 1, A_2 if H = 2, and 0 from H = 3 on; so
is it at the origin from H = 2 on. In the singular bases of A_{L-1} the Hessian falls apart into small matrices, one
for each singular value, from which the whole spectrum comes without forming the matrix.

Source: saddles-2024 (unit precisions and scalings); precisions, scalings and the coupled spectra are ours.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import ArrayLike, Float, Int
from scipy.linalg import svdvals
from scipy.sparse.linalg import LinearOperator

from ..arguments import OVERFLOW_IS_REPORTED, public
from ..arrays import checked_array
from ..network import LinearPCN, finite_result, refuse_too_large

Moments = tuple[Float[np.ndarray, "rank d_x"], Float[np.ndarray, "rank d_y"]]


@dataclass(frozen=True, eq=False)
class StructuredHessian:
    r"""The Hessian above, of all weights ordered as in `weight_vector`, kept as its factors.

    inputs, targets: X and Y with Y^T Y = Sigma_yy, Y^T X = Sigma_yx and min(B, d_y) rows. free: A_{L-1}.
    coupling, curvature: c and d. precisions: (pi_{L-2}, pi_{L-1}), the former unused if H = 1.
    """

    widths: tuple[int, ...]
    inputs: Float[np.ndarray, "rank d_x"]
    targets: Float[np.ndarray, "rank d_y"]
    free: Float[np.ndarray, "top below"]
    precisions: tuple[float, float]
    coupling: float
    curvature: float

    @property
    def size(self) -> int:
        """The number of weights."""
        return sum(n * m for n, m in zip(self.widths[1:], self.widths[:-1], strict=True))

    @property
    def kernel(self) -> Float[np.ndarray, "top top"]:
        """K: what the weights below the output add to the rescaling."""
        refuse_too_large("StructuredHessian.kernel", (len(self.free), len(self.free)), "take a narrower top layer")
        return np.eye(len(self.free)) / self.precisions[1] + self.free @ self.free.T / self.precisions[0]

    @property
    def bridge(self) -> Float[np.ndarray, "top first"]:
        """V = M_{L-1:2}, the map from the first hidden layer to the last."""
        hidden = len(self.widths) - 2
        if hidden == 1:
            return np.eye(self.widths[1])
        return self.free if hidden == 2 else np.zeros((self.widths[-2], self.widths[1]))

    @OVERFLOW_IS_REPORTED
    def product(self, vector: ArrayLike) -> Float[np.ndarray, " weights"]:
        """H v. Raises ValueError for a vector of another length. Cost: products with the factors only."""
        v = np.ascontiguousarray(checked_array(vector, "vector", ndim=1))
        if v.shape != (self.size,):
            raise ValueError(f"vector has shape {v.shape}, expected ({self.size},): one number per weight")
        first, last = self._ends(v)
        image = np.zeros(self.size)
        image_first, image_last = self._ends(image)
        stiffened = last / self.precisions[1] + last @ self.free @ self.free.T / self.precisions[0]
        crossed = self.coupling * self.bridge @ (first @ self.inputs.T)
        image_last -= self.targets.T @ (self.curvature * self.targets @ stiffened + crossed.T)
        image_first -= self.coupling * self.bridge.T @ (self.targets @ last).T @ self.inputs
        return finite_result("StructuredHessian.product", image)

    @property
    def operator(self) -> LinearOperator:
        """The same as a SciPy operator."""
        shape = (self.size, self.size)
        return LinearOperator(shape, matvec=self._flat_product, rmatvec=self._flat_product, dtype=np.float64)

    @OVERFLOW_IS_REPORTED
    def eigenvalues(self) -> tuple[Float[np.ndarray, " distinct"], Int[np.ndarray, " distinct"]]:
        """All eigenvalues in ascending order, with multiplicities that add up to the number of weights.

        Multiplicities are counted from the structure, that of 0 included; values that differ by rounding stand
        separately. Twin: the dense matrix. Cost: an SVD of A_{L-1} and, if V is not 0, one symmetric
        eigenproblem of size up to 2 d_y for each distinct singular value.
        """
        strengths, stiffnesses, counts = self._modes()
        scales, crossed = self._reduced_moments()
        moments = self.coupling * strengths.max() * crossed, self.curvature * stiffnesses.max() * scales**2
        finite_result("StructuredHessian.eigenvalues", moments)
        values = [
            _spectrum(self.coupling * strength * crossed, self.curvature * stiffness * scales**2)
            for strength, stiffness in zip(strengths, stiffnesses, strict=True)
        ]
        multiplicities = np.repeat(counts, [len(found) for found in values])
        zeros = self.size - int(multiplicities.sum())
        distinct, where = np.unique(np.concatenate([*values, np.zeros(1)]), return_inverse=True)
        total = np.zeros(len(distinct), dtype=np.int64)
        np.add.at(total, where, [*multiplicities, zeros])
        return distinct[total > 0], total[total > 0]

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue."""
        return float(self.eigenvalues()[0][0])

    @property
    def largest(self) -> float:
        """The largest eigenvalue."""
        return float(self.eigenvalues()[0][-1])

    @OVERFLOW_IS_REPORTED
    def dense(self) -> Float[np.ndarray, "weights weights"]:
        """The matrix itself, by Kronecker products. Raises MemoryError where it exceeds the machine's memory."""
        refuse_too_large("StructuredHessian.dense", (self.size, self.size), "use product, operator and eigenvalues")
        matrix = np.zeros((self.size, self.size))
        first, last = slice(0, self.widths[0] * self.widths[1]), slice(-self.widths[-2] * self.widths[-1], None)
        matrix[last, last] = np.kron(-self.curvature * self.targets.T @ self.targets, self.kernel)
        mixed = np.einsum("li,kj->ijkl", self.bridge, -self.coupling * self.targets.T @ self.inputs)
        matrix[first, last] = mixed.reshape(first.stop, -1)
        matrix[last, first] = matrix[first, last].T
        return finite_result("StructuredHessian.dense", matrix)

    def _flat_product(self, vector: np.ndarray) -> np.ndarray:
        return self.product(np.ravel(vector))

    def _ends(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The parts of W_1 and W_L, as views."""
        shape_first, shape_last = self.widths[1::-1], self.widths[:-3:-1]
        return (
            vector[: shape_first[0] * shape_first[1]].reshape(shape_first),
            vector[-shape_last[0] * shape_last[1] :].reshape(shape_last),
        )

    def _modes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distinct pairs of singular value of V and eigenvalue of K on one basis of layer L-1, and their number."""
        singular = np.zeros(len(self.free))
        if self.free.any():
            found = svdvals(self.free)
            singular[: len(found)] = found
        stiffness = 1 / self.precisions[1] + singular**2 / self.precisions[0]
        hidden = len(self.widths) - 2
        strength = {1: np.ones_like(singular), 2: singular}.get(hidden, np.zeros_like(singular))
        pairs, counts = np.unique(np.stack([strength, stiffness]), axis=1, return_counts=True)
        return pairs[0], pairs[1], counts

    def _reduced_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """D and R with Sigma_yy = U D^2 U^T and Sigma_xy U = Q R, without the zeros beyond the rank of the data."""
        _, scales, right = np.linalg.svd(self.targets.T, full_matrices=False)
        _, triangle = np.linalg.qr((scales[:, None] * (right @ self.inputs)).T)
        return scales, triangle


def _spectrum(crossed: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Eigenvalues of [[0, R], [R^T, -diag(own)]]; zeros may be left out, none is blurred by rounding."""
    if not crossed.any():
        return 0.0 - own  # 0.0, not -0.0, where it vanishes
    if not own.any():
        positive = svdvals(crossed)
        return np.concatenate([positive, -positive])
    zero = np.zeros((len(crossed), len(crossed)))
    return np.linalg.eigvalsh(np.block([[zero, crossed], [crossed.T, np.diag(-own)]]))


@public
def loss_hessian_at_origin(net: LinearPCN, x: ArrayLike, y: ArrayLike) -> StructuredHessian:
    r"""The Hessian of the loss at W = 0: eigenvalues +-a_1 a_2 sigma_k(Sigma_yx), N_1 times each, if H = 1, else 0.

    `net` gives widths, scalings and precisions; its weights are not looked at.
    Raises ValueError for skips, biases and a net without hidden layer.
    Source: saddles-2024/loss-hessian-origin. Twin: `weight_hessian_dense`.
    """
    return _at_origin(net, x, y, rescaled=False)


@public
def equilibrated_hessian_at_origin(net: LinearPCN, x: ArrayLike, y: ArrayLike) -> StructuredHessian:
    r"""The Hessian of F* at W = 0: -(pi_L a_L)^2 / pi_{L-1} Sigma_yy (x) I for W_L, and for H = 1 the mixed blocks.

    From H = 2 on its smallest eigenvalue is -(pi_L a_L)^2 / pi_{L-1} lambda_max(Sigma_yy), whatever the depth.
    `net` and Raises as in `loss_hessian_at_origin`.
    Source: saddles-2024/origin-strict. Twin: `weight_hessian_dense`.
    """
    return _at_origin(net, x, y, rescaled=True)


@public
def loss_hessian_at_zero_rank(net: LinearPCN, x: ArrayLike, y: ArrayLike) -> StructuredHessian:
    r"""The Hessian of the loss where all weights are 0 but W_{L-1}: 0 from H = 3 on; if H = 2, eigenvalues
    +-a_1 a_3 sigma_i(A_2) sigma_k(Sigma_yx).

    Raises ValueError for other weights that are not 0, skips, biases, and fewer than two hidden layers.
    Source: saddles-2024/zero-rank-saddles-strict. Twin: `weight_hessian_dense`.
    """
    return _at_zero_rank(net, x, y, rescaled=False)


@public
def equilibrated_hessian_at_zero_rank(net: LinearPCN, x: ArrayLike, y: ArrayLike) -> StructuredHessian:
    r"""The Hessian of F* where all weights are 0 but W_{L-1}: the block of W_L, and from H = 3 on no other,

        -(pi_L a_L)^2 Sigma_yy (x) K,    K = I / pi_{L-1} + A_{L-1} A_{L-1}^T / pi_{L-2},

    with eigenvalues -(pi_L a_L)^2 lambda_i(Sigma_yy) lambda_j(K). If H = 2 the mixed blocks of the loss, times
    pi_L, stand beside it: the smallest eigenvalue is no higher than the smallest of these, and positive ones occur.

    Raises and source: as `loss_hessian_at_zero_rank`. Twin: `weight_hessian_dense`.
    """
    return _at_zero_rank(net, x, y, rescaled=True)


def _at_origin(net: LinearPCN, x: ArrayLike, y: ArrayLike, *, rescaled: bool) -> StructuredHessian:
    _refuse_other_architectures(net, hidden_layers=1)
    return _structured(net, _compressed(net, x, y), np.zeros(net.weights.shapes[-2]), rescaled)


def _at_zero_rank(net: LinearPCN, x: ArrayLike, y: ArrayLike, *, rescaled: bool) -> StructuredHessian:
    _refuse_other_architectures(net, hidden_layers=2)
    weights = _by_layer(net.weights.runs)
    for l, weight in enumerate(weights, start=1):
        if l != net.depth - 1 and (largest := float(np.abs(weight).max())):
            raise ValueError(
                f"net, layer {l} has a weight of size {largest:.3g}, expected 0: all weights but those of layer "
                f"{net.depth - 1} vanish at this saddle; use weight_hessian_dense elsewhere"
            )
    free = float(net.scalings[-2]) * weights[-2]
    return _structured(net, _compressed(net, x, y), free, rescaled)


def _refuse_other_architectures(net: LinearPCN, *, hidden_layers: int) -> None:
    if net.depth <= hidden_layers:
        raise ValueError(
            f"net has {net.depth - 1} hidden layers, expected at least {hidden_layers}: "
            + (
                "without any, the loss is quadratic"
                if hidden_layers == 1
                else "with one, use the Hessian at the origin"
            )
        )
    for name, runs in (("skip", (np.asarray(net.skips)[:, None],)), ("bias", net.biases.runs)):
        for l, value in enumerate(_by_layer(runs), start=1):
            if largest := float(np.abs(value).max()):
                raise ValueError(f"net, layer {l} has a {name} of size {largest:.3g}, expected 0; remove it")


def _by_layer(runs: Iterable[ArrayLike]) -> list[np.ndarray]:
    """The layers' arrays, without a JAX call for each."""
    return [value for run in runs for value in np.asarray(run)]


def _compressed(net: LinearPCN, x: ArrayLike, y: ArrayLike) -> Moments:
    """X, Y of min(B, d_y) rows with Y^T Y = Sigma_yy and Y^T X = Sigma_yx."""
    inputs, targets = (np.asarray(part) / np.sqrt(len(part)) for part in net.batch(x, y))
    if len(targets) <= targets.shape[1]:
        return inputs, targets
    rotation, triangle = np.linalg.qr(targets)
    return rotation.T @ inputs, triangle


def _structured(net: LinearPCN, moments: Moments, free: np.ndarray, rescaled: bool) -> StructuredHessian:
    scalings, precisions = np.asarray(net.scalings).tolist(), np.asarray(net.precisions).tolist()
    last = precisions[-1] if rescaled else 1.0
    return StructuredHessian(
        widths=net.widths,
        inputs=moments[0],
        targets=moments[1],
        free=free,
        precisions=(precisions[-3] if net.depth > 2 else 1.0, precisions[-2]),
        coupling=scalings[0] * scalings[-1] * last,
        curvature=(scalings[-1] * last) ** 2 if rescaled else 0.0,
    )
