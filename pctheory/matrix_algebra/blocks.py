"""Matrices whose entries are expressions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

from . import notation as written
from .expression import Expression, Relation, equal_sizes
from .notation import Notation


@dataclass(frozen=True)
class Blocks:
    """A matrix of expressions. Equality compares the blocks; the notation is how it was written."""

    grid: tuple[tuple[Expression, ...], ...]
    notation: Notation = field(compare=False)

    @classmethod
    def of(cls, grid: Sequence[Sequence[Expression]]) -> "Blocks":
        """Blocks row by row. Raises ValueError where rows are ragged or empty, or sizes do not line up."""
        rows = tuple(tuple(row) for row in grid)
        if not rows or not rows[0] or len({len(row) for row in rows}) > 1:
            raise ValueError(
                f"block rows have {[len(row) for row in rows]} blocks, expected equal positive numbers"
            )
        for i, row in enumerate(rows):
            for j, block in enumerate(row):
                if not (equal_sizes(block.rows, row[0].rows) and equal_sizes(block.cols, rows[0][j].cols)):
                    raise ValueError(
                        f"block ({i + 1}, {j + 1}) {block.described} does not line up with {row[0].described} "
                        f"in its row and {rows[0][j].described} in its column; correct its size"
                    )
        text = "; ".join(", ".join(block.notation.text for block in row) for row in rows)
        latex = r" \\ ".join(" & ".join(block.notation.latex for block in row) for row in rows)
        return cls(rows, Notation(f"[{text}]", rf"\begin{{pmatrix}} {latex} \end{{pmatrix}}"))

    def __matmul__(self, other: "Blocks") -> "Blocks":
        if len(self.grid[0]) != len(other.grid):
            raise ValueError(
                f"{self} @ {other}: {len(self.grid[0])} block columns meet {len(other.grid)} block rows; "
                "transpose one of them"
            )
        columns = tuple(zip(*other.grid, strict=True))
        product = Blocks.of([[_dot(row, column) for column in columns] for row in self.grid])
        return replace(product, notation=written.multiplied(self.notation, other.notation))

    def __sub__(self, other: "Blocks") -> "Blocks":
        if (len(self.grid), len(self.grid[0])) != (len(other.grid), len(other.grid[0])):
            raise ValueError(f"{self} - {other}: different numbers of blocks; give both the same")
        rows = zip(self.grid, other.grid, strict=True)
        return Blocks.of([[a - b for a, b in zip(mine, theirs, strict=True)] for mine, theirs in rows])

    @property
    def T(self) -> "Blocks":  # noqa: N802
        """The transpose, blocks and all."""
        flipped = Blocks.of([[block.T for block in column] for column in zip(*self.grid, strict=True)])
        return replace(flipped, notation=written.transposed(self.notation))

    def named(self, name: str) -> "Blocks":
        """The same blocks, from here on written `name` (LaTeX, without dollars)."""
        return replace(self, notation=written.name(name))

    def reduced(self, relations: Iterable[Relation]) -> tuple["Blocks", tuple[Relation, ...]]:
        """Every block in normal form, and the relations that were used."""
        given = tuple(relations)
        results = [[block.reduced(given) for block in row] for row in self.grid]
        used = [relation for row in results for _, relations_used in row for relation in relations_used]
        return Blocks.of([[block for block, _ in row] for row in results]), tuple(r for r in given if r in used)

    @property
    def is_zero(self) -> bool:
        """Whether every block is."""
        return all(block.is_zero for row in self.grid for block in row)

    def __str__(self) -> str:
        return self.notation.text

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.notation.latex}$"


def _dot(row: Sequence[Expression], column: Sequence[Expression]) -> Expression:
    return reduce(lambda a, b: a + b, (a @ b for a, b in zip(row, column, strict=True)))
