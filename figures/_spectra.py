"""Hessians at saddles and their spectra, by automatic differentiation and in closed form: what figures compute."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from pctheory import LinearPCN, StructuredHessian, loss, standard, weight_hessian_dense
from pctheory.datasets import Batch, Dataset

Values = npt.NDArray[np.float64]
TITLES = {"digits": "Digits", "mnist1d": "MNIST-1D", "mnist": "MNIST"}
ClosedForms = Mapping[str, Callable[[LinearPCN, Values, Values], StructuredHessian]]


@dataclass(frozen=True)
class Panel:
    """A network with `hidden_layers` of `width` on a data set."""

    data_set: str
    hidden_layers: int
    width: int

    @property
    def name(self) -> str:
        """Of its unit of work."""
        return f"{self.data_set}, H = {self.hidden_layers}, N = {self.width}"

    @property
    def title(self) -> str:
        """Over its axes."""
        return f"{TITLES[self.data_set]}, $H = {self.hidden_layers}$, $N = {self.width}$"

    def widths(self, examples: Dataset) -> tuple[int, ...]:
        """N_0..N_L."""
        hidden = [self.width] * self.hidden_layers
        return examples.inputs.shape[1], *hidden, examples.targets.shape[1]


def titles_by_data_set(panels: Sequence[Panel]) -> list[dict[str, str]]:
    """For each data set its units and their titles."""
    names = dict.fromkeys(panel.data_set for panel in panels)
    return [{panel.name: panel.title for panel in panels if panel.data_set == name} for name in names]


def rescaled_loss(net: LinearPCN, x: Array, y: Array) -> Array:
    """F* written out, for networks of weights alone: quicker to differentiate twice than `equilibrated_energy`."""
    rescaling, output = jnp.zeros((x.shape[1], x.shape[1])), x
    for weight in net.weights[:]:
        rescaling, output = jnp.eye(len(weight)) + weight @ rescaling @ weight.T, output @ weight.T
    residual = y - output
    return jnp.sum(residual * jnp.linalg.solve(rescaling, residual.T).T) / (2 * len(x))


OBJECTIVES = {"loss": loss, "energy": rescaled_loss}


def origin(widths: tuple[int, ...]) -> LinearPCN:
    """All weights 0."""
    return LinearPCN([np.zeros((above, below)) for below, above in pairwise(widths)])


def zero_rank_saddle(widths: tuple[int, ...], *, seed: int) -> LinearPCN:
    """All weights 0 but W_{L-1}, uniform in +-1/sqrt(fan-in)."""
    drawn = standard(widths, seed=seed, initialisation="uniform", variance=1 / 3)
    weights = [np.asarray(w) for w in drawn.weights[:]]
    return LinearPCN([w if l == len(weights) - 2 else 0 * w for l, w in enumerate(weights)])


def condensed(examples: Dataset) -> Batch:
    """At most d_x + d_y examples with the second moments of all training examples.

    Loss and F* depend on the data through second moments alone, so they and their Hessians are those of the set.
    """
    both = np.concatenate([examples.inputs, examples.targets], axis=1)
    triangle = np.linalg.qr(both, mode="r")
    rows = triangle * np.sqrt(len(triangle) / len(both))
    return rows[:, : examples.inputs.shape[1]], rows[:, examples.inputs.shape[1] :]


def hessians(net: LinearPCN, batch: Batch, closed_forms: ClosedForms) -> dict[str, Values]:
    """`loss` and `energy` by automatic differentiation, `loss_theory` and `energy_theory` in closed form."""
    found = {name: np.asarray(weight_hessian_dense(f, net, *batch)) for name, f in OBJECTIVES.items()}
    return found | {f"{name}_theory": closed_forms[name](net, *batch).dense() for name in OBJECTIVES}


def spectra(net: LinearPCN, batch: Batch, closed_forms: ClosedForms) -> dict[str, Values]:
    """All eigenvalues in ascending order, under the same names; those of the closed form without its matrix."""
    found = {name: eigenvalues(np.asarray(weight_hessian_dense(f, net, *batch))) for name, f in OBJECTIVES.items()}
    return found | {
        f"{name}_theory": np.repeat(*closed_forms[name](net, *batch).eigenvalues()) for name in OBJECTIVES
    }


def eigenvalues(matrix: Values) -> Values:
    """In ascending order. Rows that no chain of non-zero entries connects are diagonalised apart."""
    count, part = connected_components(csr_array(matrix), directed=False)
    members = np.split(np.argsort(part, kind="stable"), np.cumsum(np.bincount(part, minlength=count))[:-1])
    return np.sort(np.concatenate([np.linalg.eigvalsh(matrix[np.ix_(rows, rows)]) for rows in members]))


def layer_ends(widths: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Up to which row of a Hessian the weights of each layer go."""
    return np.cumsum([above * below for below, above in pairwise(widths)])
