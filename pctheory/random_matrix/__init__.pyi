from .activity_law import ActivityHessianLaw as ActivityHessianLaw, activity_hessian_law as activity_hessian_law
from .dyson import DysonEquation as DysonEquation, NotConvergedError as NotConvergedError
from .ensemble import RandomChain as RandomChain, standard_variances as standard_variances
from .expectations import (
    RescalingMoments as RescalingMoments,
    expected_forward_pass as expected_forward_pass,
    expected_relu_forward_pass as expected_relu_forward_pass,
    expected_rescaling as expected_rescaling,
    forward_pass_variance as forward_pass_variance,
    orthogonal_variances as orthogonal_variances,
    rescaling_moments as rescaling_moments,
    typical_forward_pass as typical_forward_pass,
)
from .laws import (
    Law as Law,
    Spectrum as Spectrum,
    free_edges as free_edges,
    marchenko_pastur as marchenko_pastur,
    mixture as mixture,
    orthogonal_spectrum as orthogonal_spectrum,
    semicircle as semicircle,
)
