"""How numbers are printed, the same in every table."""

from simulator.report.summary import Spread

NOTHING = "–"


def score(spread: Spread) -> str:
    """98.2, or with several seeds 98.2 (97.5–98.8); in percent."""
    mean = f"{100 * spread.mean:.1f}"
    if spread.min == spread.max:
        return mean
    return f"{mean} ({100 * spread.min:.1f}–{100 * spread.max:.1f})"


def points(spread: Spread | None) -> str:
    """1.2, or with several seeds 1.2 (−0.3 to 2.0); a dash where nothing was measured."""
    if spread is None:
        return NOTHING
    mean = f"{spread.mean:.1f}"
    if spread.min == spread.max:
        return mean
    return f"{mean} ({spread.min:.1f} to {spread.max:.1f})"


def count(spread: Spread | None, form: str = "{:,.0f}", unit: float = 1.0) -> str:
    """The mean, or a dash where nothing was measured."""
    return NOTHING if spread is None else form.format(spread.mean / unit)


def labels(added: tuple[str, ...]) -> str:
    """The first of them, and how many more."""
    listed = ", ".join(added[:4])
    return listed if len(added) <= 4 else f"{listed} and {len(added) - 4} more"
