r"""Eigenvalues of the Hessian at the origin on images and sequences: numerics and theory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib.figure
import numpy.typing as npt

from figures._spectra import Panel, condensed, origin, spectra, titles_by_data_set
from figures._spectrum_panels import spectra_of_data_sets
from pctheory import equilibrated_hessian_at_origin, loss_hessian_at_origin
from pctheory.datasets import dataset
from pctheory.figures import Arrays, Figure

CLOSED_FORMS = {"loss": loss_hessian_at_origin, "energy": equilibrated_hessian_at_origin}


@dataclass(frozen=True)
class Parameters:
    """Every panel of the figure, those of a data set one after the other."""

    panels: tuple[Panel, ...]


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per panel."""
    return {panel.name: Parameters((panel,)) for panel in parameters.panels}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """All eigenvalues, numerical and in closed form, of the one network."""
    (panel,) = parameters.panels
    examples = dataset(panel.data_set, data_dir=data_dir)
    return spectra(origin(panel.widths(examples)), condensed(examples), CLOSED_FORMS)


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """A row for each data set."""
    return spectra_of_data_sets(arrays, titles_by_data_set(parameters.panels))


def caption(parameters: Parameters) -> str:
    return (
        "All eigenvalues, in ascending order, of the Hessian in all weights at the origin (W = 0) of linear "
        "networks with H hidden layers of width N: of the loss and of the equilibrated energy F*, by automatic "
        "differentiation, with theory as dashes over them and the largest difference relative to the largest "
        "eigenvalue. On all training examples, through their second moments, on which alone both depend. Targets "
        "are one-hot, so Sigma_yy is diagonal and holds the frequencies of the classes: from two hidden layers on "
        "the plateau of F* lies at minus these, N times each. With one hidden layer the loss has plus and minus "
        "the singular values of Sigma_yx, N times each. After a figure of arXiv 2408.11979, with the published "
        f"sizes for MNIST and MNIST-1D. {_replaced(parameters)}"
    )


def _replaced(parameters: Parameters) -> str:
    used = {panel.data_set for panel in parameters.panels}
    if "mnist" in used:
        return "All training examples, rather than a batch of them, is our choice."
    return "Here the 8 x 8 digits take the place of MNIST (preset `paper`)."


SIZES = {"mnist": ((1, 10), (2, 10), (4, 5)), "mnist1d": ((1, 100), (2, 50), (4, 5))}


def _panels(name: str, like: str) -> tuple[Panel, ...]:
    return tuple(Panel(name, hidden_layers, width) for hidden_layers, width in SIZES[like])


DEFAULT = Parameters((*_panels("digits", "mnist"), *_panels("mnist1d", "mnist1d")))
FIGURE = Figure(
    key="saddles/origin-spectra-data",
    title="Eigenvalues of the Hessian at the origin, on data",
    caption=caption,
    source="saddles-2024",
    claims=("saddles-2024/loss-hessian-origin", "saddles-2024/origin-strict"),
    presets={
        "quick": Parameters((Panel("digits", 1, 5),)),
        "default": DEFAULT,
        "paper": Parameters((*_panels("mnist", "mnist"), *_panels("mnist1d", "mnist1d"))),
    },
    units=units,
    data=data,
    draw=draw,
    data_sets=lambda parameters: tuple(dict.fromkeys(panel.data_set for panel in parameters.panels)),
)
