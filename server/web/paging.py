"""Parts of lists: which page of which list somebody looks at, and links to the others.

>>> places = Places.read({"audit": "2", "nonsense": "1"})
>>> places.cut("audit", entries).items
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

LENGTHS = {"rollouts": 6, "ended": 8, "look": 10, "waiting": 10, "bytes": 8, "failures": 10,
           "audit": 12}  # fmt: skip
"""The lists of the page, and how much of each is seen at once."""
MOST_PAGES = 99


@dataclass(frozen=True)
class Part(Generic[Item]):
    """A page of a list.

    Attributes:
        name: Of the list.
        items: What is seen.
        page: Its number, from 1.
        pages: How many there are.
        shown: Items on all pages together.
        total: Items in all, also those that no page shows.
        before: The link to the page before; empty where there is none.
        after: The link to the next one; empty where there is none.
    """

    name: str
    items: Sequence[Item]
    page: int
    pages: int
    shown: int
    total: int
    before: str
    after: str


@dataclass(frozen=True)
class Places:
    """Where somebody is in each list, sorted by name; not named: at its beginning."""

    pages: tuple[tuple[str, int], ...] = ()

    @classmethod
    def read(cls, query: Mapping[str, str]) -> "Places":
        """Read a query; what makes no sense there is the beginning of a list."""
        found = ((name, _number(query.get(name, ""))) for name in sorted(LENGTHS))
        return cls(tuple((name, number) for name, number in found if number > 1))

    def cut(self, name: str, items: Sequence[Item], total: int | None = None) -> Part[Item]:
        """The part of a list that is seen.

        Args:
            name: Of the list.
            items: All of it that can be seen.
            total: How long it really is; None: as long as items.
        """
        length = LENGTHS[name]
        pages = max(1, -(-len(items) // length))
        page = min(dict(self.pages).get(name, 1), pages)
        return Part(
            name=name,
            items=items[(page - 1) * length : page * length],
            page=page,
            pages=pages,
            shown=len(items),
            total=len(items) if total is None else total,
            before=self._link(name, page - 1) if page > 1 else "",
            after=self._link(name, page + 1) if page < pages else "",
        )

    def _link(self, name: str, page: int) -> str:
        """A query that leaves the other lists where they are."""
        pages = {**dict(self.pages), name: page}
        named = "&".join(f"{key}={number}" for key, number in sorted(pages.items()) if number > 1)
        return f"/?{named}#{name}" if named else f"/#{name}"


def _number(text: str) -> int:
    # Short first: a query may hold thousands of digits.
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(MOST_PAGES))
    return int(text) if is_number else 1
