r"""Hessians at the zero-rank saddle where only W_{L-1} is not 0, and their eigenvalues."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.figure
import numpy.typing as npt

from figures._spectra import eigenvalues, hessians, layer_ends, zero_rank_saddle
from figures._spectrum_panels import matrices_and_spectra
from pctheory import equilibrated_hessian_at_zero_rank, loss_hessian_at_zero_rank
from pctheory.datasets import toy_regression
from pctheory.figures import Arrays, Figure

CLOSED_FORMS = {"loss": loss_hessian_at_zero_rank, "energy": equilibrated_hessian_at_zero_rank}


@dataclass(frozen=True)
class Parameters:
    """Networks of `width` with so many hidden layers, on `examples` of toy regression with `features`."""

    hidden_layers: tuple[int, ...]
    width: int = 4
    features: int = 3
    examples: int = 64
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per depth."""
    return {_unit(depth): replace(parameters, hidden_layers=(depth,)) for depth in parameters.hidden_layers}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Hessian matrices of the one network, numerical and in closed form, and their eigenvalues."""
    p = parameters
    widths = (p.features, *[p.width] * p.hidden_layers[0], p.features)
    batch = toy_regression(p.examples, seed=p.seed, features=p.features)
    found = hessians(zero_rank_saddle(widths, seed=p.seed), batch, CLOSED_FORMS)
    spectra = {name: eigenvalues(matrix) for name, matrix in found.items()}
    matrices = {f"{name}_hessian": matrix for name, matrix in found.items()}
    return {"layer_ends": layer_ends(widths)} | spectra | matrices


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """A row for each depth."""
    titles = {_unit(h): f"$H = {h}$, $N = {parameters.width}$" for h in parameters.hidden_layers}
    return matrices_and_spectra(arrays, titles)


def _unit(hidden_layers: int) -> str:
    return f"H = {hidden_layers}"


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        "The Hessian in all weights where all of them vanish but W_{L-1}, which is uniform in +-1/sqrt(fan-in): "
        f"linear networks with H hidden layers of width {p.width}, on {p.examples} examples of {p.features} "
        "coordinates x ~ N(1, 0.1^2) with y = -x. Of the loss, of the equilibrated energy F* by automatic "
        "differentiation, and of F* by theory; right, all eigenvalues in ascending order, theory as dashes over "
        "the numerics, with the largest difference relative to the largest eigenvalue. From three hidden layers on "
        "the loss has no curvature and F* only the block of W_L, -Sigma_yy (x) K with K = I + W_{L-1} W_{L-1}^T, "
        "so its smallest eigenvalue is below that at the origin. With two hidden layers the loss has the blocks "
        "between W_1 and W_3, and so has F*. After a figure of arXiv 2408.11979, which has three and four hidden "
        "layers; two are added here, as the formula for the spectrum fails there."
    )


DEFAULT = Parameters(hidden_layers=(2, 3, 4))
FIGURE = Figure(
    key="saddles/zero-rank-hessian",
    title="The Hessian at another zero-rank saddle",
    caption=caption,
    source="saddles-2024",
    claims=("saddles-2024/zero-rank-saddles-strict", "saddles-2024/zero-rank-spectrum"),
    presets={
        "quick": replace(DEFAULT, hidden_layers=(2,), width=3),
        "default": DEFAULT,
        "paper": replace(DEFAULT, hidden_layers=(3, 4)),
    },
    units=units,
    data=data,
    draw=draw,
)
