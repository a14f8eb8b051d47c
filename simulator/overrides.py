"""A scenario with parts of it replaced from the command line.

>>> with_overrides(scenario, variants="bl,sparse", sizes="1/100,40x", steps="500,dense=800")
"""

from collections.abc import Sequence
from dataclasses import replace

from simulator.errors import ScenarioError
from simulator.evolution import Evolution, Labels, read_evolution
from simulator.lines import Size, Variant
from simulator.scenario import Scenario, Steps


def with_overrides(
    scenario: Scenario,
    *,
    by: str | None = None,
    generations: str | None = None,
    seeds: Sequence[int] | None = None,
    variants: str | None = None,
    sizes: str | None = None,
    steps: str | None = None,
) -> Scenario:
    """Replace what is given; None keeps what the scenario says.

    Args:
        scenario: What to start from.
        by: text, domain or share.
        generations: Labels by comma, generations by semicolon ("a,b;c;d"), or shares ("0.5;0.1").
        seeds: Of training.
        variants: Names by comma.
        sizes: By comma: "1/100,40x".
        steps: Of every recipe ("500"), and exceptions by name ("500,dense=800"); without the
            first, the scenario's default stays.

    Raises:
        ScenarioError: something is not what it should be; the message names the option.
    """
    return replace(
        scenario,
        evolution=_evolution(scenario.evolution, by, generations),
        seeds=tuple(seeds) if seeds else scenario.seeds,
        variants=_variants(variants) if variants is not None else scenario.variants,
        sizes=_sizes(sizes) if sizes is not None else scenario.sizes,
        steps=_steps(scenario.steps, steps) if steps is not None else scenario.steps,
    )


def _evolution(evolution: Evolution, by: str | None, generations: str | None) -> Evolution:
    if generations is not None:
        return read_evolution(by or evolution.by, generations)
    if by is None or by == evolution.by:
        return evolution
    if isinstance(evolution, Labels):
        lists = ";".join(",".join(labels) for labels in evolution.lists)
        return read_evolution(by, lists)
    raise ScenarioError(f"--by {by}: expected its --generations too")


def _variants(names: str) -> tuple[Variant, ...]:
    listed = [name.strip() for name in names.split(",")]
    for name in listed:
        if name not in set(Variant):
            known = ", ".join(Variant)
            raise ScenarioError(f"--variants: expected some of {known}, found {name!r}")
    return tuple(Variant(name) for name in listed)


def _sizes(names: str) -> tuple[Size, ...]:
    return tuple(Size.parse(name) for name in names.split(",") if name.strip())


def _steps(steps: Steps, changes: str) -> Steps:
    default, exceptions = steps.default, dict(steps.exceptions)
    for change in changes.split(","):
        recipe, _, count = change.rpartition("=")
        if not count.strip().isdecimal() or int(count) < 1:
            raise ScenarioError(
                f"--steps: expected whole numbers such as '500' or '500,dense=800', "
                f"found {changes!r}"
            )
        if recipe:
            exceptions[recipe.strip()] = int(count)
        else:
            default, exceptions = int(count), {}
    return Steps(default, exceptions)
