"""Training from near another saddle, where W_{L-1} starts as usual and all other weights near zero."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.figure
import numpy.typing as npt

from figures._escape import LINEAR_FIRST, Images, image_runs, image_training, images_drawn, images_scaled
from pctheory.figures import Arrays, Figure

PAPER = Images(
    image_runs(("mnist", "fashion-mnist"), LINEAR_FIRST),
    width=500,
    std=5e-3,
    iterations=5000,
    batches=900,
    usual_layer=True,
)
DEFAULT = Images(image_runs(("digits",), LINEAR_FIRST), width=64, std=0.014, iterations=1500, usual_layer=True)
QUICK = Images(image_runs(("digits",), ("linear", "relu")), width=16, std=0.1, iterations=200, usual_layer=True)


def data(parameters: Images, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Loss of each batch before its update, and norm of the gradient, of one run."""
    return image_training(parameters, data_dir)


def draw(arrays: Mapping[str, Arrays], parameters: Images) -> matplotlib.figure.Figure:
    """A column for each activation and data set: loss and gradient norm, as published, at equal normalisation."""
    return images_drawn(arrays, parameters)


def caption(parameters: Images) -> str:
    measured = (
        " PC's loss starts to fall after about 250 iterations (ReLU: 350), that of BP with PC's step after about "
        "500; with ReLU, and with the published step, BP's does not within the run."
    )
    return (
        f"Training from near another zero-rank saddle: weights normal of standard deviation {parameters.std:g}, "
        "but for W_{L-1}, the layer below the output, which starts at its usual initialisation, uniform in "
        f"+-1/sqrt(width). {images_scaled(parameters, PAPER)}{measured if parameters == DEFAULT else ''}"
    )


FIGURE = Figure(
    key="saddles/escape-other",
    title="Escaping another zero-rank saddle",
    caption=caption,
    source="saddles-2024",
    claims=("own/escape-normalisation", "thesis-2025/when-faster", "saddles-2024/zero-rank-saddles-strict"),
    presets={"quick": QUICK, "default": DEFAULT, "paper": PAPER},
    units=Images.units,
    data=data,
    draw=draw,
    data_sets=Images.data_sets,
)
