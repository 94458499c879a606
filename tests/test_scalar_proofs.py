"""What counts as a proof about numbers: nothing that holds at most points only."""

import pytest
from sympy import Integer, Rational, sqrt, symbols

from paper_checks._scalars import Identity, Less, ScalarProof, visibly_positive

a, b = symbols("a b", positive=True)
x, y = symbols("x y", real=True)
n = symbols("n", real=True, nonzero=True)
root = symbols("r", positive=True)


@pytest.mark.parametrize(
    "expression",
    [Integer(2), Rational(1, 3), a, a + b, a * b / (1 + x**2), 1 + x**2 * y**4, n**2, n**-2, a + x**2 * b, 1 / a],
)
def test_positive(expression):
    assert visibly_positive(expression)


@pytest.mark.parametrize(
    "expression",
    [Integer(0), -a, a - b, x, x**2, x**3, n, n**3, x**-2, 1 - x**2, a * x, (a - b) ** 2, sqrt(2), 1 + x, a * x**2],
)
def test_not_visibly_positive(expression):
    assert not visibly_positive(expression)


def test_identity():
    assert Identity("", (a + b) ** 2, a**2 + 2 * a * b + b**2).holds
    assert not Identity("", (a + b) ** 2, a**2 + b**2).holds


def test_identity_with_a_root():
    square = {root: a**2 + b}
    assert Identity("", (root - a) * (root + a), b, square).holds
    assert Identity("", root**3, root * (a**2 + b), square).holds
    assert not Identity("", root, a + b, square).holds


def test_less():
    assert Less("", a, a + b, b).holds
    assert Less("", a, root, b / (root + a), {root: a**2 + b}).holds
    assert not Less("the witness is not the difference", a, a + 2 * b, b).holds
    assert not Less("the witness has no sign", a, a + x, x).holds
    assert not Less("the order is reversed", a + b, a, -b).holds
    assert not Less("equality occurs", Integer(0), x**2, x**2).holds


def test_proof():
    right, wrong = Less("right", a, a + b, b), Identity("wrong", a, b)
    assert ScalarProof("", (right,)).holds
    assert not ScalarProof("", (right, wrong)).holds
    assert not ScalarProof("", ()).holds
    text = ScalarProof("A theorem.", (right, wrong)).text()
    assert text.startswith("A theorem.")
    assert "2. wrong\n    a = b   DOES NOT HOLD" in text
    assert text.count("DOES NOT HOLD") == 1
