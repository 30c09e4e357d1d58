"""Experiments: grids of runs whose results are kept, cell by cell, in a table that can be resumed."""
