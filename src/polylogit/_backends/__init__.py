"""The backends: one file for each framework, each a subclass of `polylogit._backends.base.Backend`.

None imports another.
"""
