"""The picture of critical points: its data against closed forms, what is drawn against what was computed."""

from collections import Counter
from dataclasses import replace
from itertools import chain, combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from figures import saddles_critical_points as critical
from pctheory.figures import COLOURS, paper_style

SMALL = replace(critical.DEFAULT, widths=((3, 3, 3), (3, 1, 3)), starts=24, copies=2, resolution=21)
STRENGTHS = np.array([9.0, 4.0, 1.0]) / 14


@pytest.fixture(scope="module")
def arrays():
    made = {}
    for name, own in critical.FIGURE.unit_parameters(SMALL).items():
        made[name] = {key: np.array(value) for key, value in critical.data(own, None).items()}
        for array in made[name].values():
            array.setflags(write=False)
    return made


@pytest.fixture(scope="module")
def picture(arrays):
    with paper_style():
        drawn = critical.draw(arrays, SMALL)
        drawn.canvas.draw()
        yield drawn
    plt.close(drawn)


def sums(values, most: int) -> set[float]:
    """Of all subsets that leave out at most `most` of the values."""
    sizes = range(len(values) - most, len(values) + 1)
    return {float(sum(part)) for part in chain.from_iterable(combinations(values, n) for n in sizes)}


@pytest.mark.parametrize(("name", "rank"), [("3-3-3", 3), ("3-1-3", 1)])
def test_every_value_is_what_a_fit_of_some_directions_leaves(arrays, name, rank):
    a = arrays[name]
    allowed = np.array(sorted(sums(STRENGTHS, rank)))
    np.testing.assert_allclose(a["levels"], allowed, atol=1e-12)
    distance = np.abs(a["value"][:, None] - allowed).min(axis=1)
    assert distance.max() < 1e-9
    assert a["found"] > 12
    assert len(a["value"]) == a["found"] + SMALL.copies * len(allowed)
    assert set(a["rank"]) == set(range(rank + 1))


@pytest.mark.parametrize(("name", "rank"), [("3-3-3", 3), ("3-1-3", 1)])
def test_all_are_strict_saddles_but_the_best_fit(arrays, name, rank):
    a = arrays[name]
    best = np.isclose(a["value"], STRENGTHS[rank:].sum(), atol=1e-9)
    assert 0 < best.sum() < len(best)
    assert set(a["kind"][best]) == {critical.KINDS.index("minimum")}
    assert set(a["kind"][~best]) == {critical.KINDS.index("strict saddle")}
    assert np.abs(a["smallest"][best]).max() < 1e-9
    assert a["smallest"][~best].max() < -1e-7


def test_curvature_at_the_origin_is_the_closed_form(arrays):
    """One hidden layer, per direction of gain g: the eigenvalues of [[0, -g], [-g, -g^2]]."""
    gain = np.sqrt(STRENGTHS[0])
    a = arrays["3-3-3"]
    at_origin = a["smallest"][a["rank"] == 0]
    lowest = np.linalg.eigvalsh([[0, -gain], [-gain, -(gain**2)]])[0]
    np.testing.assert_allclose(at_origin, lowest, rtol=1e-9)


def test_the_landscape_without_signal_is_the_closed_form(arrays):
    a = arrays["landscape"]
    w_1, w_2 = np.meshgrid(a["w_1"], a["w_2"])
    np.testing.assert_allclose(a["values"], w_2**2 * (w_1**2 - 1) / (2 * (1 + w_2**2)), atol=1e-14)
    expected = np.sort(np.stack([0 * a["w_1"], a["w_1"] ** 2 - 1], axis=1), axis=1)
    np.testing.assert_allclose(a["eigenvalues"], expected, atol=1e-13)


def test_every_point_is_drawn_in_its_place_and_colour(arrays, picture):
    panels = {axes.get_title(): axes for axes in picture.axes}
    for name, title in (("3-3-3", "widths 3\u20133\u20133"), ("3-1-3", "widths 3\u20131\u20133")):
        a, axes = arrays[name], panels[title]
        lines = [line for line in axes.get_lines() if line.get_linestyle() == "None"]
        drawn = np.concatenate([np.stack(line.get_data(), axis=1) for line in lines])
        wanted = np.stack([a["value"], a["smallest"]], axis=1)
        assert Counter(map(tuple, drawn)) == Counter(map(tuple, wanted))
        greens = [line for line in lines if line.get_color() == COLOURS["minimum"]]
        shown = np.concatenate([line.get_xdata() for line in greens])
        is_found = np.arange(len(a["value"])) < a["found"]
        np.testing.assert_array_equal(
            np.sort(shown), np.sort(a["value"][is_found & (a["kind"] == critical.KINDS.index("minimum"))])
        )
        low, high = axes.get_ylim()
        assert low < a["smallest"].min() < high
    crosses = [line for axes in picture.axes for line in axes.get_lines() if line.get_marker() == "X"]
    assert [list(line.get_xdata()) for line in crosses] == [[-1, 1]] * 2


def test_units_and_presets():
    named = critical.FIGURE.unit_parameters(critical.DEFAULT)
    assert list(named) == ["3-3-3", "3-3-3-3", "3-1-3", "landscape"]
    for preset in ("quick", "default", "paper"):
        assert str(critical.FIGURE.parameters(preset).starts) in critical.FIGURE.caption_text(
            critical.FIGURE.parameters(preset)
        )
