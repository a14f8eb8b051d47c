"""What the benchmarks refuse."""


class BenchmarkError(Exception):
    """The comparison cannot be made as it was asked for, or a contender got it wrong."""
