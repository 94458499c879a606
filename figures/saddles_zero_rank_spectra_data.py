r"""Eigenvalues of the Hessian, on images and sequences, at the zero-rank saddle where only W_{L-1} is not 0."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib.figure
import numpy.typing as npt

from figures._spectra import Panel, condensed, spectra, titles_by_data_set, zero_rank_saddle
from figures._spectrum_panels import spectra_of_data_sets
from pctheory import equilibrated_hessian_at_zero_rank, loss_hessian_at_zero_rank
from pctheory.datasets import dataset
from pctheory.figures import Arrays, Figure

CLOSED_FORMS = {"loss": loss_hessian_at_zero_rank, "energy": equilibrated_hessian_at_zero_rank}


@dataclass(frozen=True)
class Parameters:
    """Every panel of the figure, those of a data set one after the other. `seed`: of W_{L-1}."""

    panels: tuple[Panel, ...]
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per panel."""
    return {panel.name: Parameters((panel,), parameters.seed) for panel in parameters.panels}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """All eigenvalues, numerical and in closed form, of the one network."""
    (panel,) = parameters.panels
    examples = dataset(panel.data_set, data_dir=data_dir)
    saddle = zero_rank_saddle(panel.widths(examples), seed=parameters.seed)
    return spectra(saddle, condensed(examples), CLOSED_FORMS)


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """A row for each data set."""
    return spectra_of_data_sets(arrays, titles_by_data_set(parameters.panels))


def caption(parameters: Parameters) -> str:
    images = "MNIST" if any(panel.data_set == "mnist" for panel in parameters.panels) else "the 8 x 8 digits"
    return (
        "All eigenvalues, in ascending order, of the Hessian in all weights where all of them vanish but W_{L-1}, "
        "which is uniform in +-1/sqrt(fan-in): linear networks with H hidden layers of width N, the loss and the "
        "equilibrated energy F*, by automatic differentiation, with theory as dashes over them and the largest "
        "difference relative to the largest eigenvalue. On all training examples, through their second moments, on "
        "which alone both depend. The eigenvalues of F* are minus those of Sigma_yy, which are the frequencies of "
        "the classes, times those of K = I + W_{L-1} W_{L-1}^T; the loss has no curvature. After a figure of arXiv "
        f"2408.11979, with three and four hidden layers; here on {images} and MNIST-1D, with widths of our choice."
    )


def _panels(*data_sets: str) -> tuple[Panel, ...]:
    return tuple(Panel(name, hidden, width) for name in data_sets for hidden, width in ((3, 10), (4, 5)))


FIGURE = Figure(
    key="saddles/zero-rank-spectra-data",
    title="Eigenvalues of the Hessian at another zero-rank saddle, on data",
    caption=caption,
    source="saddles-2024",
    claims=("saddles-2024/zero-rank-saddles-strict", "saddles-2024/zero-rank-spectrum"),
    presets={
        "quick": Parameters((Panel("digits", 3, 5),)),
        "default": Parameters(_panels("digits", "mnist1d")),
        "paper": Parameters(_panels("mnist", "mnist1d")),
    },
    units=units,
    data=data,
    draw=draw,
    data_sets=lambda parameters: tuple(dict.fromkeys(panel.data_set for panel in parameters.panels)),
)
