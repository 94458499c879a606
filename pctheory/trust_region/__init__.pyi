from .activities import activities_of, activity_operator, activity_vectors
from .conjugate_gradients import TruncatedStep, truncated_step
from .decomposition import READINGS, GradientDecomposition, gradient_decomposition
from .directions import cosines, weight_directions
from .metric import FisherMetric, fisher_metric
from .subproblem import Step, trust_region_step
from .taylor import ActivityHessian, InferenceStep, TaylorModel, inference_step, taylor_model

__all__ = [  # noqa: RUF022 (grouped by meaning)
    # The quadratic model in activity space
    "ActivityHessian",
    "FisherMetric",
    "InferenceStep",
    "TaylorModel",
    "fisher_metric",
    "inference_step",
    "taylor_model",
    # Activities as vectors
    "activities_of",
    "activity_operator",
    "activity_vectors",
    # The sub-problem
    "Step",
    "TruncatedStep",
    "truncated_step",
    "trust_region_step",
    # Weight space
    "READINGS",
    "GradientDecomposition",
    "cosines",
    "gradient_decomposition",
    "weight_directions",
]
