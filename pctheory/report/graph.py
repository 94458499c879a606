"""A picture of which claim rests on which: foundations on the left, what rests on them to the right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean
from typing import Any, TypeAlias

import networkx as nx

Graph: TypeAlias = Any  # networkx has no types

# Pixels: a node, the space between columns and between rows, and around everything.
WIDTH, HEIGHT, GAP, SPACE, EDGE = 204.0, 46.0, 56.0, 12.0, 8.0
# Passes over the columns in either direction; the order of some tens of nodes settles in a few.
SWEEPS = 12


@dataclass(frozen=True)
class Drawing:
    """Positions of the upper left corners of the nodes, and the edges as SVG paths."""

    places: dict[str, tuple[float, float]]
    paths: dict[tuple[str, str], str]
    width: float
    height: float


def drawing(uses: Mapping[str, Sequence[str]]) -> Drawing:
    """The picture of a graph given as what each key rests on.

    An edge that others imply is left out. Keys without any edge stand in a block below.
    """
    graph = nx.transitive_reduction(nx.DiGraph((used, key) for key in uses for used in uses[key]))
    columns = _ordered(*_layered(graph))
    rows = {node: row for column in columns for row, node in enumerate(column)}
    tallest = max((len(column) for column in columns), default=0)
    corners: dict[object, tuple[float, float]] = {}
    for number, column in enumerate(columns):
        shift = (tallest - len(column)) / 2
        for node in column:
            corners[node] = (EDGE + number * (WIDTH + GAP), EDGE + (rows[node] + shift) * (HEIGHT + SPACE))
    alone = sorted(key for key in uses if key not in graph)
    top = EDGE + tallest * (HEIGHT + SPACE) + (SPACE if columns else 0)
    across = max(len(columns), 4)
    for number, key in enumerate(alone):
        row, column_number = divmod(number, across)
        corners[key] = (EDGE + column_number * (WIDTH + GAP), top + row * (HEIGHT + SPACE))
    places = {node: corner for node, corner in corners.items() if isinstance(node, str)}
    paths = {(a, b): _path([corners[node] for node in _stations(a, b, columns)]) for a, b in graph.edges}
    return Drawing(
        places,
        paths,
        max((x for x, _ in places.values()), default=0) + WIDTH + EDGE,
        max((y for _, y in places.values()), default=0) + HEIGHT + EDGE,
    )


def _layered(graph: Graph) -> tuple[list[list[object]], Graph]:
    """The columns, and the graph with a station in each column that an edge passes."""
    columns: list[list[object]] = [sorted(column) for column in nx.topological_generations(graph)]
    number = {node: place for place, column in enumerate(columns) for node in column}
    passing: Graph = nx.DiGraph()
    for a, b in sorted(graph.edges):
        stations = [(a, b, place) for place in range(number[a] + 1, number[b])]
        for station in stations:
            columns[station[2]].append(station)
        nx.add_path(passing, [a, *stations, b])
    return columns, passing


def _ordered(columns: list[list[object]], graph: Graph) -> list[list[object]]:
    """The columns, each sorted by the mean height of its neighbours, to and fro, so that few edges cross."""
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        neighbours = graph.predecessors if forth else graph.successors
        ordered = columns if forth else columns[::-1]
        for fixed, column in pairwise(ordered):
            height = {node: row - (len(fixed) - 1) / 2 for row, node in enumerate(fixed)}
            own = {node: row - (len(column) - 1) / 2 for row, node in enumerate(column)}
            wanted = {n: mean([height[m] for m in neighbours(n) if m in height] or [own[n]]) for n in column}
            column.sort(key=lambda node: (wanted[node], own[node]))
    return columns


def _stations(a: str, b: str, columns: list[list[object]]) -> list[object]:
    passed = [(a, b, place) for place in range(len(columns)) if (a, b, place) in columns[place]]
    return [a, *passed, b]


def _path(corners: Sequence[tuple[float, float]]) -> str:
    """Out of the right side of the first node, straight through the stations, into the left side of the last."""
    (x, y), middle = corners[0], HEIGHT / 2
    path = f"M{x + WIDTH:g} {y + middle:g}"
    for left, upper in corners[1:]:
        start, height = x + WIDTH + GAP / 2, upper + middle
        path += f"C{start:g} {y + middle:g} {left - GAP / 2:g} {height:g} {left:g} {height:g}"
        if (left, upper) != corners[-1]:
            path += f"H{left + WIDTH:g}"
        x, y = left, upper
    return path
