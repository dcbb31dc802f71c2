"""The backends, one file a framework, all with the outline of `polylogit.backends.base`. None imports another."""
