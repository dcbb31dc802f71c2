"""Labelled and tabular data: containers of arrays that keep their index, names and coordinates."""
