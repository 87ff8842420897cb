"""The store fails: before applying, after applying, with every refusal, slowly, halfway, for good and by chance."""

from tests.matrix.cells import Cell

CELLS: list[Cell] = []
