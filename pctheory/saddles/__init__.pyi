from .classification import Classification, Derivatives, Kind, classification
from .exact import exact_classification, exact_derivatives, exact_inertia
from .families import global_minimum, origin, rank_k_critical_point, zero_rank_saddle
from .search import FoundPoint, critical_point_search, least_strict

__all__ = [  # noqa: RUF022 (grouped by meaning)
    # Families
    "global_minimum",
    "origin",
    "rank_k_critical_point",
    "zero_rank_saddle",
    # What kind of point it is
    "Classification",
    "Derivatives",
    "Kind",
    "classification",
    "exact_classification",
    "exact_derivatives",
    "exact_inertia",
    # Finding them
    "FoundPoint",
    "critical_point_search",
    "least_strict",
]
