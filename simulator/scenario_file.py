"""Read scenarios from TOML: the built-in ones by name, others by path.

    >>> find_scenario("digits").name
    'digits'

simulator/scenarios/ holds the built-in ones; quickstart.toml explains every key. All keys but
[targets] are needed, so that a file shows all that its run depends on, and an unknown one is a
mistake.
"""

import math
import tomllib
from collections.abc import Mapping
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

from simulator.errors import ScenarioError
from simulator.evolution import Evolution, EvolveBy, Labels, Shares
from simulator.lines import Line, Size, Variant
from simulator.scenario import Scenario, Steps, SyntheticSpeech
from simulator.scores import TaskName


def builtin_names() -> tuple[str, ...]:
    """The scenarios that come with the simulator."""
    folder = resources.files("simulator") / "scenarios"
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def find_scenario(name: str) -> Scenario:
    """Read a built-in scenario by its name, or a file by its path (*.toml).

    Raises:
        ScenarioError: there is none, or it is broken; the message names the key.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise ScenarioError(f"{name}: no such scenario file")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ScenarioError(f"{name}: expected a readable file: {error.strerror}") from error
    elif name in builtin_names():
        content = (resources.files("simulator") / "scenarios" / f"{name}.toml").read_bytes()
    else:
        known = ", ".join(builtin_names())
        raise ScenarioError(f"expected a scenario of {known}, or a .toml file; found {name!r}")
    return parse_scenario(content, source=name)


def parse_scenario(content: bytes, source: str) -> Scenario:
    """Read a scenario from TOML.

    Raises:
        ScenarioError: not TOML, a key is unknown, missing, or of another type.
    """
    try:
        table = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{source}: expected TOML: {error}") from error
    try:
        return _scenario(_Table(table))
    except ScenarioError as error:
        raise ScenarioError(f"{source}: {error}") from None


def _scenario(table: "_Table") -> Scenario:
    scenario = Scenario(
        name=table.text("name"),
        description=table.text("description"),
        task=TaskName(table.choice("task", list(TaskName))),
        evolution=_evolution(
            EvolveBy(table.choice("evolve_by", list(EvolveBy))),
            table.list("generations", "labels or shares"),
        ),
        seeds=tuple(_whole("seeds", seed, 0) for seed in table.list("seeds", "whole numbers")),
        model=table.text("model"),
        steps=_steps(table.table("steps")),
        batch_size=table.whole("batch_size", 1),
        variants=tuple(_variant(name) for name in table.list("variants", "names")),
        sizes=tuple(_size("sizes", size) for size in table.list("sizes", "sizes")),
        targets=_targets(table.table("targets", is_optional=True)),
        speech=_speech(table.table("corpus")),
    )
    table.finish()
    return scenario


def _evolution(by: EvolveBy, generations: list[Any]) -> Evolution:
    if by is not EvolveBy.SHARE:
        return Labels(by, tuple(_texts("generations", added) for added in generations))
    return Shares(tuple(Fraction(str(_number("generations", share))) for share in generations))


def _steps(table: "_Table") -> Steps:
    default = table.whole("default", 1)
    return Steps(default, {name: table.whole(name, 1) for name in table.keys_left()})


def _targets(table: "_Table") -> dict[str, float]:
    return {_target(name): table.number(name) for name in table.keys_left()}


def _target(name: str) -> str:
    """The name of a line or a size as programs write it."""
    variant, _, size = name.rpartition(" ")
    if not variant:
        return str(Size.parse(size))
    return str(Line(_variant(variant), Size.parse(size)))


def _speech(table: "_Table") -> SyntheticSpeech | None:
    if table.choice("kind", ["synthetic", "given"]) == "given":
        table.finish()
        return None
    of_phrases = "sentences_per_speaker" not in table.keys_left()
    speech = SyntheticSpeech(
        speakers=table.whole("speakers", 2),
        seed=table.whole("seed", 0),
        phrases_per_domain=table.whole("phrases_per_domain", 0) if of_phrases else None,
        sentences_per_speaker=0 if of_phrases else table.whole("sentences_per_speaker", 1),
        topics=_topics(table) if not of_phrases and "topics" in table.keys_left() else (),
    )
    table.finish()
    return speech


def _topics(table: "_Table") -> tuple[str, ...]:
    return _texts("topics", table.list("topics", of="topics"))


def _variant(name: Any) -> Variant:
    if name not in set(Variant):
        raise ScenarioError(f"variants: expected {_one_of(list(Variant))}, found {name!r}")
    return Variant(name)


def _size(key: str, text: Any) -> Size:
    if not isinstance(text, str):
        raise ScenarioError(f"{key}: expected sizes such as '1/100' or '40x', found {text!r}")
    return Size.parse(text)


def _texts(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ScenarioError(f"{key}: expected a list of texts, found {value!r}")
    return tuple(value)


def _whole(key: str, value: Any, least: int) -> int:
    # bool is an int to Python, but not to whoever writes a scenario.
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ScenarioError(f"{key}: expected a whole number of {least} or more, found {value!r}")
    return value


def _number(key: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ScenarioError(f"{key}: expected a number, found {value!r}")
    return value


def _one_of(choices: list[str]) -> str:
    return " or ".join(str(choice) for choice in choices)


class _Table:
    """A TOML table that is read key by key; `finish` refuses the keys that nobody read."""

    def __init__(self, content: Mapping[str, Any], name: str = "") -> None:
        self._content = dict(content)
        self._name = name

    def text(self, key: str) -> str:
        value = self._take(key)
        if not isinstance(value, str):
            raise ScenarioError(f"{self._path(key)}: expected a text, found {value!r}")
        return value

    def whole(self, key: str, least: int) -> int:
        return _whole(self._path(key), self._take(key), least)

    def choice(self, key: str, choices: list[str]) -> str:
        value = self._take(key)
        if value not in choices:
            raise ScenarioError(f"{self._path(key)}: expected {_one_of(choices)}, found {value!r}")
        return str(value)

    def list(self, key: str, of: str) -> list[Any]:
        value = self._take(key)
        if not isinstance(value, list):
            raise ScenarioError(f"{self._path(key)}: expected a list of {of}, found {value!r}")
        return value

    def number(self, key: str) -> float:
        return _number(self._path(key), self._take(key))

    def table(self, key: str, is_optional: bool = False) -> "_Table":
        value = {} if is_optional and key not in self._content else self._take(key)
        if not isinstance(value, dict):
            raise ScenarioError(f"{self._path(key)}: expected a table, found {value!r}")
        return _Table(value, name=self._path(key))

    def keys_left(self) -> tuple[str, ...]:
        """Those that nobody read yet."""
        return tuple(self._content)

    def finish(self) -> None:
        for key in self._content:
            raise ScenarioError(f"{self._path(key)}: unknown key")

    def _take(self, key: str) -> Any:
        try:
            return self._content.pop(key)
        except KeyError:
            raise ScenarioError(f"{self._path(key)}: missing key") from None

    def _path(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key
