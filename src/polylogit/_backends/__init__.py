"""The backends, one file a framework, all with the outline of `polylogit._backends.base`. None imports another."""
