r"""Certificates: the theory of one chain, proved for every depth and every width by base and induction step.

Defined here
    Certificate, Section, Step   a proof whose every line is an identity with a computed remainder
    rescaling_theorem, rescaling_sum, equilibrium_errors, envelope      the equilibrium
    activity_hessian_factorisation, determinant, error_hessian          its curvature
    energy_below_loss, posterior                                        what the energy means
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
from .determinant import determinant
from .errors import envelope, equilibrium_errors
from .layer import SymbolicLayer
from .rescaling import rescaling_sum, rescaling_theorem
from .scalars import chain_rescaling, scalar_chain

__all__ = [
    "Certificate",
    "Section",
    "Step",
    "SymbolicLayer",
    "activity_hessian_factorisation",
    "chain_rescaling",
    "determinant",
    "energy_below_loss",
    "envelope",
    "equilibrium_errors",
    "error_hessian",
    "posterior",
    "rescaling_sum",
    "rescaling_theorem",
    "scalar_chain",
]
