"""Pages of lists, whatever a query says."""

from urllib.parse import parse_qsl, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from server.web.paging import LENGTHS, MOST_PAGES, Places

NAMES = st.sampled_from(sorted(LENGTHS))
QUERIES = st.dictionaries(NAMES | st.text(max_size=9), st.integers().map(str) | st.text())


@given(QUERIES, NAMES, st.integers(0, 300))
def test_every_query_is_a_page_that_there_is(query: dict[str, str], name: str, count: int) -> None:
    part = Places.read(query).cut(name, list(range(count)))
    assert 1 <= part.page <= part.pages
    assert len(part.items) <= LENGTHS[name]
    assert bool(part.items) == bool(count)


@given(NAMES, st.integers(0, 300))
def test_the_links_lead_through_all_of_a_list_once(name: str, count: int) -> None:
    items, seen = list(range(count)), []
    part = Places().cut(name, items)
    for _ in range(count + 1):
        seen += part.items
        if not part.after:
            break
        query = dict(parse_qsl(urlsplit(part.after).query))
        part = Places.read(query).cut(name, items)
        assert part.before
    assert seen == items


def test_a_link_leaves_other_lists_where_they_are() -> None:
    part = Places.read({"audit": "3", "look": "2"}).cut("look", list(range(100)))
    assert part.after == "/?audit=3&look=3#look"
    assert part.before == "/?audit=3#look"


def test_numbers_that_nobody_clicked_are_the_beginning() -> None:
    wild = ("0", "-1", "1e3", "٣", "9" * 5000, "", " 2", "<script>")
    assert {Places.read({"audit": text}) for text in wild} == {Places()}
    assert Places.read({"audit": str(MOST_PAGES)}).pages == (("audit", MOST_PAGES),)


def test_a_list_that_was_cut_says_how_long_it_is() -> None:
    assert Places().cut("look", [1, 2], total=700).total == 700
