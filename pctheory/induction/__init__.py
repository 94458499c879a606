r"""Certificates: the theory of one chain, proved for every depth and every width by base and induction step.

Defined here
    Certificate, Section, Step   a proof whose every line is an identity with a computed remainder
    rescaling_theorem, rescaling_sum, equilibrium_errors, envelope      the equilibrium
    activity_hessian_factorisation, determinant, error_hessian          its curvature
    energy_below_loss, posterior                                        what the energy means
    critical_points, strict_saddles                                     where its gradient vanishes, and ways down
    ray_order, loss_at_origin, zero_rank_hessian, minimum_hessian       the landscape of the weights
    taylor_model, trust_region_ball, weight_gradient_readings           inference as a trust-region step
    scalar_chain                                                        every formula written out, at a given depth

Each theorem is a function of three sizes, by default symbols (which proves it for every width), and of the formulas
that it asserts: these are its keywords, and their defaults are the true ones. Another formula asks for a proof of
something else, and whatever is false in it stays behind as a printed remainder. A formula is a function of a
`SymbolicLayer`, layer l of a chain of any length, or of the symbols that its type names.

Notation: A_l, c_l, pi_l as in the network; S_l, m_l rescaling and feedforward activity of the first l layers;
P_l the map from layer l to the output; r = y - m_L; d_l = z_l - m_l.
"""

from .activity_hessian import activity_hessian_factorisation
from .certificate import Certificate, Section, Step
from .consequences import energy_below_loss, error_hessian, posterior
from .critical_points import critical_points, last_layer_curvature, mixed_derivative, strict_saddles
from .determinant import determinant
from .errors import envelope, equilibrium_errors
from .landscape import ZeroRank, zero_rank_form, zero_rank_hessian
from .layer import SymbolicLayer
from .minima import minimum_hessian
from .origin import loss_at_origin, ray_order
from .rescaling import rescaling_sum, rescaling_theorem
from .scalars import chain_rescaling, scalar_chain
from .taylor import taylor_model, trust_region_ball, weight_gradient_readings

__all__ = [
    "Certificate",
    "Section",
    "Step",
    "SymbolicLayer",
    "ZeroRank",
    "activity_hessian_factorisation",
    "chain_rescaling",
    "critical_points",
    "determinant",
    "energy_below_loss",
    "envelope",
    "equilibrium_errors",
    "error_hessian",
    "last_layer_curvature",
    "loss_at_origin",
    "minimum_hessian",
    "mixed_derivative",
    "posterior",
    "ray_order",
    "rescaling_sum",
    "rescaling_theorem",
    "scalar_chain",
    "strict_saddles",
    "taylor_model",
    "trust_region_ball",
    "weight_gradient_readings",
    "zero_rank_form",
    "zero_rank_hessian",
]
