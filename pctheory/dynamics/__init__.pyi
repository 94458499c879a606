from .inference import ActivityRecord, InferenceFlow, inference_descent, inference_flow
from .learning import (
    LearningRule,
    Network,
    Objective,
    WeightRecord,
    weight_descent,
    weight_descent_by_rule,
)
from .training import Inference, Training, accuracy, adam, train, training_sweep
from .flow import WeightFlow, escape_time, escape_time_of_flow, weight_flow
from .snapshots import Snapshots, WeightDescent, divergence_step, weight_descent_snapshots
from .exact_learning import LearningRecord, backpropagation_rule, equilibrium_rule

__all__ = [  # noqa: RUF022 (grouped by meaning)
    # What descends, and on what
    "ActivityRecord",
    "LearningRule",
    "Network",
    "Objective",
    "WeightRecord",
    # Learning: the weights
    "LearningRecord",
    "Snapshots",
    "WeightDescent",
    "WeightFlow",
    "backpropagation_rule",
    "divergence_step",
    "equilibrium_rule",
    "escape_time",
    "escape_time_of_flow",
    "weight_descent",
    "weight_descent_by_rule",
    "weight_descent_snapshots",
    "weight_flow",
    # Training nonlinear networks: runs and sweeps
    "Inference",
    "Training",
    "accuracy",
    "adam",
    "train",
    "training_sweep",
    # Inference: the activities
    "InferenceFlow",
    "inference_descent",
    "inference_flow",
]
