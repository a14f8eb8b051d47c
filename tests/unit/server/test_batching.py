import asyncio
import contextvars
import threading
from collections.abc import Sequence

import pytest

from server.batching import Batches
from server.errors import NotFoundError, RegistryError

CALL = contextvars.ContextVar("call", default="")


class Squares:
    """Squares numbers, waits for leave, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may_go_on = threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int | NotFoundError]:
        self.batches.append(list(numbers))
        assert self.may_go_on.wait(10)
        return [NotFoundError("none") if n < 0 else n * n for n in numbers]


async def begun(squares: Squares, batches: int = 1) -> None:
    while len(squares.batches) < batches:
        await asyncio.sleep(0.001)


def test_what_comes_while_a_batch_is_worked_on_makes_the_next_and_no_larger_than_may_be() -> None:
    squares = Squares()

    async def scene() -> list[int]:
        calls = Batches(squares, most=3)
        tasks = [asyncio.create_task(calls.answer(0))]
        await begun(squares)
        tasks += [asyncio.create_task(calls.answer(n)) for n in range(1, 6)]
        await asyncio.sleep(0)
        squares.may_go_on.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(scene()) == [0, 1, 4, 9, 16, 25]
    assert squares.batches == [[0], [1, 2, 3], [4, 5]]


def test_while_calls_keep_coming_a_batch_fills_before_it_is_worked_on() -> None:
    squares = Squares()

    async def scene() -> list[int]:
        calls = Batches(squares, most=10)
        tasks = [asyncio.create_task(calls.answer(0))]
        await begun(squares)
        tasks.append(asyncio.create_task(calls.answer(1)))
        await asyncio.sleep(0)
        squares.may_go_on.set()
        await tasks[0]
        tasks.append(asyncio.create_task(calls.answer(2)))
        return await asyncio.gather(*tasks)

    assert asyncio.run(scene()) == [0, 1, 4]
    assert squares.batches == [[0], [1, 2]]


def test_an_error_of_one_item_is_raised_to_its_caller_alone() -> None:
    squares = Squares()
    squares.may_go_on.set()

    async def scene() -> list[object]:
        calls = Batches(squares, most=10)
        return await asyncio.gather(*map(calls.answer, (2, -1, 3)), return_exceptions=True)

    two, none, three = asyncio.run(scene())
    assert (two, three) == (4, 9)
    assert isinstance(none, NotFoundError)


def test_an_error_of_the_work_is_raised_to_all_of_its_batch_and_the_next_one_is_worked_on() -> None:
    failing = [RegistryError("the database is away")]

    def work(numbers: Sequence[int]) -> list[int]:
        if failing:
            raise failing.pop()
        return list(numbers)

    async def scene() -> tuple[list[object], int]:
        calls = Batches(work, most=10)
        failed = await asyncio.gather(*map(calls.answer, (1, 2)), return_exceptions=True)
        return failed, await calls.answer(3)

    failed, answered = asyncio.run(scene())
    assert [str(error) for error in failed] == ["the database is away"] * 2
    assert answered == 3


def test_who_hangs_up_before_the_batch_is_left_out_and_disturbs_nobody() -> None:
    squares = Squares()

    async def scene() -> list[int]:
        calls = Batches(squares, most=10)
        first = asyncio.create_task(calls.answer(1))
        await begun(squares)
        gone, stays = (asyncio.create_task(calls.answer(n)) for n in (2, 3))
        await asyncio.sleep(0)
        gone.cancel()
        first.cancel()
        squares.may_go_on.set()
        answered = await stays
        with pytest.raises(asyncio.CancelledError):
            await gone
        return [answered, await calls.answer(4)]

    assert asyncio.run(scene()) == [9, 16]
    assert squares.batches == [[1], [3], [4]]


def test_a_batch_knows_nothing_of_the_call_that_began_it() -> None:
    async def scene() -> str:
        CALL.set("the first call")
        return await Batches(lambda items: [CALL.get()], most=1).answer(0)

    assert asyncio.run(scene()) == ""
