"""Comparison of two engines that score the same tokens: the data of each side, the diagnosis, and the report."""
