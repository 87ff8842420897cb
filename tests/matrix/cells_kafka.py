"""Kafka dies, freezes, refuses, forgets; groups rebalance without end; topics change under the line."""

from tests.matrix.cells import Cell

CELLS: list[Cell] = []
