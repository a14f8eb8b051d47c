"""The examples of docs/diff-format-v1.md, read from the page by the decoder written from it."""

import re
from pathlib import Path

from tests.vectors.independent_header import HASH, LOSSLESS, LOW_RANK, SPARSE, Change, Tensor
from tests.vectors.independent_max import decode_arrays, decode_bytes
from tests.vectors.independent_max_entries import decode_entries
from tests.vectors.independent_votes import probability

PAGE = (Path(__file__).parents[3] / "docs/diff-format-v1.md").read_text()
FLOAT32, FLOAT16 = 1, 2


def example(opening: str) -> bytes:
    """The block of hexadecimal digits behind the paragraph that opens so."""
    text = PAGE.split("#### Examples")[1].split(opening)[1]
    block = re.search(r"\n\n((?:    [0-9A-F]+\n)+)", text)
    assert block is not None
    return bytes.fromhex(block[1])


def test_the_logistic_function_takes_the_values_of_the_page():
    values = re.search(r"P\(−65536\) is (\d+), P\(0\) (\d+) and P\(100000\) (\d+)", PAGE)
    assert values is not None
    assert [probability(x) for x in (-65536, 0, 100000)] == [int(v) for v in values.groups()]


def test_the_hash_array_of_the_page_is_what_it_says():
    change = Change(Tensor("a", FLOAT32, (7,)), HASH, count=7, largest=2)
    assert decode_arrays(example("Arrays: a hash"), [change]) == [[[0, 1, -2, 0, 2, 2, -1]]]


def test_the_factors_of_the_page_are_what_it_says():
    change = Change(Tensor("a", FLOAT32, (4, 2)), LOW_RANK, count=2, largest=3)
    left, right = decode_arrays(example("Arrays: a low-rank"), [change])[0]
    assert left == [0, 1, -2, 0, 3, 2, -1, 3]
    assert right == [3, -3, 1, -1]


def test_the_bytes_of_the_page_are_what_it_says():
    tensors = [Tensor("a", FLOAT32, (2, 3)), Tensor("b", FLOAT16, (3,))]
    found = decode_bytes(example("Bytes:"), [Change(tensor, LOSSLESS) for tensor in tensors])
    elements = [0, 0x12345678, 0x80, 0x3F000000, 0, 0x12345679]
    assert found[0] == b"".join(e.to_bytes(4, "little") for e in elements)
    assert found[1] == bytes.fromhex("0000 3412 0500")


def test_the_entries_of_the_page_are_what_it_says():
    sparse = [
        Change(Tensor("a", FLOAT32, (16, 32)), SPARSE, count=76, largest=5),
        Change(Tensor("b", FLOAT32, (3,)), SPARSE, count=1, largest=1),
    ]
    positions = [i for i in range(512) if i * i % 61 < 9]
    levels = [(1 + i % 5) * (-1 if i % 3 == 0 else 1) for i in positions]
    matrix, vector = decode_entries(example("Entries:"), sparse)
    assert matrix == list(zip(positions, levels, strict=True))
    assert vector == [(1, -1)]
