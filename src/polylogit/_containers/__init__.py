"""Containers: labelled and tabular data, whose results keep their index, names and coordinates."""
