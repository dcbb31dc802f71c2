"""The NumPy backend: its values, its derivatives, its kernels in C and its pure path."""
