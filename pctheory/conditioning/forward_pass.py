r"""How large activities are, layer by layer, and how that depends on width or depth: before and while training."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import ArrayLike, Float

from ..arguments import number, public, shown, whole_number
from ..arrays import like_weights
from ..energy import feedforward
from ..equilibrium import equilibrated_gradient
from ..network import Layers, LinearPCN, double_array, finite_result, require_columns
from ..nonlinear import NonlinearPCN
from ..nonlinear import feedforward as nonlinear_feedforward
from .fits import LawFit, log_log_fit

Network = LinearPCN | NonlinearPCN
Batch = tuple[ArrayLike, ArrayLike]


@dataclass(frozen=True, eq=False)
class ForwardPassMoments:
    """Mean square activities |z_l|^2 / N_l, l = 1..L, over examples and networks.

    standard_error: of the mean over the networks, which are independent; examples of one network are not.
    """

    mean: Float[np.ndarray, " depth"]
    standard_error: Float[np.ndarray, " depth"]


@public
def forward_pass_moments(networks: Iterable[Network], x: ArrayLike) -> ForwardPassMoments:
    r"""The mean over `networks` of |z_l|^2 / N_l for the feedforward activities z_1..z_L of the rows of `x`.

    `networks` are drawn alike, from different seeds; two at least. With an activation function, z_l is what enters
    it. Raises ValueError for fewer networks or networks of different depth.
    Source: mupc-2025/forward-pass. Twin: the closed forms of `random_matrix`. Cost: a forward pass each.
    """
    squares = [_mean_squares(_feedforward(net, x)) for net in networks]
    if len(squares) < 2:
        raise ValueError(f"networks holds {len(squares)}, expected at least 2: draw them from different seeds")
    if len({len(found) for found in squares}) > 1:
        raise ValueError(f"networks have depths {sorted({len(found) for found in squares})}, expected one depth")
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.std(squares, axis=0, ddof=1) / np.sqrt(len(squares))
    found = np.mean(squares, axis=0), spread
    return ForwardPassMoments(*finite_result("forward_pass_moments", found))


@dataclass(frozen=True, eq=False)
class Coordinate:
    """One line of a coordinate check: how the size of activities at one place depends on width or depth.

    step 0: root-mean-square activity at initialisation; step t > 0: root-mean-square change made by that step of
    training. where: the share of the way through the hidden layers, 1 the last of them, or "output". values: one
    row per size, one column per seed; 0 and infinity mean that there is no law to fit.
    """

    step: int
    where: float | str
    values: Float[np.ndarray, "sizes seeds"]
    fit: LawFit | None
    band: tuple[float, float]

    @property
    def passes(self) -> bool:
        """Whether the interval of the exponent keeps to the band."""
        return self.fit is not None and self.fit.keeps_to(*self.band)

    @property
    def text(self) -> str:
        """The place, the exponent and the verdict, to read."""
        where = self.where if isinstance(self.where, str) else f"{self.where:g} H"
        found = "no law: zero or infinite" if self.fit is None else f"exponent {self.fit.text}"
        verdict = "passes" if self.passes else "fails"
        return f"step {self.step}, {where}: {found}, wanted {self.band[0]:g} to {self.band[1]:g}: {verdict}"


@public
def coordinate_check(
    networks: Callable[[int, int], Network],
    sizes: Sequence[int],
    batch: Batch,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3),
    optimiser: Callable[[int], optax.GradientTransformation] | None = None,
    gradient: Callable[[Any, ArrayLike, ArrayLike], Layers] = equilibrated_gradient,
    steps: int = 2,
    places: Sequence[float | str] = (0.25, 0.5, 0.75, 1.0, "output"),
    band: tuple[float, float] = (-0.25, 0.25),
) -> list[Coordinate]:
    r"""The exponents k of size^k for activities at initialisation and for their changes in the first steps.

    `networks(size, seed)` draws a network, the size being a width or a depth; `optimiser(size)` is that for this
    size, with its learning rate; without one only the initialisation is checked. `gradient(net, x, y)` is in the
    weights, by default that of the equilibrated energy: exact predictive coding. `places` are shares of the way
    through the hidden layers, or "output". A stable parameterisation has exponents of 0; `band` says how far off
    the 95 % interval may reach: by default half way to the 1/2 of a wrong scaling. An output that starts small is
    no fault (muPC's falls as N^-1/2 by design), so there, at step 0, the lower end is lower by 1/2. Random starts
    are independent points of the fit.

    A forward pass or a step that is not finite fails the check at that size rather than stopping it.
    Raises ValueError for fewer than two sizes or two seeds, places outside (0, 1] and a band that is empty.
    Source: mupc-2025 (coordinate checks). Twin: the closed forms of `random_matrix` at initialisation.
    """
    _check_plan(sizes, seeds, places, band)
    if len(batch) != 2:
        raise ValueError(f"batch has {len(batch)} entries, expected (x, y)")
    batch = double_array(batch[0], "batch, x", ndim=2), double_array(batch[1], "batch, y", ndim=2)
    whole_number("steps", steps, 0)
    count = steps + 1 if optimiser is not None else 1
    found = np.full((count, len(places), len(sizes), len(seeds)), np.inf)
    for i, size in enumerate(sizes):
        for j, seed in enumerate(seeds):
            net = networks(size, seed)
            if not isinstance(net, LinearPCN | NonlinearPCN):
                raise TypeError(f"networks returns {shown(net)}, expected a network")
            require_columns(batch[0], "batch, x", "N_0", net.widths[0])
            require_columns(batch[1], "batch, y", "N_L", net.widths[-1])
            transformation = None if optimiser is None else optimiser(size)
            if not isinstance(transformation, optax.GradientTransformation | None):
                raise TypeError(f"optimiser returns {shown(transformation)}, expected one of optax")
            for t, layers in enumerate(_changes(net, batch, transformation, gradient, steps)):
                found[t, :, i, j] = [_at(layers, place) for place in places]
    return [
        Coordinate(t, place, found[t, k], _fit(sizes, found[t, k]), _band(band, t, place))
        for t in range(count)
        for k, place in enumerate(places)
    ]


def _check_plan(
    sizes: Sequence[int], seeds: Sequence[int], places: Sequence[float | str], band: tuple[float, float]
) -> None:
    for name, values in (("sizes", sizes), ("seeds", seeds)):
        for value in values:
            whole_number(name, value, 0)
        if len(set(values)) < 2:
            raise ValueError(f"{name} is {tuple(values)}, expected at least two different ones")
    for place in places:
        if isinstance(place, str) and place == "output":
            continue
        if isinstance(place, str) or not 0 < number("places", place) <= 1:
            raise ValueError(f"places holds {shown(place)}, expected shares in (0, 1] or 'output'")
    if len(band) != 2 or not number("band", band[0]) < number("band", band[1]):
        raise ValueError(f"band is {band}, expected (least, most) with least < most")


def _band(band: tuple[float, float], step: int, place: float | str) -> tuple[float, float]:
    return (band[0] - 0.5, band[1]) if (step, place) == (0, "output") else band


def _feedforward(net: Network, x: ArrayLike) -> Layers:
    return nonlinear_feedforward(net, x) if isinstance(net, NonlinearPCN) else feedforward(net, x)


def _mean_squares(layers: Layers) -> np.ndarray:
    with np.errstate(over="ignore"):  # infinite then, which is no law
        return np.concatenate([np.mean(np.asarray(run) ** 2, axis=(1, 2)) for run in layers.runs])


def _changes(
    net: Any,
    batch: Batch,
    optimiser: optax.GradientTransformation | None,
    gradient: Callable[..., Layers],
    steps: int,
) -> Iterable[np.ndarray]:
    """Root-mean-square activities of z_1..z_L, then of their change in each step, until one is not finite."""
    x, y = batch
    state = None if optimiser is None else optimiser.init(net.weights)
    try:
        before = _feedforward(net, x)
        yield np.sqrt(_mean_squares(before))
        for _ in range(steps if optimiser is not None else 0):
            direction = like_weights("gradient", gradient(net, x, y), net.weights)
            updates, state = optimiser.update(direction, state, net.weights)  # type: ignore[union-attr]
            net = net.with_weights(optax.apply_updates(net.weights, updates))
            after = _feedforward(net, x)
            yield np.sqrt(_mean_squares(jax.tree.map(lambda a, b: a - b, after, before)))
            before = after
    except FloatingPointError:
        return


def _at(sizes_by_layer: np.ndarray, place: float | str) -> float:
    hidden = len(sizes_by_layer) - 1
    if place == "output":
        return float(sizes_by_layer[-1])
    if not hidden:
        raise ValueError(f"places holds {place}, but a network of depth 1 has no hidden layers; ask for 'output'")
    return float(sizes_by_layer[int(np.ceil(float(place) * hidden)) - 1])


def _fit(sizes: Sequence[int], values: np.ndarray) -> LawFit | None:
    if not (np.isfinite(values).all() and (values > 0).all()):
        return None
    return log_log_fit(np.repeat(np.asarray(sizes, dtype=float), values.shape[1]), values.ravel())
