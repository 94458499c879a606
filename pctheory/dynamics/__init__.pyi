from .inference import ActivityRecord, InferenceFlow, inference_descent, inference_flow
from .learning import (
    LearningRule,
    Network,
    Objective,
    WeightRecord,
    weight_descent,
    weight_descent_by_rule,
)
from .flow import WeightFlow, escape_time, escape_time_of_flow, weight_flow

__all__ = [  # noqa: RUF022 (grouped by meaning)
    # What descends, and on what
    "ActivityRecord",
    "LearningRule",
    "Network",
    "Objective",
    "WeightRecord",
    # Learning: the weights
    "WeightFlow",
    "escape_time",
    "escape_time_of_flow",
    "weight_descent",
    "weight_descent_by_rule",
    "weight_flow",
    # Inference: the activities
    "InferenceFlow",
    "inference_descent",
    "inference_flow",
]
