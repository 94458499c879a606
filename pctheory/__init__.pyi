# The network and its parameterisations
from .network import (
    Layer as Layer,
    Layers as Layers,
    LinearPCN as LinearPCN,
    enable_x64 as enable_x64,
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

# Descent and flow on weights and activities
from .dynamics import (
    InferenceFlow as InferenceFlow,
    inference_descent as inference_descent,
    inference_flow as inference_flow,
    weight_descent as weight_descent,
    weight_descent_by_rule as weight_descent_by_rule,
)

# Data
from .datasets import (
    DATASETS as DATASETS,
    Dataset as Dataset,
    batches as batches,
    dataset as dataset,
    toy_regression as toy_regression,
)

__version__: str
