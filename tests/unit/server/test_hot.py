from server.artifacts.hot import HotBlobs


def test_what_was_used_last_is_kept_as_far_as_it_fits() -> None:
    hot = HotBlobs(largest_bytes=4, all_bytes=10)
    for name in (b"a", b"b"):
        hot.keep(name, name * 4)
    assert hot.get(b"a") == b"aaaa"
    hot.keep(b"c", b"cccc")
    assert [hot.get(name) for name in (b"a", b"b", b"c")] == [b"aaaa", None, b"cccc"]


def test_one_that_is_too_large_is_not_kept_and_one_kept_twice_counts_once() -> None:
    hot = HotBlobs(largest_bytes=4, all_bytes=8)
    hot.keep(b"large", b"12345")
    for _ in range(3):
        hot.keep(b"a", b"aaaa")
    hot.keep(b"b", b"bbbb")
    assert [hot.get(name) for name in (b"large", b"a", b"b")] == [None, b"aaaa", b"bbbb"]
