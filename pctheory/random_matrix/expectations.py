r"""What a random chain does on average, in closed form: activities of the forward pass and the rescaling.

For random maps A_l = s_l I + X_l, the X_l independent, their entries uncorrelated, of mean 0 and variance v_l:

    E|A z|^2 = (s^2 + v N_l) |z|^2,      E[A S A^T] = s^2 S + v tr(S) I

Terms linear in X_l vanish, so the means below are exact at any widths, for any distribution. Orthogonal weights
have uncorrelated entries as well (`orthogonal_variances`). Second moments are those of normal entries.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy.special import digamma
from scipy.stats import poisson

from ..arguments import OVERFLOW_IS_REPORTED, positive_number, public, whole_number
from .ensemble import RandomChain

Layerwise = Float[np.ndarray, " depth"]


@dataclass(frozen=True, eq=False)
class RescalingMoments:
    r"""Of S_l = I/pi_l + A_l S_{l-1} A_l^T with normal weights, l = 1..L; S_L is the rescaling of the network.

    mean: sigma_l, where E[S_l] = sigma_l I. variance: of tr S_l / N_l. anisotropy: E|S_l - sigma_l I|^2 / N_l, the
    mean square distance of an eigenvalue from sigma_l; it includes that of their mean, the variance.
    """

    mean: Layerwise
    variance: Layerwise
    anisotropy: Layerwise


@public
@OVERFLOW_IS_REPORTED
def expected_rescaling(chain: RandomChain) -> Layerwise:
    r"""sigma_l = E[tr S_l] / N_l for l = 1..L; the last is E[tr S] / d_y. Moreover E[S_l] = sigma_l I.

        sigma_1 = 1/pi_1,    sigma_l = 1/pi_l + (s_l^2 + v_l N_{l-1}) sigma_{l-1}

    Exact at any widths, for any distribution of uncorrelated entries. N_0 and v_1 have no part in it.
    Raises FloatingPointError where a layer leaves the range of double precision.
    Claim: mupc-2025/limit-to-loss. Twins: Monte Carlo, and enumeration in fractions. Cost: O(L).
    """
    pi = np.array(chain.precisions)
    sigma = [1 / pi[0]]
    for gain, own in zip(_gains(chain)[1:], 1 / pi[1:], strict=True):
        sigma.append(own + gain * sigma[-1])
    return _finite("expected_rescaling", np.array(sigma))


@public
@OVERFLOW_IS_REPORTED
def expected_forward_pass(chain: RandomChain, mean_square_input: float = 1.0) -> Layerwise:
    r"""q_l = E|z_l|^2 / N_l for l = 1..L, where z_l = A_l z_{l-1} from a fixed input with |x|^2 / N_0 = q_0.

        q_l = (s_l^2 + v_l N_{l-1}) q_{l-1}

    Exact as `expected_rescaling`. Where L > N this mean is carried by rare networks: see `typical_forward_pass`.
    Raises ValueError for a negative `mean_square_input`; FloatingPointError as `expected_rescaling`.
    Claim: mupc-2025/forward-pass. Twins: Monte Carlo, and enumeration in fractions. Cost: O(L).
    """
    return _products("expected_forward_pass", _gains(chain), _input(mean_square_input))


@public
@OVERFLOW_IS_REPORTED
def expected_relu_forward_pass(chain: RandomChain, mean_square_input: float = 1.0) -> Layerwise:
    r"""The same for z_l = a_l W_l relu(z_{l-1}) + s_l z_{l-1}, l >= 2, with z_1 = a_1 W_1 x.

        q_1 = v_1 N_0 q_0,    q_l = (s_l^2 + v_l N_{l-1} / 2) q_{l-1}

    as E relu(z)^2 = E z^2 / 2 for a symmetric z. Exact at any widths for symmetric weights as long as no layer
    below has a skip. A skip correlates an activity with the size of its layer, so that it is no longer symmetric:
    then exact up to l = 2 and for N -> infinity; at finite N the mean is larger by a share of order l v.
    Raises ValueError for a skip from the input; otherwise as `expected_forward_pass`.
    """
    if chain.skips[0]:
        raise ValueError(f"skips, layer 1 is {chain.skips[0]}, expected 0: an input is not symmetric; set it to 0")
    gains = _gains(chain)
    skips = np.square(chain.skips)
    gains[1:] = skips[1:] + (gains[1:] - skips[1:]) / 2
    return _products("expected_relu_forward_pass", gains, _input(mean_square_input))


@public
@OVERFLOW_IS_REPORTED
def forward_pass_variance(chain: RandomChain) -> Layerwise:
    r"""The variance of |z_l|^2 over the square of its mean, l = 1..L, for a linear chain of normal weights.

    |z_l|^2 / |z_{l-1}|^2 = (s_l + sqrt(v_l) g)^2 + v_l chi^2 with N_l - 1 degrees of freedom, independent of layers
    below, so that

        1 + variance = prod_{k<=l} (1 + (4 s_k^2 v_k + 2 v_k^2 N_k) / (s_k^2 + v_k N_k)^2)

    The standard error of a mean over n networks is  q_l sqrt(variance / n).
    Raises ValueError where every activity is 0; FloatingPointError as `expected_rescaling`.
    Twin: enumeration in fractions.
    """
    s, v, width = np.array(chain.skips), np.array(chain.variances), np.array(chain.widths[1:])
    if (still := np.flatnonzero((s == 0) & (v == 0))).size:
        raise ValueError(
            f"chain, layer {still[0] + 1} has variance 0 and no skip: every activity is 0; take it out"
        )
    gains = s**2 + v * width
    share = v / gains * (4 * s**2 + 2 * v * width) / gains
    return _finite("forward_pass_variance", np.expm1(np.cumsum(np.log1p(share))))


@public
@OVERFLOW_IS_REPORTED
def typical_forward_pass(chain: RandomChain, mean_square_input: float = 1.0) -> Layerwise:
    r"""exp E[log(|z_l|^2 / N_l)], l = 1..L: what a single linear network of normal weights shows.

    The logarithm is a sum over layers of independent terms, so that its median is near its mean. Without skips

        E log(|z_l|^2 / |z_{l-1}|^2) = digamma(N_l / 2) + log(2 v_l),

    which for v_l = 1/N falls short of the mean by 1/N or so per layer; with a skip digamma(N_l / 2 + j), averaged
    over a Poisson j of mean s_l^2 / (2 v_l).
    Raises ValueError and FloatingPointError as `expected_forward_pass`.
    """
    start = _input(mean_square_input)
    layers = zip(chain.variances, chain.skips, pairwise(chain.widths), strict=True)
    terms = [_mean_log_gain(v, s, width) + np.log(below / width) for v, s, (below, width) in layers]
    return _finite("typical_forward_pass", start * np.exp(np.cumsum(terms)))


@public
@OVERFLOW_IS_REPORTED
def rescaling_moments(chain: RandomChain) -> RescalingMoments:
    r"""Mean and second moments of S_l for independent normal weights, l = 1..L, exact at any widths.

    With t = tr S, f = tr S^2 and M = A S A^T, n = N_l, given S:

        E tr(M)   = (s^2 + v n) t
        E tr(M)^2 = (s^2 + v n)^2 t^2 + 2 v (2 s^2 + v n) f
        E tr(M^2) = (s^4 + (n + 1) v (2 s^2 + v n)) f + v (2 s^2 + v n) t^2

    which close; written for the deviations from the mean, all terms are positive. The standard error of tr S / d_y
    over k networks is sqrt(variance[-1] / k).
    Raises FloatingPointError as `expected_rescaling`. Twin: enumeration in fractions. Cost: O(L).
    """
    sigma, gains = expected_rescaling(chain), _gains(chain)
    variance, anisotropy = [0.0], [0.0]
    for l in range(1, chain.depth):
        v, s, below, n = chain.variances[l], chain.skips[l], chain.widths[l], chain.widths[l + 1]
        spread = v * (2 * s**2 + v * n) / n
        square = anisotropy[-1] + sigma[l - 1] ** 2  # E tr S^2 / N of the layer below
        anisotropy.append(
            below / n * (s**4 * anisotropy[-1] + n * (n + 1) * spread * square) + spread * below**2 * variance[-1]
        )
        variance.append(gains[l] ** 2 * variance[-1] + 2 * spread * below / n * square)
    name = "rescaling_moments"
    return RescalingMoments(sigma, _finite(name, np.array(variance)), _finite(name, np.array(anisotropy)))


@public
def orthogonal_variances(widths: Sequence[int], variance: float = 1.0) -> tuple[float, ...]:
    """b_l of the weights that `standard(widths, initialisation="orthogonal", variance=..)` draws.

    variance / max(N_{l-1}, N_l). The entries are uncorrelated but not independent: means hold, second moments not.
    """
    variance = positive_number("variance", variance)
    counts = [whole_number(f"widths, layer {l}", width, 1) for l, width in enumerate(widths)]
    return tuple(variance / max(pair) for pair in pairwise(counts))


def _gains(chain: RandomChain) -> Layerwise:
    """s_l^2 + v_l N_{l-1}."""
    return np.square(chain.skips) + np.array(chain.variances) * np.array(chain.widths[:-1])


def _products(name: str, gains: Layerwise, start: float) -> Layerwise:
    return _finite(name, start * np.cumprod(gains))


def _mean_log_gain(v: float, s: float, width: int) -> float:
    """E log of  (s + sqrt(v) g)^2 + v chi^2_{width-1}."""
    if v == 0:
        return float(2 * np.log(abs(s))) if s else -np.inf
    mean = np.float64(s) ** 2 / (2 * v)
    if mean > 1e4 * width:  # the third term of the series in width / mean is below rounding
        share = (width - 2) / (2 * mean)
        return float(2 * np.log(abs(s)) + share - share * (width - 4) / (4 * mean))
    return float(np.log(2 * v)) + _mean_over_poisson(lambda j: digamma(width / 2 + j), mean)


def _mean_over_poisson(function: Callable[[np.ndarray], np.ndarray], mean: float) -> float:
    """Up to 12 standard deviations: the rest is below rounding."""
    reach = 12 * np.sqrt(mean) + 40  # 40 where the mean is small and the tail is not normal
    j = np.arange(max(0, int(mean - reach)), int(mean + reach) + 1)
    weights = poisson.pmf(j, mean)
    return float(weights @ function(j) / weights.sum())


def _input(mean_square_input: float) -> float:
    if not 0 <= mean_square_input < np.inf:
        raise ValueError(f"mean_square_input is {mean_square_input}, expected a finite number of at least 0")
    return float(mean_square_input)


def _finite(name: str, values: Layerwise) -> Layerwise:
    if not np.isfinite(values).all():
        layer = int(np.flatnonzero(~np.isfinite(values))[0])
        raise FloatingPointError(
            f"{name}: layer {layer + 1} is {values[layer]}, beyond double precision; "
            "use fewer layers or smaller maps"
        )
    return values
