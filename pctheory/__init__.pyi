# Double precision
from .processes import enable_x64 as enable_x64

# The network and its parameterisations
from .network import (
    Layer as Layer,
    Layers as Layers,
    LinearPCN as LinearPCN,
    mupc as mupc,
    ntp as ntp,
    standard as standard,
)

# The energy and its partial gradients
from .energy import (
    activity_gradient as activity_gradient,
    energy as energy,
    feedforward as feedforward,
    layer_energies as layer_energies,
    loss as loss,
    partial_weight_gradient as partial_weight_gradient,
    prediction_errors as prediction_errors,
)

# What inference converges to, in closed form
from .equilibrium import (
    Equilibrium as Equilibrium,
    activity_hessian_blocks as activity_hessian_blocks,
    activity_hessian_dense as activity_hessian_dense,
    activity_hessian_log_determinant as activity_hessian_log_determinant,
    activity_hessian_product as activity_hessian_product,
    activity_hessian_solve as activity_hessian_solve,
    equilibrated_energy as equilibrated_energy,
    equilibrated_gradient as equilibrated_gradient,
    equilibrium as equilibrium,
    equilibrium_and_gradient as equilibrium_and_gradient,
    equilibrium_with_decay as equilibrium_with_decay,
    output_maps as output_maps,
    rescaling as rescaling,
    rescaling_factor as rescaling_factor,
    rescaling_log_determinant as rescaling_log_determinant,
)

# Curvature: Hessians in all weights, and their spectra
from .curvature import (
    ExtremeEigenpairs as ExtremeEigenpairs,
    SpectralDensity as SpectralDensity,
    StructuredHessian as StructuredHessian,
    equilibrated_hessian_at_origin as equilibrated_hessian_at_origin,
    equilibrated_hessian_at_zero_rank as equilibrated_hessian_at_zero_rank,
    extreme_eigenpairs as extreme_eigenpairs,
    loss_hessian_at_origin as loss_hessian_at_origin,
    loss_hessian_at_zero_rank as loss_hessian_at_zero_rank,
    net_at as net_at,
    spectral_density as spectral_density,
    weight_gradient as weight_gradient,
    weight_hessian_blocks as weight_hessian_blocks,
    weight_hessian_dense as weight_hessian_dense,
    weight_hessian_operator as weight_hessian_operator,
    weight_vector as weight_vector,
)

# Critical points of an objective in the weights
from .saddles import (
    Classification as Classification,
    Derivatives as Derivatives,
    FoundPoint as FoundPoint,
    classification as classification,
    critical_point_search as critical_point_search,
    exact_classification as exact_classification,
    exact_derivatives as exact_derivatives,
    exact_inertia as exact_inertia,
    global_minimum as global_minimum,
    least_strict as least_strict,
    origin as origin,
    rank_k_critical_point as rank_k_critical_point,
    zero_rank_saddle as zero_rank_saddle,
)

# Without rounding: in fractions, and in balls that enclose what rounding would blur
from .enclosures import (
    ExactEquilibrium as ExactEquilibrium,
    decided_inertia as decided_inertia,
    enclosed_activity_hessian_extremes as enclosed_activity_hessian_extremes,
    enclosed_equilibrated_energy as enclosed_equilibrated_energy,
    enclosed_equilibrated_gradient as enclosed_equilibrated_gradient,
    enclosed_extremes as enclosed_extremes,
    enclosed_loss as enclosed_loss,
    enclosed_rescaling as enclosed_rescaling,
    exact_equilibrium as exact_equilibrium,
)

# Inference as a trust-region step
from .trust_region import (
    FisherMetric as FisherMetric,
    TaylorModel as TaylorModel,
    cosines as cosines,
    fisher_metric as fisher_metric,
    gradient_decomposition as gradient_decomposition,
    inference_step as inference_step,
    taylor_model as taylor_model,
    truncated_step as truncated_step,
    trust_region_step as trust_region_step,
    weight_directions as weight_directions,
)

# Objectives on lines and planes of networks
from .landscape import (
    filter_normalised_directions as filter_normalised_directions,
    landscape_field as landscape_field,
    landscape_values as landscape_values,
    random_directions as random_directions,
)

# Descent and flow on weights and activities, and training
from .dynamics import (
    Inference as Inference,
    InferenceFlow as InferenceFlow,
    Training as Training,
    WeightDescent as WeightDescent,
    WeightFlow as WeightFlow,
    accuracy as accuracy,
    backpropagation_rule as backpropagation_rule,
    equilibrium_rule as equilibrium_rule,
    escape_time as escape_time,
    escape_time_of_flow as escape_time_of_flow,
    inference_descent as inference_descent,
    inference_flow as inference_flow,
    train as train,
    training_sweep as training_sweep,
    weight_descent as weight_descent,
    weight_descent_by_rule as weight_descent_by_rule,
    weight_descent_snapshots as weight_descent_snapshots,
    weight_flow as weight_flow,
)

# Inference: how it is conditioned, and how the forward pass it starts from scales
from .conditioning import (
    ActivityHessianExtremes as ActivityHessianExtremes,
    ForwardPassMoments as ForwardPassMoments,
    LawFit as LawFit,
    activity_hessian_extremes as activity_hessian_extremes,
    activity_hessian_extremes_nonlinear as activity_hessian_extremes_nonlinear,
    activity_hessian_spectrum as activity_hessian_spectrum,
    activity_hessian_split as activity_hessian_split,
    coordinate_check as coordinate_check,
    exponential_fit as exponential_fit,
    forward_pass_moments as forward_pass_moments,
    log_log_fit as log_log_fit,
)

# Before any weight is drawn: limiting spectra, expectations, infinite width
from .random_matrix import (
    ActivityHessianLaw as ActivityHessianLaw,
    NotConvergedError as NotConvergedError,
    RandomChain as RandomChain,
    activity_hessian_law as activity_hessian_law,
    expected_forward_pass as expected_forward_pass,
    expected_rescaling as expected_rescaling,
    free_edges as free_edges,
    marchenko_pastur as marchenko_pastur,
    orthogonal_spectrum as orthogonal_spectrum,
    rescaling_moments as rescaling_moments,
    semicircle as semicircle,
    standard_variances as standard_variances,
)
from .mean_field import (
    MeanFieldDescent as MeanFieldDescent,
    lazy_descent as lazy_descent,
    mean_field_descent as mean_field_descent,
)

# Networks with an activation function: `nonlinear` has the functions of `energy` for them, and inference
from . import nonlinear as nonlinear
from .nonlinear import NonlinearPCN as NonlinearPCN

# Data
from .datasets import (
    DATASETS as DATASETS,
    Dataset as Dataset,
    batches as batches,
    dataset as dataset,
    stacked_batches as stacked_batches,
    toy_regression as toy_regression,
)

__version__: str
