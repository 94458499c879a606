r"""How far T = H steps of inference reach at the published rates: errors and weight gradients, layer by layer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from jaxtyping import Array
from matplotlib.axes import Axes
from scipy.special import erfc, gammaln

from pctheory import batches, dataset, mupc, nonlinear
from pctheory.conditioning import log_log_fit
from pctheory.figures import COLOURS, THEORY_LINE, Arrays, Figure
from pctheory.network import Layers

Values = npt.NDArray[np.float64]
Batch = tuple[Array, Array]


def identity(z: Array) -> Array:
    """No activation."""
    return z


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"linear": identity, "ReLU": jax.nn.relu, "tanh": jnp.tanh}
FAR = float(erfc(2**-0.5))  # the share that erfc(d / (2 sqrt(eta t))) has at d = sqrt(2 eta t)
ADAM = 1e-8  # what Adam adds to the root of its second moment


@dataclass(frozen=True)
class Parameters:
    """`rates`: published ones, of the batch mean. `searches`: steps towards the equilibrium of ReLU and tanh.

    The reach in time is of a linear net of its own, `gamma` so that its output hardly moves.
    """

    part: str = ""
    width: int = 64
    hidden: int = 128
    rates: tuple[float, ...] = (0.5, 0.5, 1.0)
    examples: int = 64
    searches: int = 20
    slow_hidden: int = 256
    slow_width: int = 32
    slow_rate: float = 0.2
    gamma: float = 16.0
    times: tuple[int, ...] = (20, 30, 45, 70, 105, 160, 240)
    draws: int = 4
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per activation function, and one for the reach in time."""
    return {part: replace(parameters, part=part) for part in (*ACTIVATIONS, "time")}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Per layer: errors, gradients and what they should be; or the reach after each of the times."""
    p = parameters
    if p.part == "time":
        return _in_time(p)
    x, y = (jnp.asarray(a) for a in next(iter(batches(dataset("digits"), p.examples, seed=p.seed))))
    widths = (x.shape[1], *(p.width,) * p.hidden, y.shape[1])
    net = nonlinear.NonlinearPCN(mupc(widths, seed=p.seed), ACTIVATIONS[p.part])
    settled, stationarity = _equilibrium(net, (x, y), p)
    rate = p.rates[list(ACTIVATIONS).index(p.part)]
    arrays: dict[str, npt.ArrayLike] = {
        "stationarity": stationarity,
        "kernel": _kernel(p.hidden, rate / p.examples),
    }
    distance = np.arange(p.hidden, 0, -1)
    arrays["front"] = np.exp(_log_binomial(p.hidden, distance) + distance * np.log(rate / p.examples))
    exact = _weight_gradients(net, settled, (x, y))
    backpropagated = _stacked(_loss_gradients(net, (x, y)))
    pulls = _pulls(net, (x, y))
    arrays["exact_gradients"] = [_root_mean_square(g) for g in exact]
    for name, eta in {"mean": rate / p.examples, "single": rate}.items():
        hidden = _descended(net, (x, y), jnp.asarray(eta), jnp.asarray(p.hidden))
        errors = _errors(net, hidden, (x, y))
        wanted = _errors(net, settled, (x, y))
        found = _weight_gradients(net, hidden, (x, y))
        arrays |= {
            f"{name}_shares": _sizes(errors[:-1]) / _sizes(pulls),
            f"{name}_missing": _sizes(e - w for e, w in zip(errors, wanted, strict=True)) / _sizes(wanted),
            f"{name}_gradients": [_root_mean_square(g) for g in found],
            f"{name}_cosines": [_cosine(g, b) for g, b in zip(found, backpropagated, strict=True)],
            f"{name}_exact_cosines": [_cosine(g, b) for g, b in zip(found, exact, strict=True)],
        }
    return arrays


def _equilibrium(net: nonlinear.NonlinearPCN, batch: Batch, p: Parameters) -> tuple[Layers, float]:
    """Exact for the linear net, where one step gets there; for the others a try, whose success the number tells."""
    found = nonlinear.inference_to_stationarity(net, *batch, max_steps=p.searches, allow_unfinished=True)
    return found.activities, float(found.stationarity)


@eqx.filter_jit
def _descended(net: nonlinear.NonlinearPCN, batch: Batch, rate: Array, steps: Array) -> Layers:
    """Each example by its own gradient, from the feedforward pass."""

    def step(_: Array, hidden: Layers) -> Layers:
        slope = nonlinear.activity_gradient(net, hidden, *batch)
        return jax.tree.map(lambda z, g: z - len(batch[0]) * rate * g, hidden, slope)

    start = nonlinear.feedforward(net, batch[0]).without_last()
    reached: Layers = jax.lax.fori_loop(0, steps, step, start)
    return reached


def _stacked(layers: Layers) -> list[Values]:
    return [a for run in layers.runs for a in np.asarray(run)]


def _errors(net: nonlinear.NonlinearPCN, hidden: Layers, batch: Batch) -> list[Values]:
    return _stacked(nonlinear.prediction_errors(net, hidden, *batch))


def _weight_gradients(net: nonlinear.NonlinearPCN, hidden: Layers, batch: Batch) -> list[Values]:
    return _stacked(nonlinear.partial_weight_gradient(net, hidden, *batch))


@eqx.filter_jit
def _loss_gradients(net: nonlinear.NonlinearPCN, batch: Batch) -> Layers:
    def loss(weights: Layers) -> Array:
        return nonlinear.loss(net.with_weights(weights), *batch)

    return jax.grad(loss)(net.weights)


def _pulls(net: nonlinear.NonlinearPCN, batch: Batch) -> list[Values]:
    """P_l^T r of each example, l = 1..H, linearised at the feedforward pass: the errors of backpropagation."""
    *hidden, output = nonlinear.feedforward(net, batch[0])
    linear, slope = net.linear, jax.jit(jax.vmap(jax.vmap(jax.grad(net.activation))))
    weights = [np.asarray(a * w) for a, w in zip(linear.scalings, linear.weights, strict=True)]
    slopes, skips = [np.asarray(slope(z)) for z in hidden], np.asarray(linear.skips)
    pulls = [slopes[-1] * (np.asarray(batch[1] - output) @ weights[-1])]
    for l in range(len(hidden) - 1, 0, -1):
        pulls.append(slopes[l - 1] * (pulls[-1] @ weights[l]) + skips[l] * pulls[-1])
    return pulls[::-1]


def _sizes(layers: Any) -> Values:
    return np.array([np.linalg.norm(a) for a in layers])


def _root_mean_square(a: Values) -> float:
    return float(np.sqrt(np.mean(a**2)))


def _cosine(a: Values, b: Values) -> float:
    """0 where one of them vanishes."""
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.sum(a * b)) / size if size else 0.0


def _kernel(hidden: int, rate: float) -> Values:
    """Errors of a chain of H identity maps under a constant pull of 1 on its last activity, after H steps."""
    z = np.zeros(hidden)
    for _ in range(hidden):
        errors = np.diff(z, prepend=0.0)
        z = z - rate * (errors - np.append(errors[1:], 1.0))
    return np.diff(z, prepend=0.0)


def _log_binomial(n: int, k: npt.NDArray[np.int64]) -> Values:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def _in_time(p: Parameters) -> Mapping[str, npt.ArrayLike]:
    """The mean reach over random nets, one random example each."""
    reaches = np.array([_reaches(p, p.seed + draw) for draw in range(p.draws)])
    fit = log_log_fit(np.array(p.times), reaches.mean(axis=0))
    return {
        "times": p.times,
        "reaches": reaches,
        "law": np.sqrt(2 * p.slow_rate * np.array(p.times)),
        "exponent": [fit.slope, *fit.interval],
    }


def _reaches(p: Parameters, seed: int) -> list[float]:
    """In layers from the output: where the error has `FAR` of the pull."""
    rng = np.random.default_rng(seed)
    x, y = jnp.asarray(rng.standard_normal((1, p.slow_width))), jnp.asarray(rng.standard_normal((1, 10)))
    widths = (p.slow_width,) * (p.slow_hidden + 1) + (10,)
    net = nonlinear.NonlinearPCN(mupc(widths, seed=seed, gamma=p.gamma), identity)
    pulls, found = np.stack(_pulls(net, (x, y))), []
    for steps in p.times:
        hidden = _descended(net, (x, y), jnp.asarray(p.slow_rate), jnp.asarray(steps))
        errors = np.stack(_errors(net, hidden, (x, y))[:-1])
        share = ((errors * pulls).sum(axis=(1, 2)) / (pulls**2).sum(axis=(1, 2)))[::-1]
        first = int(np.argmax(share < FAR))
        found.append(float(np.interp(-FAR, -share[: first + 1], np.arange(1, first + 2))))
    return found


LOOKS = {"linear": COLOURS["minimum"], "ReLU": COLOURS["energy"], "tanh": COLOURS["other"]}
# Below these lies rounding: how much of it, down to exact zeros, depends on how the loops were compiled.
SHARE_FLOOR, GRADIENT_FLOOR = 1e-14, 1e-17


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Errors by layer, with their laws; what is missing to the equilibrium; gradients; the reach in time."""
    picture, ((shares, missing), (gradients, reach)) = plt.subplots(2, 2, figsize=(6.75, 5.4))
    _draw_shares(shares, arrays, parameters)
    _draw_missing(missing, arrays, parameters)
    _draw_gradients(gradients, arrays, parameters)
    _draw_reach(reach, arrays["time"], parameters)
    return picture


def _draw_shares(axes: Axes, arrays: Mapping[str, Arrays], p: Parameters) -> None:
    distance = range(p.hidden, 0, -1)
    for name, colour in LOOKS.items():
        a = arrays[name]
        axes.plot(distance, a["mean_shares"], "o", color=colour, markersize=3, label=name)
        axes.plot(distance, a["kernel"], **THEORY_LINE)
        axes.plot(distance, a["front"], color=COLOURS["neutral"], linewidth=1.0, zorder=0)
    axes.plot([], [], **THEORY_LINE, label="$k(l, T)$, chain")
    axes.plot([], [], color=COLOURS["neutral"], linewidth=1.0, label=r"first arrival")
    axes.set(title=f"error after $T = H = {p.hidden}$ steps", ylabel=r"$|e_l| \; / \; |P_l^T r|$", yscale="log")
    axes.set(xlabel="distance from the output $L - l$", xlim=(0, 24), ylim=(SHARE_FLOOR, 10))
    axes.legend(fontsize=7)


def _draw_missing(axes: Axes, arrays: Mapping[str, Arrays], p: Parameters) -> None:
    layers = range(1, p.hidden + 2)
    for name, colour in LOOKS.items():
        axes.plot(layers, arrays[name]["mean_missing"], color=colour, label=name)
        axes.plot(layers, arrays[name]["single_missing"], ":", color=colour)
    axes.plot([], [], color="black", label="of the batch mean")
    axes.plot([], [], ":", color="black", label="per example")
    axes.set(title="error missing to the equilibrium", xlabel="layer $l$", yscale="log")
    axes.set(ylabel=r"$|e_l - e_l^*| \; / \; |e_l^*|$", ylim=(0.1, 1e3))
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0.03, 1.0))


def _draw_gradients(axes: Axes, arrays: Mapping[str, Arrays], p: Parameters) -> None:
    layers = range(1, p.hidden + 2)
    for name, colour in LOOKS.items():
        axes.plot(layers, arrays[name]["exact_gradients"], color=colour, label=name)
        axes.plot(layers, arrays[name]["mean_gradients"], "o", color=colour, markersize=2.2)
    axes.plot([], [], color="black", label=r"at the equilibrium")
    axes.plot([], [], "o", color="black", markersize=2.2, label="after $T = H$ steps")
    axes.axhline(ADAM, color=COLOURS["loss"], linewidth=0.8, linestyle="--")
    axes.text(1, 2.5 * ADAM, r"$\epsilon$ of Adam", fontsize=7, color=COLOURS["loss"])
    axes.set(title="gradient of the weights", xlabel="layer $l$", ylabel="root mean square entry", yscale="log")
    axes.set(ylim=(GRADIENT_FLOOR, 1e-1))
    axes.legend(fontsize=7, loc="lower left")


def _draw_reach(axes: Axes, a: Arrays, p: Parameters) -> None:
    slope, low, high = a["exponent"]
    for row in a["reaches"]:
        axes.plot(a["times"], row, color=COLOURS["neutral"], linewidth=0.7)
    label = f"mean of {len(a['reaches'])} nets,\nexponent {slope:.3f} ({low:.3f} to {high:.3f})"
    axes.plot(a["times"], a["reaches"].mean(axis=0), "o", color=COLOURS["energy"], label=label)
    axes.plot(a["times"], a["law"], **THEORY_LINE, label=r"$\sqrt{2 \eta t}$")
    axes.set(xscale="log", yscale="log", xlabel="steps $t$", ylabel="reach in layers", title="reach in time")
    axes.set_xticks([20, 50, 100, 200], ["20", "50", "100", "200"])
    axes.set_yticks([3, 5, 10], ["3", "5", "10"])
    axes.minorticks_off()
    axes.legend(fontsize=7)


def caption(parameters: Parameters) -> str:
    p = parameters
    rates = ", ".join(f"{rate:g} ({name})" for rate, name in zip(p.rates, ACTIVATIONS, strict=True))
    scaled = "" if p.width == 512 else f" Width scaled down to {p.width} from 512."
    return (
        f"Inference by gradient descent in residual nets of muPC, width {p.width}, {p.hidden} hidden layers, at "
        f"initialisation on {p.examples} digits, T = H steps at the published activity rates, {rates}. The "
        f"published code divides the energy by the batch size, so that each example moves {p.examples} times more "
        "slowly than the rate says. Top left: errors relative to those of backpropagation, P_l^T r; dashes: errors "
        "of a chain of identity maps; grey: the size of the first arrival, binom(T, d) eta^d. Top right: distance "
        "to the errors at equilibrium, 1 where nothing has arrived, with the rate read as of the batch mean and, "
        "dotted, as per example, where linear nets are unstable. The equilibrium is exact for the linear net; for "
        f"ReLU and tanh it is where {p.searches} conjugate Gauss-Newton steps get. Bottom left: size of the weight "
        "gradients, at the equilibrium and after T = H steps; dashed: what Adam adds to the root of its second "
        "moment. What is smaller than the panels on the left show is rounding. Bottom right: linear nets of width "
        f"{p.slow_width}, {p.slow_hidden} hidden layers, rate {p.slow_rate} per example, outputs divided by "
        f"{p.gamma:g}: how far from the output the error is {FAR:.3f} of the pull, which diffusion puts at "
        f"sqrt(2 eta t).{scaled} Not in the papers."
    )


DEFAULT = Parameters()
FIGURE = Figure(
    key="mupc/inference-reach",
    title="The reach of inference",
    caption=caption,
    source="own",
    claims=("own/inference-reach", "goemaere-2025/first-arrival", "own/step-stability"),
    presets={
        "quick": replace(DEFAULT, width=12, hidden=24, searches=4, slow_hidden=64, draws=2, times=(20, 35, 60)),
        "default": DEFAULT,
        "paper": replace(DEFAULT, width=512, searches=60, draws=16),
    },
    units=units,
    data=data,
    draw=draw,
)
