"""What flatteners leave on the norm topic when they overlap, are upgraded, or meet what cannot be read."""

from tests.matrix.cells import Cell

CELLS: list[Cell] = []
