from .density import SpectralDensity, spectral_density
from .eigenpairs import ExtremeEigenpairs, extreme_eigenpairs
from .hessian import (
    Objective,
    net_at,
    weight_gradient,
    weight_hessian_blocks,
    weight_hessian_dense,
    weight_hessian_operator,
    weight_vector,
)
from .structured import (
    StructuredHessian,
    equilibrated_hessian_at_origin,
    equilibrated_hessian_at_zero_rank,
    loss_hessian_at_origin,
    loss_hessian_at_zero_rank,
)

__all__ = [  # noqa: RUF022 (grouped by meaning)
    # All weights as one vector
    "net_at",
    "weight_vector",
    # Derivatives of any objective
    "Objective",
    "weight_gradient",
    "weight_hessian_blocks",
    "weight_hessian_dense",
    "weight_hessian_operator",
    # Spectra of any symmetric operator
    "ExtremeEigenpairs",
    "SpectralDensity",
    "extreme_eigenpairs",
    "spectral_density",
    # Closed forms
    "StructuredHessian",
    "equilibrated_hessian_at_origin",
    "equilibrated_hessian_at_zero_rank",
    "loss_hessian_at_origin",
    "loss_hessian_at_zero_rank",
]
