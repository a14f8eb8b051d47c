"""Ours beside its peers, on the same work in the same run: encode, apply, wire.

It stands above all packages and nothing imports it. `python -m benchmarks.run --help`;
docs/guides/benchmarks.md says how to read the results.
"""
