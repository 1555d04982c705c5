"""Work that runs ahead: in order, so far and no further, with its error in its place, and never left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from pipelines.ahead import ahead
from tests.support.jobs import wait_for


def threads() -> int:
    return sum(thread.name == "ahead" for thread in threading.enumerate())


def test_results_come_in_order_from_another_thread() -> None:
    def numbers() -> Iterator[tuple[int, int]]:
        for number in range(50):
            yield number, threading.get_ident()

    with ahead(numbers(), 3) as results:
        found = list(results)
    assert [number for number, _ in found] == list(range(50))
    assert {thread for _, thread in found} != {threading.get_ident()}
    assert threads() == 0


def test_it_runs_ahead_and_no_further_than_it_may() -> None:
    drawn: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(20):
            drawn.append(number)
            yield number

    with ahead(numbers(), 2) as results:
        wait_for(lambda: len(drawn) == 3)  # two wait, one is held
        time.sleep(0.3)
        assert len(drawn) == 3
        assert next(results) == 0
        wait_for(lambda: len(drawn) == 4)
        assert list(results) == list(range(1, 20))


def test_an_error_comes_where_its_result_would_have() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise KeyError("two")

    with ahead(numbers(), 5) as results:
        assert next(results) == 1
        with pytest.raises(KeyError, match="two"):
            next(results)
    assert threads() == 0


def test_the_thread_goes_when_nobody_needs_it() -> None:
    def numbers() -> Iterator[int]:
        yield from range(10**9)

    with pytest.raises(ZeroDivisionError), ahead(numbers(), 2) as results:  # noqa: PT012
        next(results)
        raise ZeroDivisionError
    assert threads() == 0
