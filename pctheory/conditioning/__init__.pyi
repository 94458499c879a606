from .extremes import (
    ActivityHessianExtremes as ActivityHessianExtremes,
    activity_hessian_extremes as activity_hessian_extremes,
)
from .fits import LawFit as LawFit, exponential_fit as exponential_fit, log_log_fit as log_log_fit
from .forward_pass import (
    Coordinate as Coordinate,
    ForwardPassMoments as ForwardPassMoments,
    coordinate_check as coordinate_check,
    forward_pass_moments as forward_pass_moments,
)
from .nonlinear_extremes import activity_hessian_extremes_nonlinear as activity_hessian_extremes_nonlinear
from .spectra import (
    activity_hessian_spectrum as activity_hessian_spectrum,
    activity_hessian_split as activity_hessian_split,
)
