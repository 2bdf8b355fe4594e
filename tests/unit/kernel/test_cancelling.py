"""Tasks are cancelled, and waited for, without losing a cancellation: `forecourt.waiting.cancel_and_wait`."""

import asyncio
import contextlib
from typing import Any

import pytest

from forecourt import waiting
from forecourt.connections import keep_listening
from forecourt.testing.probes import poll_async
from forecourt.waiting import cancel_and_wait, heeding_cancellation


async def endless() -> None:
    await asyncio.Event().wait()


async def begun(work: Any) -> asyncio.Task[Any]:
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    return task


async def test_all_have_ended_whatever_they_raise() -> None:
    async def failing() -> None:
        try:
            await endless()
        finally:
            raise ValueError("at the end")

    tasks = [await begun(endless()), await begun(failing()), await begun(asyncio.sleep(0))]
    await cancel_and_wait(*tasks)
    assert all(task.done() for task in tasks)
    assert isinstance(tasks[1].exception(), ValueError)


async def test_nothing_to_cancel_is_well() -> None:
    await cancel_and_wait()


async def test_who_is_cancelled_meanwhile_is_cancelled_but_not_before_the_others_have_ended() -> None:
    ending, ended = asyncio.Event(), []

    async def slow() -> None:
        try:
            await endless()
        finally:
            await asyncio.shield(ending.wait())
            ended.append("slow")

    async def shield_ignoring() -> None:
        while not ended:
            try:
                await slow()
            except asyncio.CancelledError:
                if ended:
                    raise

    inner = await begun(shield_ignoring())
    outer = await begun(cancel_and_wait(inner))
    outer.cancel()
    await asyncio.sleep(0)
    assert not outer.done()
    ending.set()
    await asyncio.wait([outer], timeout=5)
    assert outer.cancelled()
    assert inner.done()


async def test_a_task_that_lost_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "INSIST_SECONDS", 0.01)

    async def forgetful() -> None:
        for _ in range(3):
            with contextlib.suppress(asyncio.CancelledError):
                await endless()
        await endless()

    task = await begun(forgetful())
    async with asyncio.timeout(5):
        await cancel_and_wait(task)
    assert task.cancelled()


async def test_a_clean_up_that_takes_its_time_is_left_alone_where_nobody_insists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "INSIST_SECONDS", 0.01)
    cleaned: list[str] = []

    async def slow() -> None:
        try:
            await endless()
        finally:
            await asyncio.sleep(0.1)
            cleaned.append("up")

    await cancel_and_wait(await begun(slow()), insist=False)
    assert cleaned == ["up"]


@pytest.mark.parametrize("ending", [None, ConnectionResetError()], ids=["answers", "fails"])
async def test_a_library_that_swallows_a_cancellation_is_not_believed(ending: Exception | None) -> None:
    async def call() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await endless()
        if ending is not None:
            raise ending

    async def ask() -> None:
        with heeding_cancellation():
            await call()

    task = await begun(ask())
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()


async def test_calls_of_a_task_that_was_cancelled_before_are_well() -> None:
    """What it does to clean up must not fail for that."""
    cleaned = []

    async def work() -> None:
        try:
            await endless()
        finally:
            with heeding_cancellation():
                await asyncio.sleep(0)
            cleaned.append("up")

    await cancel_and_wait(await begun(work()))
    assert cleaned == ["up"]


async def test_a_timeout_is_no_cancellation() -> None:
    with pytest.raises(TimeoutError), heeding_cancellation():
        async with asyncio.timeout(0):
            await endless()
    with heeding_cancellation(), pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await endless()


async def test_who_goes_on_after_errors_ends_where_the_error_was_a_cancellation() -> None:
    async def listen() -> None:
        try:
            await endless()
        except asyncio.CancelledError:
            raise ConnectionResetError from None

    task = await begun(keep_listening(listen, "nobody listens", seconds=3600))
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()


async def test_a_listener_is_tried_again_and_says_what_is_not_a_lost_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endings: list[Exception | None] = [ConnectionResetError(), ValueError("odd"), None]
    between = 0

    async def listen() -> None:
        if not endings:
            await endless()
        error = endings.pop(0)
        if error is not None:
            raise error

    def count() -> None:
        nonlocal between
        between += 1

    said: list[str] = []
    monkeypatch.setattr("forecourt.connections.log.exception", said.append)
    task = asyncio.create_task(keep_listening(listen, "nobody listens", seconds=0, between=count))
    await poll_async(lambda: between == 3, 5, what="three endings")
    await cancel_and_wait(task)
    assert (between, said) == (3, ["nobody listens"])
