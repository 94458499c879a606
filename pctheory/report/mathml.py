r"""LaTeX as MathML: whatever does not convert is an error, and nothing but mathematics comes out.

Defined here
    prose     text with formulas between dollars
    formula   one formula, displayed
"""

import functools
import re
import xml.etree.ElementTree as ET

from latex2mathml.converter import convert
from markupsafe import Markup, escape

# A line can break before these in a formula of its own level: MathML formulas do not break by themselves.
RELATIONS = frozenset("=<>≤≥≠∼→⇒←≈∈≻⪰≺⪯≪≫,;")
OPENING, CLOSING = frozenset("([{⟨⌊"), frozenset(")]}⟩⌋")
TIGHT, SIGNS = frozenset("|‖/∣"), frozenset("+−-±")
SCRIPTED = frozenset(("msub", "msup", "msubsup", "munder", "munderover"))
# Formulas up to this many characters of LaTeX stay whole.
SHORT = 24
ELEMENTS = frozenset(
    ("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mstyle", "mpadded", "mtable", "mtr", "mtd")
) | frozenset(("msub", "msup", "msubsup", "munder", "mover", "munderover", "mfrac", "msqrt", "mroot"))
ATTRIBUTES = frozenset(
    ("mathvariant", "stretchy", "fence", "form", "separator", "lspace", "rspace", "width", "height", "depth")
) | frozenset(("displaystyle", "scriptlevel", "linethickness", "columnalign", "accent", "largeop", "minsize"))
MATRIX = re.compile(r"\\begin\{pmatrix\}.*?\\end\{pmatrix\}", re.DOTALL)
_NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"


def prose(text: str) -> Markup:
    """The text escaped, with the formulas between dollars as MathML. Raises: ValueError if one does not convert."""
    parts = text.split("$")
    if len(parts) % 2 == 0:
        raise ValueError(f"the text has an odd number of dollars: {text!r}; close the formula")
    made = [_inline(part) if place % 2 else escape(_typeset(part)) for place, part in enumerate(parts)]
    return Markup("").join(made)


def formula(latex: str) -> Markup:
    """A displayed formula. Raises: ValueError if it does not convert."""
    return _written(_root(latex), latex, display=True)


def _typeset(text: str) -> str:
    """Text outside formulas: a command there would be shown as it is written."""
    if found := re.search(r"\\[A-Za-z]+", text):
        raise ValueError(f"{found[0]} stands outside a formula in {text!r}; put it between dollars")
    return text


def _inline(latex: str) -> Markup:
    root = _root(latex)
    pieces = _pieces(root) if len(latex) > SHORT else [root]
    # The whole formula is read out once, from its first piece.
    return Markup("<wbr>").join(_written(piece, latex if not n else "", False) for n, piece in enumerate(pieces))


def _pieces(root: ET.Element) -> list[ET.Element]:
    """The formula cut before its relations and after its commas, outside of parentheses."""
    children = _level(root)
    cut: list[list[ET.Element]] = [[]]
    depth, after_comma = 0, False
    for child in children:
        symbols = {node.text for node in (child, *child) if node.tag == "mo"}
        depth += bool(symbols & OPENING) - bool(symbols & CLOSING)
        sign = child.text if child.tag == "mo" else None
        starts = after_comma or (sign in RELATIONS and sign not in {",", ";"})
        if depth == 0 and starts and cut[-1]:
            cut.append([])
        after_comma = sign in {",", ";"} and depth == 0
        cut[-1].append(child)
    made = []
    for piece in cut:
        made.append(ET.Element("math"))
        made[-1].extend(piece)
    return made


def _level(root: ET.Element) -> list[ET.Element]:
    """The children that stand side by side in the outermost row."""
    while len(root) == 1 and root[0].tag == "mrow":
        root = root[0]
    return list(root)


@functools.cache
def _converted(latex: str) -> str:
    # As an entry of its own in braces a matrix can carry an exponent.
    whole = MATRIX.sub(lambda found: "{" + found[0] + "}", latex)
    if whole.count("{") != whole.count("}"):
        raise ValueError(f"${latex}$ does not convert: its braces do not match")
    try:
        return convert(whole)
    except Exception as error:  # a class of its own for each mistake, most without a message
        raise ValueError(f"${latex}$ does not convert: {type(error).__name__} {error}".rstrip()) from error


def _root(latex: str) -> ET.Element:
    try:
        root = ET.fromstring(_converted(latex))
    except ET.ParseError as error:
        raise ValueError(f"${latex}$ does not convert: it holds <, > or & in a text") from error
    for node in root.iter():
        node.tag = node.tag.removeprefix(_NAMESPACE)
        _require_mathematics(node, latex)
    for node in root.iter("mrow"):
        _join_upright(node)
    _close_up(root, False)
    return root


def _close_up(node: ET.Element, script: bool) -> None:
    """No space around bars and slashes, around signs of an index or exponent, and after a sign of its own."""
    if node.tag == "mo" and (script or node.text in TIGHT):
        node.attrib |= {"lspace": "0", "rspace": "0"}
    before = None
    for place, child in enumerate(node):
        if child.tag == "mo" and child.text in SIGNS and before is not None and before.text in RELATIONS | OPENING:
            child.attrib |= {
                "form": "prefix",
                "lspace": "0",
                "rspace": "0",
            }  # a sign of what follows, no difference
        _close_up(child, script or (place > 0 and node.tag in SCRIPTED))
        before = child


def _require_mathematics(node: ET.Element, latex: str) -> None:
    text = node.text or ""
    if "\\" in text or text in {"}", "&", "$"}:
        raise ValueError(f"${latex}$ does not convert: {text} is unknown here")
    if node.tag not in ELEMENTS:
        raise ValueError(f"${latex}$ does not convert: it makes <{node.tag}>, which is no mathematics")
    node.attrib = {name: value for name, value in node.attrib.items() if name in ATTRIBUTES}


def _join_upright(row: ET.Element) -> None:
    r"""One word for the letters of `\mathrm{mean}`, so that it is read as one."""
    letters = [node for node in row if node.tag == "mi" and node.get("mathvariant") == "normal"]
    if len(letters) > 1 and len(letters) == len(row):
        word = ET.Element("mi")
        word.text = "".join(node.text or "" for node in letters)
        for node in letters:
            row.remove(node)
        row.append(word)


def _written(root: ET.Element, latex: str, display: bool) -> Markup:
    made = ET.Element("math", {"display": "block"} if display else {})
    if latex:
        made.set("alttext", latex)
    made.extend(_level(root))
    return Markup(ET.tostring(made, encoding="unicode"))
