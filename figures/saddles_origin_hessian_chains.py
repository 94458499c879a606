r"""Hessians of chains of single units at the origin, and their eigenvalues."""

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
class Parameters:
    """Chains with so many hidden units, on `examples` of toy regression."""

    hidden_units: tuple[int, ...]
    examples: int = 64
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per chain."""
    return {_unit(number): replace(parameters, hidden_units=(number,)) for number in parameters.hidden_units}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Hessian matrices of the one chain, numerical and in closed form, and their eigenvalues."""
    widths = (1,) * (parameters.hidden_units[0] + 2)
    batch = toy_regression(parameters.examples, seed=parameters.seed)
    found = hessians(origin(widths), batch, CLOSED_FORMS)
    spectra = {name: eigenvalues(matrix) for name, matrix in found.items()}
    matrices = {f"{name}_hessian": matrix for name, matrix in found.items()}
    return {"layer_ends": layer_ends(widths)} | spectra | matrices


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """A row for each chain."""
    return matrices_and_spectra(arrays, {_unit(h): f"$H = {h}$" for h in parameters.hidden_units}, letter="w")


def _unit(hidden_units: int) -> str:
    return f"H = {hidden_units}"


def caption(parameters: Parameters) -> str:
    return (
        "The Hessian in all weights at the origin of chains of single units, H of them hidden, on "
        f"{parameters.examples} examples x ~ N(1, 0.1^2) with y = -x: of the loss, of the equilibrated energy F* "
        "by automatic differentiation, and of F* by theory; right, all eigenvalues in ascending order, theory as "
        "dashes over the numerics, with the largest difference relative to the largest eigenvalue. At every depth "
        "the curvature of F* in w_L is minus the mean of y^2. With one hidden unit the eigenvalues, in units of "
        "the mean of x^2, are plus and minus 1 for the loss and (-1 +- sqrt 5)/2 for F*. After a figure of arXiv "
        "2408.11979."
    )


DEFAULT = Parameters(hidden_units=(1, 2, 5, 10))
FIGURE = Figure(
    key="saddles/origin-hessian-chains",
    title="The Hessian of chains at the origin",
    caption=caption,
    source="saddles-2024",
    claims=("saddles-2024/loss-hessian-origin", "saddles-2024/origin-strict"),
    presets={"quick": replace(DEFAULT, hidden_units=(1, 5)), "default": DEFAULT, "paper": DEFAULT},
    units=units,
    data=data,
    draw=draw,
)
