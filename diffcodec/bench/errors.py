"""Errors of comparisons; a comparison that cannot be made is no reason to distrust the codec."""

from diffcodec.errors import CodecError


class BenchmarkError(CodecError):
    """The comparison cannot be made. The message is one line."""
