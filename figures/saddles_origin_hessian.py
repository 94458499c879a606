r"""Hessians at the origin and their eigenvalues: numerics, theory, loss and equilibrated energy side by side."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.figure
import numpy.typing as npt

from figures._spectra import eigenvalues, hessians, layer_ends, origin
from figures._spectrum_panels import matrices_and_spectra
from pctheory import equilibrated_hessian_at_origin, loss_hessian_at_origin
from pctheory.datasets import toy_regression
from pctheory.figures import Arrays, Figure

CLOSED_FORMS = {"loss": loss_hessian_at_origin, "energy": equilibrated_hessian_at_origin}


@dataclass(frozen=True)
class Network:
    """`independent_target`: the coordinate of y that does not depend on x, if there is one."""

    hidden_layers: int
    width: int
    features: int
    independent_target: int | None = None

    @property
    def widths(self) -> tuple[int, ...]:
        """N_0..N_L."""
        return self.features, *[self.width] * self.hidden_layers, self.features


@dataclass(frozen=True)
class Parameters:
    """`examples` of toy regression, for each of the networks."""

    networks: tuple[Network, ...]
    examples: int = 64
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per network."""
    return {_unit(network): replace(parameters, networks=(network,)) for network in parameters.networks}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Hessian matrices of the one network, numerical and in closed form, and their eigenvalues."""
    (network,) = parameters.networks
    batch = toy_regression(
        parameters.examples,
        seed=parameters.seed,
        features=network.features,
        independent_target=network.independent_target,
    )
    found = hessians(origin(network.widths), batch, CLOSED_FORMS)
    spectra = {name: eigenvalues(matrix) for name, matrix in found.items()}
    matrices = {f"{name}_hessian": matrix for name, matrix in found.items()}
    return {"layer_ends": layer_ends(network.widths)} | spectra | matrices


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """A row for each network."""
    titles = {_unit(n): f"$H = {n.hidden_layers}$, $N = {n.width}$" for n in parameters.networks}
    return matrices_and_spectra(arrays, titles)


def _unit(network: Network) -> str:
    return f"H = {network.hidden_layers}, N = {network.width}"


def caption(parameters: Parameters) -> str:
    p = parameters
    independent = [n.hidden_layers for n in p.networks if n.independent_target is not None]
    return (
        "The Hessian in all weights at the origin (W = 0) of linear networks with H hidden layers of width N, on "
        f"{p.examples} examples x ~ N(1, 0.1^2) with y = -x: of the loss, of the equilibrated energy F* by "
        "automatic differentiation, and of F* by theory; right, all eigenvalues in ascending order, theory as "
        "dashes over the numerics, with the largest difference relative to the largest eigenvalue. Grey lines "
        "separate the layers; weights are ordered row by row. The loss has curvature only with one hidden layer; "
        "from two on its Hessian vanishes, while that of F* keeps the block of W_L, -Sigma_yy (x) I, whatever the "
        f"depth. Inputs have {', '.join(str(n.features) for n in p.networks)} coordinates. "
        + "".join(f"With H = {h} one coordinate of y is drawn independently of x. " for h in independent)
        + "After a figure of arXiv 2408.11979, whose sizes H and N are these; which network has how many "
        "coordinates, and the order of the weights, are ours."
    )


NETWORKS = (Network(1, 10, 2), Network(2, 5, 2), Network(3, 4, 3), Network(4, 4, 3, independent_target=1))
DEFAULT = Parameters(networks=NETWORKS)
FIGURE = Figure(
    key="saddles/origin-hessian",
    title="The Hessian at the origin",
    caption=caption,
    source="saddles-2024",
    claims=("saddles-2024/loss-hessian-origin", "saddles-2024/origin-strict"),
    presets={"quick": replace(DEFAULT, networks=NETWORKS[:2]), "default": DEFAULT, "paper": DEFAULT},
    units=units,
    data=data,
    draw=draw,
)
