"""The look of figures: colours that are told apart, whatever the user's own settings."""

import itertools

import matplotlib
import matplotlib.colors
import numpy as np
import pytest

from pctheory.figures import (
    COLOURS,
    colour_sequence,
    paper_style,
)

# The look


# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def lab(colour: str, sight) -> np.ndarray:
    """CIE L*a*b* (D65) of a colour as it is seen."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(sight) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ seen / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_are_told_apart(sight):
    for first, second in itertools.combinations(COLOURS, 2):
        distance = np.linalg.norm(lab(COLOURS[first], SIGHT[sight]) - lab(COLOURS[second], SIGHT[sight]))
        assert distance > 15, (first, second)  # the least that is noticed is about 2.3


def test_colour_sequences_go_from_dark_to_light():
    for concept in (None, "loss", "energy"):
        lightness = [lab(colour, np.eye(3))[0] for colour in colour_sequence(7, concept)]
        assert np.all(np.diff(lightness) > 3)
        assert lightness[-1] < 85
    assert colour_sequence(0) == []
    with pytest.raises(ValueError, match="concept: no colour for 'joy'; there are loss, energy"):
        colour_sequence(3, "joy")
    with pytest.raises(ValueError, match="count: expected a number of colours, 0 or more, got -1"):
        colour_sequence(-1)


def test_style_overrides_the_users_own_and_ends():
    with matplotlib.rc_context({"font.size": 30, "lines.dashed_pattern": [9, 9]}):
        with paper_style():
            assert matplotlib.rcParams["font.size"] == 9
            assert matplotlib.rcParams["lines.dashed_pattern"] != [9, 9]
        assert matplotlib.rcParams["font.size"] == 30
