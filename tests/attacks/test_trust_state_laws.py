"""Floor, high-water and revocations are monotonic, in whatever order things are learned."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from edge_client.trust.state import TrustState

TIMES = st.datetimes(
    min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)
)
LEARNED = st.one_of(
    st.tuples(st.just("committed"), st.tuples(st.integers(0, 2**32 - 1))),
    st.tuples(st.just("refreshed"), st.tuples(TIMES, TIMES)),
    st.tuples(st.just("with_revoked"), st.tuples(st.frozensets(st.integers(0, 50), max_size=3))),
)


@given(st.lists(LEARNED, max_size=12))
def test_what_was_learned_never_shrinks(events: list[tuple[str, tuple[object, ...]]]) -> None:
    state = TrustState()
    for name, arguments in events:
        after = getattr(state, name)(*arguments)
        assert (after.generation_floor or 0) >= (state.generation_floor or 0)
        assert after.time_high_water >= state.time_high_water
        assert after.revoked >= state.revoked
        state = after
    assert TrustState.from_json(state.to_json()) == state


@given(st.lists(LEARNED, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_what_is_learned_does_not_matter(events, randomness) -> None:
    def learn(order: list[tuple[str, tuple[object, ...]]]) -> tuple[object, ...]:
        state = TrustState()
        for name, arguments in order:
            state = getattr(state, name)(*arguments)
        return state.generation_floor, state.time_high_water, state.revoked

    shuffled = list(events)
    randomness.shuffle(shuffled)
    assert learn(events) == learn(shuffled)
