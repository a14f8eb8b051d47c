"""Everyone that ours is compared with, in the order of the table."""

from diffcodec.bench.of_files import Bsdiff, FullModel, HdiffPatch, PatchFrom, Xdelta
from diffcodec.bench.of_levels import DenseBrotli, PaperForm, PaperFormZstd, RowIndexHalf
from diffcodec.bench.peer import Peer


def standard_peers() -> tuple[Peer, ...]:
    """Everyone who needs no more than a package or a program."""
    return (
        FullModel(),
        PatchFrom(19),
        PatchFrom(9),
        Bsdiff(),
        Xdelta(),
        HdiffPatch(),
        PaperForm(),
        PaperFormZstd(),
        RowIndexHalf(),
        DenseBrotli(),
    )
