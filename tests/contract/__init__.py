"""The contract, row by row, on every installed backend."""
