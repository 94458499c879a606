r"""How far T = H steps of inference reach. Derived and measured for this project.

Claims
    own/inference-reach   which layers inference at the published rates reaches, and what gradient it leaves them

Notation: eta is a rate per example, z <- z - eta (H_z z - b); one on the mean over a batch of B acts as eta / B.
k(l, t) is the error of layer l after t steps in a chain of identity maps under a constant pull of 1 on its last
layer. r is the residual of the feedforward pass, P_l^T r the error that backpropagation gives layer l.

Published setting: activity rates 0.5 (ReLU) and 1 (tanh) by gradient descent, T = H steps, batches of 64. The code
of mupc-2025 divides its energy by the batch size, so that these are rates on the batch mean.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from scipy.special import erfc

import pctheory
from paper_checks._inference import (
    EXAMPLES,
    OUTPUTS,
    PUBLISHED,
    ResidualNet,
    Values,
    chain_share,
    exponent_error,
)
from pctheory.claims import Check, claim, judged, largest
from pctheory.conditioning import LawFit, log_log_fit


@dataclass(frozen=True)
class Diffusion:
    """A descent far from instability, looked at after `times` steps. `gamma`: so that the output hardly moves."""

    hidden: int = 256
    width: int = 32
    rate: float = 0.2
    gamma: float = 16.0
    times: tuple[int, ...] = (20, 30, 45, 70, 105, 160, 240)
    seeds: tuple[int, ...] = (0, 1)


DIFFUSION = Diffusion()
FAR = float(erfc(2**-0.5))  # the share at which erfc(d / (2 sqrt(eta t))) has come sqrt(2 eta t) layers


def _reach(share: Values) -> float:
    """How many layers from the output the share falls to `FAR`, interpolated."""
    down = share[::-1]
    first = int(np.argmax(down < FAR))
    return float(np.interp(-FAR, -down[: first + 1], np.arange(1, first + 2)))


@cache
def _reaches() -> Values:
    """After each of the times, the mean over the seeds; the share is along the pull of backpropagation."""
    d, found = DIFFUSION, []
    for seed in d.seeds:
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((1, d.width)), rng.standard_normal((1, OUTPUTS))
        net = ResidualNet.of(pctheory.mupc((d.width,) * (d.hidden + 1) + (OUTPUTS,), seed=seed, gamma=d.gamma))
        pulls, z, reaches = net.pulls(x, y), net.feedforward(x), []
        for steps in np.diff(d.times, prepend=0):
            for _ in range(steps):
                z = z - d.rate * net.gradient(z, x, y)
            along = (net.errors(z, x, y)[0] * pulls).sum(axis=(1, 2)) / (pulls**2).sum(axis=(1, 2))
            reaches.append(_reach(along))
        found.append(reaches)
    return np.mean(found, axis=0)


def _reach_exponent() -> LawFit:
    return log_log_fit(np.array(DIFFUSION.times), _reaches())


def _reach_error(law: Callable[[float], float], place: int) -> float:
    expected = law(DIFFUSION.rate * DIFFUSION.times[place])
    return abs(_reaches()[place] / expected - 1)


@dataclass(frozen=True)
class Setting:
    """A residual net with as many steps of inference as hidden layers, at the published rates."""

    activation: str
    hidden: int
    rate: float = PUBLISHED["ReLU"]
    width: int = 64


SETTINGS = (
    Setting("linear", 64),
    Setting("ReLU", 16),
    Setting("ReLU", 64),
    Setting("ReLU", 128),
    Setting("tanh", 64, rate=PUBLISHED["tanh"]),
)
LEAST = 1e-8  # a share below which the rounding of the activities, 1e-16 of them, begins to show in the errors


@cache
def _digits() -> tuple[Values, Values]:
    x, y = next(iter(pctheory.batches(pctheory.dataset("digits"), EXAMPLES, seed=0)))
    return np.asarray(x), np.asarray(y)


@dataclass(frozen=True, eq=False)
class Reached:
    """Of layers 1..H: errors of backpropagation and of inference; their weight gradients, from layer 2 on."""

    pulls: Values
    errors: Values
    backpropagated: Values
    gradients: Values


@cache
def _reached(setting: Setting, batch: int = EXAMPLES) -> Reached:
    """On the digits, with the rate on the mean over `batch`."""
    x, y = _digits()
    widths = (x.shape[1], *(setting.width,) * setting.hidden, OUTPUTS)
    net = ResidualNet.of(pctheory.mupc(widths, seed=0), setting.activation)
    z = net.descended(x, y, rate=setting.rate / batch, steps=setting.hidden)
    errors, _ = net.errors(z, x, y)
    pulls = net.pulls(x, y)
    own = net.weight_gradients(errors, z)
    return Reached(pulls, errors, net.weight_gradients(pulls, net.feedforward(x)), own)


Kernel = Callable[[Setting], Values]


def _kernel(setting: Setting, *, batch: int = EXAMPLES, times: int = 1) -> Values:
    return chain_share(setting.hidden, rate=setting.rate / batch, steps=times * setting.hidden)


def _sizes(layers: Values) -> Values:
    found: Values = np.linalg.norm(layers, axis=(1, 2))
    return found


def _kernel_error(kernel: Kernel, setting: Setting) -> float:
    """|e_l - k P_l^T r| relative to k |P_l^T r|, the worst layer that the true kernel says is reached."""
    reached, share = _reached(setting), kernel(setting)[:, None, None]
    seen = _kernel(setting) > LEAST
    missed = _sizes((reached.errors - share * reached.pulls)[seen])
    return float((missed / _sizes((share * reached.pulls)[seen])).max())


def _gradient_error(share: Kernel, setting: Setting) -> float:
    """The same of the weight gradients against those of backpropagation, layer by layer."""
    reached, seen = _reached(setting), _kernel(setting)[1:] > LEAST
    expected = share(setting)[1:, None, None] * reached.backpropagated
    return float((_sizes((reached.gradients - expected)[seen]) / _sizes(expected[seen])).max())


FALSE_KERNELS: dict[str, Kernel] = {
    "backpropagation in every layer": lambda setting: np.ones(setting.hidden),
    "the rate per example": partial(_kernel, batch=1),
    "twice the steps": partial(_kernel, times=2),
    "the rate of the first arrival": lambda setting: (
        (setting.rate / EXAMPLES) ** np.arange(setting.hidden, 0, -1.0)
    ),
}
# Maps differ from the identity by order 1/sqrt(L) in random directions, which turns errors by some per cent.
KERNEL_BAND = 0.1


def _recovered(setting: Setting, steps: int) -> int:
    """In how many layers the gradient has a hundredth of the size of that of F*, at its exact equilibrium."""
    x, y = _digits()
    widths = (x.shape[1], *(setting.width,) * setting.hidden, OUTPUTS)
    made = pctheory.mupc(widths, seed=0)
    net = ResidualNet.of(made)
    settled = np.stack([np.asarray(z) for z in pctheory.equilibrium(made, x, y).activities][: setting.hidden])
    exact = net.weight_gradients(net.errors(settled, x, y)[0], settled)
    z = net.descended(x, y, rate=setting.rate / EXAMPLES, steps=steps)
    found = net.weight_gradients(net.errors(z, x, y)[0], z)
    return int((_sizes(found) > 0.01 * _sizes(exact)).sum())


NEAR = 4  # layers: the kernel at eta T = 1/2 falls below a hundredth beyond the third


def _recovered_excess(setting: Setting, *, steps: int | None = None) -> float:
    """How many layers more than `NEAR` have such a gradient."""
    return largest(0.0, _recovered(setting, setting.hidden if steps is None else steps) - NEAR)


def _front(eta_t: float) -> float:
    """A layer per step, as the first arrival."""
    return eta_t / DIFFUSION.rate


@claim(
    key="own/inference-reach",
    statement=r"""In residual nets of muPC, descent on the activities spreads the error of the output as diffusion:
        after $t$ steps of rate $\eta$ per example, layer $l$ has $k(l, t) P_l^T r$, that of backpropagation times
        a factor that is the same for every width: $\mathrm{erfc}((L-l) / 2\sqrt{\eta t})$ for large $\eta t$, so
        the reach is $\sqrt{2 \eta t}$ layers. The published rates act on the mean over 64 examples: $\eta$ is 1/128
        (ReLU) or 1/64 (tanh), and $T = H$ steps reach $\sqrt{H / 64}$ or $\sqrt{H / 32}$ layers, 1.4 or 2 of 128.
        Beyond, the error falls faster than exponentially, and next to none is left. Such runs are far from the
        equilibrium of F*; their weight gradients are those of backpropagation, each layer's times its $k$.""",
    hypotheses=(
        "at initialisation",
        "outputs that hardly respond, N large against L, or steps too few for a response",
        "ReLU and tanh: measured, with the pull linearised at the feedforward pass",
    ),
    attribution="own",
    source="derived here",
    uses=("goemaere-2025/first-arrival",),
)
def inference_reach(check: Check) -> None:
    d = DIFFUSION
    check.property(
        f"muPC, H = {d.hidden}, N = {d.width}, rate {d.rate}: exponent 1/2 of the reach in t",
        [_reach_exponent],
        partial(exponent_error, 0.5),
        twins={"a front, 1": partial(exponent_error, 1.0), "1/3": partial(exponent_error, 1 / 3)},
        bound=0.03,  # disorder of the maps slows it at reach^2 / L
    )
    check.property(
        "the same: reach over sqrt(2 eta t)",
        range(len(d.times)),
        partial(_reach_error, lambda eta_t: (2 * eta_t) ** 0.5),
        twins={
            "sqrt(eta t)": partial(_reach_error, lambda eta_t: eta_t**0.5),
            "one layer a step": partial(_reach_error, _front),
            "the rate on a batch mean of 64": partial(_reach_error, lambda eta_t: (2 * eta_t / EXAMPLES) ** 0.5),
        },
        bound=0.05,  # as above; lattice effects are 2 % at the first time
    )
    check.property(
        "errors after T = H steps at the published rates, linear, ReLU and tanh",
        SETTINGS,
        partial(_kernel_error, _kernel),
        twins=judged(_kernel_error, FALSE_KERNELS),
        bound=KERNEL_BAND,
    )
    check.property(
        "weight gradients after T = H steps: backpropagation's times k",
        SETTINGS,
        partial(_gradient_error, _kernel),
        twins=judged(_gradient_error, FALSE_KERNELS),
        bound=KERNEL_BAND,
    )
    check.property(
        f"layers whose gradient has a hundredth of that of F*: at most {NEAR}",
        [setting for setting in SETTINGS if setting.activation == "linear"],
        _recovered_excess,
        twins={"with 8 times the steps": lambda setting: _recovered_excess(setting, steps=8 * setting.hidden)},
        bound=0.0,
    )
