"""Names that users type."""

import difflib
from collections.abc import Collection


def no_such(what: str, name: str, names: Collection[str], *, otherwise: str) -> ValueError:
    """The error for a name that is none of `names`: it tells the nearest one or, if none is near, `otherwise`.

    what: the argument and what it names, such as "KEY: no claim".
    """
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return ValueError(f"{what} {name!r}; {f'did you mean {near[0]}?' if near else otherwise}")
