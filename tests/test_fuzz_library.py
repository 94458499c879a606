"""Every public function with hostile arguments: documented errors, or numbers that are finite and right.

The process that tries them is `python -m tests.test_fuzz_library EXAMPLES [SEED] [TARGET...]`.
"""

import ast
import importlib
import inspect
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies as st

import pctheory
from pctheory import conditioning, curvature, dynamics, nonlinear, random_matrix, saddles, trust_region
from pctheory.random_matrix import NotConvergedError

from .hostile import JUNK, Fuzz, driven, frozen, hostile, numbers_in, run_suite, shown

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "": pctheory,
    "conditioning.": conditioning,
    "curvature.": curvature,
    "dynamics.": dynamics,
    "random_matrix.": random_matrix,
    "saddles.": saddles,
    "trust_region.": trust_region,
}
WIDTHS = (2, 3, 3, 1)
EXAMPLES = 3  # rows of a batch
WEIGHTS = sum(n * m for n, m in zip(WIDTHS[1:], WIDTHS[:-1], strict=True))
SCALES = (1.0, 1.0, 1.0, 1.0, 0.0, 1e-3, 1e3, 1e-150, 1e150, 1e-320)
SGD, ADAM = optax.sgd(0.1), optax.adam(0.01)
DERIVATIVES = pctheory.Derivatives(pctheory.loss, pctheory.weight_gradient, pctheory.weight_hessian_dense)
STARRED = pctheory.Derivatives(
    pctheory.equilibrated_energy, pctheory.weight_gradient, pctheory.weight_hessian_dense
)


@dataclass
class Made:
    """Draws the arguments of one call: entries of one seed, in one of a few sizes."""

    data: st.DataObject
    plain: bool
    rng: np.random.Generator = field(init=False)
    seed: int = field(init=False)

    def __post_init__(self) -> None:
        self.seed = self.data.draw(st.integers(0, 2**16), label="seed")
        self.rng = np.random.default_rng(self.seed)

    def one_of(self, *values: Any) -> Any:
        return values[0] if self.plain else self.data.draw(st.sampled_from(values))

    def array(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape) * self.one_of(*SCALES)

    def net(self) -> pctheory.LinearPCN:
        """One of some hundreds, each made once: making one takes longer than most of what is tried with it."""
        scales = tuple(self.one_of(*SCALES) for _ in WIDTHS[1:])
        bent = not self.plain and self.data.draw(st.booleans())
        return made_net(
            self.seed % 8, scales, self.one_of(1.0, 1e-5, 1e140) if bent else None, bent and self.seed % 2
        )

    def bent(self) -> pctheory.NonlinearPCN:
        return pctheory.NonlinearPCN(self.net(), self.one_of(jnp.tanh, jax.nn.relu))

    def hidden(self, rows: int = EXAMPLES) -> list[np.ndarray]:
        return [self.array(rows, n) for n in WIDTHS[1:-1]]

    def symmetric(self, size: int = 3) -> np.ndarray:
        matrix = self.array(size, size)
        return (matrix + matrix.T) / 2

    def chain(self) -> pctheory.RandomChain:
        widths = self.one_of((2, 3, 3, 1), (4, 6, 2), (1, 2), (2, 2, 2, 2, 2))
        depth = len(widths) - 1
        return pctheory.RandomChain(
            widths,
            tuple(self.one_of(1.0, 0.5, 0.0, 1e-300, 1e300, 1e-8, 3.0) for _ in range(depth)),
            precisions=tuple(self.one_of(1.0, 2.0, 1e-150, 1e150) for _ in range(depth)),
        )


# What a parameter of this name is given, whichever function it belongs to. Plain Python and NumPy values.
ARGUMENTS: dict[str, Callable[[Made], Any]] = {
    "net": Made.net,
    "x": lambda m: m.array(EXAMPLES, WIDTHS[0]),
    "y": lambda m: m.array(EXAMPLES, WIDTHS[-1]),
    "activities": Made.hidden,
    "at": Made.hidden,
    "start": Made.hidden,
    "vectors": Made.hidden,
    "vector": lambda m: m.array(WEIGHTS),
    "factor": lambda m: np.abs(m.array(1, 1)) + 1e-300,
    "decay": lambda m: m.one_of(0.0, 0.1, 1e300, 5e-324),
    "widths": lambda m: m.one_of(WIDTHS, list(WIDTHS), (1, 1)),
    "seed": lambda m: m.one_of(0, 7, 2**31),
    "skips": lambda m: m.one_of(False, True),
    "gamma": lambda m: m.one_of(1.0, 1e-300, 1e300, 2.0),
    "output_precision": lambda m: m.one_of(1.0, 1e-300, 1e300),
    "variance": lambda m: m.one_of(1.0, 0.5, 1e-300, 1e300, 5e-324),
    "initialisation": lambda m: m.one_of("gaussian", "uniform", "orthogonal"),
    "objective": lambda m: m.one_of(pctheory.loss, pctheory.equilibrated_energy),
    "record": lambda m: pctheory.loss,
    "quantity": lambda m: pctheory.loss,
    "rule": lambda m: m.one_of(pctheory.equilibrium_rule, pctheory.backpropagation_rule),
    "derivatives": lambda m: m.one_of(DERIVATIVES, STARRED),
    "tolerance": lambda m: m.one_of(1e-7, 1e-3, 1e-300, 0.9),
    "least": lambda m: m.one_of(0.0, 1.0, -1e300),
    "starts": lambda m: m.one_of(2, 1),
    "iterations": lambda m: m.one_of(3, 1),
    "at_once": lambda m: m.one_of(2, 64),
    "matrix": Made.symmetric,
    "points": lambda m: m.array(4),
    "width": lambda m: m.one_of(1.0, 1e-300, 1e300),
    "probes": lambda m: m.one_of(2, 3),
    "steps": lambda m: m.one_of(2, 1),
    "count": lambda m: m.one_of(1, 2),
    "max_products": lambda m: m.one_of(5, 1),
    "max_steps": lambda m: m.one_of(64, 1),
    "gradient": lambda m: m.array(3),
    "hessian": Made.symmetric,
    "radius": lambda m: m.one_of(1.0, 1e-300, 1e300, 1e-8),
    "metric": lambda m: np.diag(np.abs(m.array(3)) + 1e-300),
    "metric_inverse": lambda m: np.diag(np.abs(m.array(3)) + 1e-300),
    "damping": lambda m: m.one_of(2.0, 0.0, 1e300),
    "curvature": lambda m: m.one_of("hessian", "fisher"),
    "part": lambda m: m.one_of("all", "diagonal", "off-diagonal"),
    "directions": lambda m: m.array(1, WEIGHTS),
    "axes": lambda m: [np.sort(m.array(3))],
    "times": lambda m: m.one_of([0.5, 1.0], [0.0], [1e-300, 1e300]),
    "values": lambda m: list(m.array(2)),
    "threshold": lambda m: m.one_of(0.1, -1e300, 1e300),
    "relative_tolerance": lambda m: m.one_of(1e-3, 1e-8, 1e300),
    "absolute_tolerance": lambda m: m.one_of(1e-6, 1e-12, 1e300),
    "duration": lambda m: m.one_of(1.0, 1e-300, 1e300),
    "optimiser": lambda m: m.one_of(SGD, ADAM),
    "batches": lambda m: (m.array(2, EXAMPLES, WIDTHS[0]), m.array(2, EXAMPLES, WIDTHS[-1])),
    "rate": lambda m: m.one_of(0.1, 1e-300, 1e300, 10.0),
    "level": lambda m: m.one_of(0.95, 1e-300, 0.999999),
    "chain": Made.chain,
    "mean_square_input": lambda m: m.one_of(1.0, 0.0, 1e300, 5e-324),
    "max_iterations": lambda m: m.one_of(200, 1),
    "ratio": lambda m: m.one_of(1.0, 0.5, 3.0, 1e-300, 1e300),
    "hidden_layers": lambda m: m.one_of(3, 1),
    "outputs": lambda m: m.one_of(1, 3),
    "depth": lambda m: m.one_of(3, 2),
    "equilibrated": lambda m: m.one_of(True, False),
    "shares": lambda m: m.one_of([0.25, 0.25, 0.5], [1.0, 0.0, 0.0]),
    "free": lambda m: m.one_of(0.0, 1.0, 1e-300, 1e150),
    "inference": lambda m: pctheory.Inference(m.one_of(0.1, 1e-300, 1e300), steps=2),
    "allow_unfinished": lambda m: m.one_of(True, False),
    "floor": lambda m: m.one_of(0.025, 1e-300),
    "size": lambda m: m.one_of(4, 1),
    "mean": lambda m: m.one_of(1.0, -1e300, 0.0),
    "std": lambda m: m.one_of(0.1, 0.0, 1e300),
    "features": lambda m: m.one_of(2, 1),
    "independent_target": lambda m: m.one_of(1, 0),
    "name": lambda m: "digits",
    "dataset": lambda m: toy_data(),
}


@cache
def made_net(seed: int, scales: Sequence[float], precision: float | None, skip: int) -> pctheory.LinearPCN:
    rng = np.random.default_rng(seed)
    shapes = zip(WIDTHS[1:], WIDTHS[:-1], strict=True)
    weights = [rng.standard_normal(shape) * scale for shape, scale in zip(shapes, scales, strict=True)]
    if precision is None:
        return pctheory.LinearPCN(weights)
    precisions = np.abs(rng.standard_normal(3)) * precision + 1e-300
    return pctheory.LinearPCN(weights, precisions=precisions, skips=[0.0, 0.5 * skip, 0.0])


@cache
def toy_data() -> pctheory.Dataset:
    x, y = pctheory.toy_regression(8, seed=0, features=2)
    return pctheory.Dataset("toy", x, y, x[:2], y[:2], "sha256:0")


@dataclass(frozen=True)
class Target:
    """How a public function is tried. `more`: arguments other than those of `ARGUMENTS`.

    left_out: parameters that are not given. also: errors documented beside the usual ones. nonfinite: a result may
    hold NaN or infinity, and the docstring says so. lasting: counts that only take time, so that none is too large.
    permutes: the result is the same for examples in another order. heavy: tried a tenth as often, as each shape
    compiles for seconds.
    """

    more: dict[str, Callable[[Made], Any]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    also: tuple[type[BaseException], ...] = ()
    nonfinite: bool = False
    lasting: tuple[str, ...] = ()
    permutes: bool = False
    heavy: bool = False
    call: Callable[..., Any] | None = None


def nonlinear_target(**more: Any) -> Target:
    return Target(**more | {"more": {"net": Made.bent} | more.get("more", {})})


def whole(m: Made, *shape: int) -> Any:
    return m.rng.integers(-2, 3, shape).tolist()


def networks(m: Made) -> list[Any]:
    return [m.net(), small().net]


def drawn(size: int, seed: int) -> pctheory.LinearPCN:
    return pctheory.mupc((2, size, size, 1), seed=seed)


LAWS = {"laws": lambda m: (pctheory.marchenko_pastur(0.5), pctheory.semicircle(1.0))}
EXACT = {
    "weights": lambda m: [whole(m, n, k) for n, k in zip(WIDTHS[1:], WIDTHS[:-1], strict=True)],
    "x": lambda m: whole(m, 2, WIDTHS[0]),
    "y": lambda m: whole(m, 2, WIDTHS[-1]),
    "least": lambda m: 0,
}
FLOW = {"also": (RuntimeError,), "lasting": ("max_steps",), "heavy": True}
PLAIN, PERMUTES, HEAVY = Target(), Target(permutes=True), Target(heavy=True)
NONLINEAR, NONLINEAR_PERMUTES = nonlinear_target(), nonlinear_target(permutes=True)
GOAL: dict[str, Callable[[Made], Any]] = {"goal": lambda m: m.one_of(2.0**-53, 0.1)}
SYMMETRIC: dict[str, Callable[[Made], Any]] = {"matrix": lambda m: [[2.0, 1.0], [1.0, m.one_of(0.0, 1e300)]]}
ENCLOSED = Target(GOAL, also=(ArithmeticError,))
TARGETS: dict[str, Target] = {
    # the network
    "standard": PLAIN,
    "ntp": PLAIN,
    "mupc": PLAIN,
    "LinearPCN": Target(
        {
            "weights": lambda m: [m.array(n, k) for n, k in zip(WIDTHS[1:], WIDTHS[:-1], strict=True)],
            "scalings": lambda m: list(m.array(3)),
            "skips": lambda m: [0.0, m.one_of(0.5, 0.0, 1e300), 0.0],
            "biases": lambda m: [m.array(n) for n in WIDTHS[1:]],
            "precisions": lambda m: list(np.abs(m.array(3)) + 1e-300),
        }
    ),
    "NonlinearPCN": Target(
        {"linear": Made.net, "activation": lambda m: m.one_of(jnp.tanh, jax.nn.relu)},
        call=lambda **given: quiet_network(**given),
    ),
    # energy
    "activity_gradient": PLAIN,
    "energy": PERMUTES,
    "feedforward": PLAIN,
    "layer_energies": PERMUTES,
    "loss": PERMUTES,
    "partial_weight_gradient": PERMUTES,
    "prediction_errors": PLAIN,
    # equilibrium
    "activity_hessian_blocks": PLAIN,
    "activity_hessian_dense": PLAIN,
    "activity_hessian_log_determinant": PLAIN,
    "activity_hessian_product": PLAIN,
    "activity_hessian_solve": PLAIN,
    "equilibrated_energy": PERMUTES,
    "equilibrated_gradient": PERMUTES,
    "equilibrium": PLAIN,
    "equilibrium_and_gradient": PLAIN,
    "equilibrium_with_decay": PLAIN,
    "output_maps": PLAIN,
    "rescaling": PLAIN,
    # --- enclosures ---
    "exact_equilibrium": PLAIN,
    "enclosed_loss": ENCLOSED,
    "enclosed_equilibrated_energy": ENCLOSED,
    "enclosed_equilibrated_gradient": ENCLOSED,
    "enclosed_rescaling": ENCLOSED,
    "enclosed_activity_hessian_extremes": ENCLOSED,
    "enclosed_extremes": Target(GOAL | SYMMETRIC, also=(ArithmeticError,)),
    "decided_inertia": Target(SYMMETRIC),
    "rescaling_factor": PLAIN,
    "rescaling_log_determinant": PLAIN,
    # curvature
    "equilibrated_hessian_at_origin": PLAIN,
    "equilibrated_hessian_at_zero_rank": Target({"net": lambda m: zero_rank(m)}),
    "extreme_eigenpairs": Target(lasting=("max_products",)),
    "loss_hessian_at_origin": PLAIN,
    "loss_hessian_at_zero_rank": Target({"net": lambda m: zero_rank(m)}),
    "net_at": PLAIN,
    "spectral_density": Target(lasting=("probes", "steps")),
    "weight_gradient": Target(permutes=True, heavy=True),
    "weight_hessian_blocks": HEAVY,
    "weight_hessian_dense": HEAVY,
    "weight_hessian_operator": HEAVY,
    "weight_vector": PLAIN,
    # saddles
    "classification": HEAVY,
    "critical_point_search": Target(
        left_out=("executor", "state"), heavy=True, lasting=("starts", "iterations", "at_once")
    ),
    "exact_classification": Target(EXACT),
    "exact_derivatives": Target(EXACT),
    "exact_inertia": Target({"matrix": lambda m: [[2, 1], [1, m.one_of(0, -3)]]}),
    "global_minimum": PLAIN,
    "least_strict": Target({"points": lambda m: [found_point()]}),
    "origin": PLAIN,
    "rank_k_critical_point": Target({"directions": lambda m: m.one_of([1], [])}),
    "zero_rank_saddle": PLAIN,
    # trust region
    "cosines": Target({"directions": lambda m: {"a": m.array(3), "b": m.array(3)}}),
    "fisher_metric": PLAIN,
    "gradient_decomposition": HEAVY,
    "inference_step": PLAIN,
    "taylor_model": PLAIN,
    "truncated_step": Target(lasting=("max_products",)),
    "trust_region_step": Target(also=(RuntimeError,)),
    "weight_directions": Target(heavy=True, also=(RuntimeError,)),
    "trust_region.activities_of": Target({"vectors": lambda m: m.array(2, sum(WIDTHS[1:-1]))}),
    "trust_region.activity_operator": Target({"product": lambda m: lambda layers: layers}),
    "trust_region.activity_vectors": Target({"activities": lambda m: pctheory.Layers.of(m.hidden())}),
    # landscape
    "filter_normalised_directions": PLAIN,
    "landscape_field": HEAVY,
    "landscape_values": HEAVY,
    "random_directions": PLAIN,
    # dynamics
    "accuracy": nonlinear_target(permutes=True, nonfinite=True),
    "backpropagation_rule": Target(nonfinite=True),
    "equilibrium_rule": Target(nonfinite=True),
    "escape_time": Target(nonfinite=True),
    "escape_time_of_flow": Target(**FLOW),
    "inference_descent": Target(left_out=("optimiser",), nonfinite=True),
    "inference_flow": Target(**FLOW),
    "train": nonlinear_target(nonfinite=True, heavy=True),
    "training_sweep": Target(
        {
            "nets": lambda m: [pctheory.NonlinearPCN(m.net(), jnp.tanh)],
            "batches": lambda m: (m.array(1, 2, EXAMPLES, WIDTHS[0]), m.array(1, 2, EXAMPLES, WIDTHS[-1])),
            "rates": lambda m: [0.1, 1e300],
            "inference_rates": lambda m: [0.1],
            "inference_steps": lambda m: 2,
        },
        nonfinite=True,
        heavy=True,
        lasting=("inference_steps",),
    ),
    "weight_descent": Target(nonfinite=True, heavy=True),
    "weight_descent_by_rule": Target(nonfinite=True, heavy=True),
    "weight_descent_snapshots": Target({"at": lambda m: m.one_of([0, 1], [2])}, nonfinite=True, heavy=True),
    "weight_flow": Target(**FLOW),
    "Inference": Target({"steps": lambda m: 2}),
    "dynamics.adam": PLAIN,
    "dynamics.divergence_step": Target({"records": lambda m: {"loss": m.array(3)}}, nonfinite=True),
    # conditioning
    "activity_hessian_extremes": Target(  # an error bound may be infinite, an eigenvalue not
        call=lambda **given: eigenvalues_only(**given),
        lasting=("max_products",),
    ),
    "activity_hessian_extremes_nonlinear": nonlinear_target(
        more={
            "x": lambda m: m.array(1, WIDTHS[0]),
            "y": lambda m: m.array(1, WIDTHS[-1]),
            "activities": lambda m: m.hidden(1),
        },
        lasting=("max_products",),
        nonfinite=True,
    ),
    "activity_hessian_spectrum": PLAIN,
    "activity_hessian_split": PLAIN,
    "coordinate_check": Target(
        {
            "networks": lambda m: drawn,
            "sizes": lambda m: (2, 3),
            "batch": lambda m: (m.array(EXAMPLES, 2), m.array(EXAMPLES, 1)),
            "seeds": lambda m: (0, 1),
            "optimiser": lambda m: lambda size: SGD,
            "gradient": lambda m: pctheory.equilibrated_gradient,
            "steps": lambda m: 1,
            "places": lambda m: (0.5, "output"),
            "band": lambda m: (-0.25, 0.25),
        },
        nonfinite=True,
        heavy=True,
        lasting=("steps", "sizes", "seeds"),
    ),
    "exponential_fit": Target({"x": lambda m: list(m.array(4)), "y": lambda m: list(np.abs(m.array(4)))}),
    "forward_pass_moments": Target({"networks": networks}),
    "log_log_fit": Target({"x": lambda m: list(np.abs(m.array(4))), "y": lambda m: list(np.abs(m.array(4)))}),
    # random matrices
    "activity_hessian_law": Target(
        {"points": lambda m: m.one_of(16, 1)}, also=(NotConvergedError,), heavy=True, lasting=("max_iterations",)
    ),
    "expected_forward_pass": PLAIN,
    "expected_rescaling": PLAIN,
    "free_edges": PLAIN,
    "marchenko_pastur": PLAIN,
    "orthogonal_spectrum": Target({"width": lambda m: 3}),
    "rescaling_moments": PLAIN,
    "semicircle": PLAIN,
    "standard_variances": PLAIN,
    "RandomChain": Target(
        {
            "variances": lambda m: list(np.abs(m.array(3))),
            "skips": lambda m: [0.0, 0.5, 0.0],
            "precisions": lambda m: list(np.abs(m.array(3)) + 1e-300),
            "widths": lambda m: WIDTHS,
        }
    ),
    "random_matrix.expected_relu_forward_pass": PLAIN,
    "random_matrix.forward_pass_variance": Target(nonfinite=True),
    "random_matrix.orthogonal_variances": PLAIN,
    "random_matrix.typical_forward_pass": PLAIN,
    "random_matrix.mixture": Target(LAWS | {"shares": lambda m: (0.25, 0.75)}),
    # infinite width
    "lazy_descent": PLAIN,
    "mean_field_descent": PLAIN,
    # data
    "Dataset": Target(
        {
            "name": lambda m: "mine",
            "inputs": lambda m: m.array(4, 2),
            "targets": lambda m: m.array(4, 1),
            "test_inputs": lambda m: m.array(3, 2),
            "test_targets": lambda m: m.array(3, 1),
            "fingerprint": lambda m: "sha256:0",
        }
    ),
    "batches": Target(call=lambda **given: next(pctheory.batches(**given))),
    "dataset": Target(also=(FileNotFoundError,), left_out=("data_dir",), heavy=True),
    "stacked_batches": PLAIN,
    "toy_regression": PLAIN,
    # with an activation function
    "nonlinear.activity_gradient": NONLINEAR,
    "nonlinear.energy": NONLINEAR_PERMUTES,
    "nonlinear.feedforward": NONLINEAR,
    "nonlinear.inference_by_halving": nonlinear_target(lasting=("steps",)),
    "nonlinear.inference_descent": nonlinear_target(nonfinite=True, lasting=("steps",)),
    "nonlinear.inference_to_stationarity": nonlinear_target(also=(RuntimeError,), lasting=("max_steps",)),
    "nonlinear.layer_energies": NONLINEAR_PERMUTES,
    "nonlinear.loss": NONLINEAR_PERMUTES,
    "nonlinear.partial_weight_gradient": NONLINEAR_PERMUTES,
    "nonlinear.prediction_errors": NONLINEAR,
    # methods of results
    "StructuredHessian.product": Target(call=lambda **given: structured().product(**given)),
    "FisherMetric.product": Target({"vectors": Made.hidden}, call=lambda **given: metric().product(**given)),
    "FisherMetric.solve": Target({"vectors": Made.hidden}, call=lambda **given: metric().solve(**given)),
    "TaylorModel.predicted_reduction": Target(
        {"step": Made.hidden}, call=lambda **given: model().predicted_reduction(**given)
    ),
    "ActivityHessian.product": Target({"vectors": Made.hidden}, call=lambda **g: model().curvature.product(**g)),
    "Law.moment": Target({"k": lambda m: 3}, call=lambda k: pctheory.marchenko_pastur(0.5).moment(k)),
}  # fmt: skip
# Results and errors: made by the functions above, and not by hand.
RESULTS = {
    *("Layer", "Layers", "Equilibrium", "ExtremeEigenpairs", "SpectralDensity", "StructuredHessian", "Step"),
    *("Classification", "Derivatives", "FoundPoint", "FisherMetric", "TaylorModel", "InferenceFlow", "Training"),
    *("WeightDescent", "WeightFlow", "ActivityHessianExtremes", "ForwardPassMoments", "LawFit", "Law", "Spectrum"),
    *("ActivityHessianLaw", "NotConvergedError", "MeanFieldDescent", "Coordinate", "Network", "Snapshots"),
    *("LearningRecord", "DysonEquation", "RescalingMoments", "TruncatedStep", "GradientDecomposition"),
    *("ActivityHessian", "InferenceStep", "ExactEquilibrium"),
}
# No arguments.
WITHOUT = {"enable_x64"}


# What an error may name: an argument, or the function at whose result numbers ended.
FUNCTIONS = sorted({name.rpartition(".")[2] for name in TARGETS} | {name.partition(".")[0] for name in TARGETS})


def eigenvalues_only(**given: Any) -> tuple[float, float]:
    found = pctheory.activity_hessian_extremes(**given)
    return found.smallest, found.largest


def quiet_network(**given: Any) -> pctheory.NonlinearPCN:
    """Equinox warns of arrays given for functions, before they are refused."""
    warnings.filterwarnings("ignore", "A JAX array is being set as static")
    return pctheory.NonlinearPCN(**given)


def zero_rank(m: Made) -> pctheory.LinearPCN:
    net = m.net()
    return pctheory.LinearPCN([0 * net.weights[0], net.weights[1], 0 * net.weights[2]], precisions=net.precisions)


@cache
def small() -> SimpleNamespace:
    rng = np.random.default_rng(0)
    net = pctheory.LinearPCN([rng.standard_normal((n, k)) for n, k in zip(WIDTHS[1:], WIDTHS[:-1], strict=True)])
    return SimpleNamespace(net=net, x=rng.standard_normal((EXAMPLES, 2)), y=rng.standard_normal((EXAMPLES, 1)))


@cache
def structured() -> pctheory.StructuredHessian:
    return pctheory.loss_hessian_at_origin(small().net, small().x, small().y)


@cache
def metric() -> pctheory.FisherMetric:
    return pctheory.fisher_metric(small().net, small().x)


@cache
def model() -> pctheory.TaylorModel:
    return pctheory.taylor_model(small().net, small().x, small().y)


@cache
def found_point() -> pctheory.FoundPoint:
    kind = pctheory.classification(small().net, small().x, small().y, DERIVATIVES)
    return pctheory.FoundPoint(0, small().net, kind)


def function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    if module == "nonlinear":
        return getattr(nonlinear, attribute)
    found: Any = PACKAGES.get(f"{module}." if module else "", pctheory)
    return getattr(found, attribute)


def parameters(name: str, target: Target) -> list[tuple[str, bool]]:
    """Names of the parameters that are given, and whether they must be."""
    if target.call is not None and "." in name:
        return [(given, True) for given in target.more or ("vector",)]
    found = inspect.signature(function(name)).parameters.values()
    return [(p.name, p.default is p.empty) for p in found if p.name not in target.left_out and p.name != "self"]


def made_arguments(name: str, target: Target, made: Made) -> dict[str, Any]:
    given = {}
    for parameter, required in parameters(name, target):
        if required or (not made.plain and made.data.draw(st.integers(0, 3)) > 0):
            given[parameter] = (target.more.get(parameter) or ARGUMENTS[parameter])(made)
    return given


def tried(fuzz: Fuzz, name: str, data: st.DataObject) -> None:
    """One input: arguments as they should be, of many sizes, one of them hostile, or all in another form."""
    target = TARGETS[name]
    way = data.draw(st.sampled_from(("hostile",) * 6 + ("sizes",) * 2 + ("form", "whole", "permuted")))
    made = Made(data, plain=way in ("form", "whole", "permuted"))
    given = made_arguments(name, target, made)
    call = target.call or function(name)
    names = [*(p for p, _ in parameters(name, target)), *FUNCTIONS]
    attempt = partial(fuzz.call, name, names=names, also=target.also)
    if way in ("form", "whole") or (way == "permuted" and target.permutes):
        plain = attempt(partial(call, **given), shown(given))
        compared(fuzz, name, given, plain, other_form(way, given, data), attempt)
        return
    said = shown(given)
    if way == "hostile" and given:
        which = data.draw(st.sampled_from(sorted(given)))
        huge = which not in target.lasting
        junk, given[which] = data.draw(hostile(given[which], huge=huge))
        said = f"{which} = {junk} in {shown(given)}"
    before = frozen(given)
    result = attempt(partial(call, **given), said)
    if frozen(given) != before:
        fuzz.note(name, "changed an argument", "", said)
    if not isinstance(result, BaseException) and not target.nonfinite:
        check_finite(fuzz, name, result, said)


def check_finite(fuzz: Fuzz, name: str, result: Any, said: str) -> None:
    for array in numbers_in(result):
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            fuzz.note(name, f"returned {array[~np.isfinite(array)].ravel()[0]} for finite input", "", said)
            return


def other_form(way: str, given: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """The same arguments: in other memory, as other types, or with the examples in another order."""
    if way == "permuted":
        order = data.draw(st.permutations(range(EXAMPLES)))
        rows = ("x", "y", "activities")
        return {k: jax.tree.map(lambda a: a[np.array(order)], v) if k in rows else v for k, v in given.items()}
    forms: dict[str, Callable[[np.ndarray], Any]] = {
        "Fortran": np.asfortranarray,
        "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
        "read-only": read_only,
        "JAX": jnp.asarray,
        "reversed twice": lambda a: np.ascontiguousarray(a[::-1])[::-1] if a.ndim else a,
    }
    if way == "whole":
        forms = {"list": np.ndarray.tolist, "float32": lambda a: a.astype(np.float32), "subclass": Sub.of}
    form = forms[data.draw(st.sampled_from(sorted(forms)))]
    return {k: jax.tree.map(lambda v: form(v) if isinstance(v, np.ndarray) else v, v) for k, v in given.items()}


def read_only(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.setflags(write=False)
    return copy


class Sub(np.ndarray):
    """A subclass of NumPy's array that changes nothing."""

    @classmethod
    def of(cls, array: np.ndarray) -> "Sub":
        return array.copy().view(cls)


def compared(
    fuzz: Fuzz, name: str, given: dict[str, Any], plain: Any, other: dict[str, Any], attempt: Callable[..., Any]
) -> None:
    """Another form of the same arguments is refused, or gives the same numbers."""
    said = f"another form of {shown(given)}: {shown(other)}"
    again = attempt(partial(TARGETS[name].call or function(name), **other), said)
    if isinstance(again, BaseException):
        return
    if isinstance(plain, BaseException):
        fuzz.note(name, f"refused ({type(plain).__name__}), but not in another form", "", said)
        return
    for one, two in zip(numbers_in(plain), numbers_in(again), strict=True):
        size = float(np.abs(one).max(initial=0.0)) if one.dtype.kind in "fc" else 0.0
        single = 1e-3 if any(a.dtype == np.float32 for a in jax.tree.leaves(other) if hasattr(a, "dtype")) else 1e-7
        if one.shape != two.shape or not np.allclose(one, two, rtol=single, atol=single * size, equal_nan=True):
            fuzz.note(name, "other numbers for the same arguments in another form", "", said)
            return


def suite(fuzz: Fuzz, examples: int, seed: int | None, only: Sequence[str]) -> None:
    pctheory.enable_x64()
    jax.config.update("jax_traceback_filtering", "off")
    warnings.simplefilter("ignore")  # of what is made here; within a call each is an error
    importlib.import_module("sklearn.datasets")  # changes the environment when it is imported
    for name, target in TARGETS.items():
        if not only or name in only:
            count = max(examples // 10, 5) if target.heavy else examples
            driven(partial(tried, fuzz, name), count, seed)


def public_callables() -> set[str]:
    """Every public name that can be called, as the stubs list them: once, by its shortest path."""
    found: dict[int, str] = {}
    for prefix, package in PACKAGES.items():
        stub = Path(package.__file__).with_name("__init__.pyi")
        for node in ast.walk(ast.parse(stub.read_text())):
            for alias in node.names if isinstance(node, ast.ImportFrom) else ():
                value = getattr(package, alias.asname or alias.name)
                if inspect.isfunction(value) or inspect.isclass(value):
                    found.setdefault(id(value), f"{prefix}{alias.asname or alias.name}")
    of_nonlinear = {
        f"nonlinear.{name}"
        for name, value in vars(nonlinear).items()
        if inspect.isfunction(value) and value.__module__ == nonlinear.__name__ and not name.startswith("_")
    }
    return set(found.values()) | of_nonlinear


def test_every_public_callable_is_tried():
    listed = {name for name, target in TARGETS.items() if target.call is None or "." not in name}
    results = {f"{prefix}{name}" for prefix in PACKAGES for name in RESULTS}
    public = {name for name in public_callables() if name not in results | WITHOUT}
    assert public == listed


def test_every_parameter_has_a_value():
    for name, target in TARGETS.items():
        for parameter, _ in parameters(name, target):
            assert parameter in target.more or parameter in ARGUMENTS, (name, parameter)
    assert len(JUNK) > 50


def only_documented_errors(module: str, examples: int, *, seed: int | None = None, least: int) -> None:
    """A suite in a process of its own, where no import hook checks types: it tries `least` inputs or more."""
    command = [sys.executable, "-m", f"tests.{module}", str(examples), *([] if seed is None else [str(seed)])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert not found["defects"], "\n".join(json.dumps(defect) for defect in found["defects"])
    assert sum(found["inputs"].values()) > least


def test_only_documented_errors_and_right_numbers():
    only_documented_errors("test_fuzz_library", 30, least=2000)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_in_long_mode(seed: int):
    """In parts, as a test that takes a quarter of an hour is taken to hang."""
    only_documented_errors("test_fuzz_library", 100, seed=seed, least=7_000)


if __name__ == "__main__":
    run_suite(suite, sys.argv[1:])
