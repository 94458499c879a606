from .balls import contains, relative_radius
from .chain import (
    ExactEquilibrium,
    enclosed_equilibrated_energy,
    enclosed_equilibrated_gradient,
    enclosed_loss,
    enclosed_rescaling,
    exact_equilibrium,
)
from .spectra import decided_inertia, enclosed_activity_hessian_extremes, enclosed_extremes

__all__ = [  # noqa: RUF022 (grouped by meaning)
    # In fractions
    "ExactEquilibrium",
    "exact_equilibrium",
    # In balls
    "enclosed_equilibrated_energy",
    "enclosed_equilibrated_gradient",
    "enclosed_loss",
    "enclosed_rescaling",
    # Eigenvalues
    "decided_inertia",
    "enclosed_activity_hessian_extremes",
    "enclosed_extremes",
    # Of balls
    "contains",
    "relative_radius",
]
