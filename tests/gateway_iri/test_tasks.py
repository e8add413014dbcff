"""Tasks of the IRI API: how many, how large, how long, and for whom."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from crestline.gateway.hosts.threads import ThreadShares
from crestline.gateway.iri import tasks
from crestline.gateway.iri.tasks import FileTask, FileTasks, TaskCommand
from crestline.model import (
    FileMissingError,
    GatewayUnavailableError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
)
from crestline.wire.iri import TaskState
from harness.waiting import until

pytestmark = pytest.mark.anyio

COMMAND = TaskCommand("filesystem", "ls", {"path": "/x"})


async def nothing() -> bytes:
    return b'{"output":null}'


def of_size(size: int) -> bytes:
    return b'"%s"' % (b"x" * (size - 2))


async def ended(task: FileTask) -> None:
    if task.work is not None:
        await asyncio.wait([task.work])


async def test_too_many_that_have_not_ended_are_refused_for_their_user_alone() -> None:
    store, gate = FileTasks(), asyncio.Event()

    async def wait() -> bytes:
        await gate.wait()
        return b"null"

    begun = [store.begin("alice", COMMAND, wait, timeout=60) for _ in range(tasks.MOST_WAITING)]
    with pytest.raises(RateLimitedError) as refused:
        store.begin("alice", COMMAND, wait, timeout=60)
    assert refused.value.retry_after
    other = store.begin("bob", COMMAND, nothing, timeout=60)
    await ended(other)
    assert other.status is TaskState.COMPLETED
    assert sum(task.status is TaskState.ACTIVE for task in begun) == 4
    gate.set()
    await asyncio.gather(*map(ended, begun))
    assert {task.status for task in begun} == {TaskState.COMPLETED}
    await store.stop()


async def test_the_oldest_are_forgotten_above_a_number() -> None:
    store = FileTasks()
    kept = await store.run("bob", COMMAND, nothing)
    made = [await store.run("alice", COMMAND, nothing) for _ in range(tasks.MOST_KEPT + 5)]
    assert [each.id for each in store.list("alice")] == [each.id for each in made[5:]]
    assert store.get("bob", kept.id) is kept
    with pytest.raises(NotFoundError):
        store.get("bob", made[-1].id)
    await store.stop()


async def test_results_that_were_fetched_are_forgotten_first_above_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MOST_BYTES", 10_000)
    store = FileTasks()

    async def result() -> bytes:
        return of_size(3000)

    first, second, third = [await store.run("alice", COMMAND, result) for _ in range(3)]
    second.was_read = True
    fourth = await store.run("alice", COMMAND, result)
    assert store.list("alice") == [first, third, fourth]
    fifth = await store.run("alice", COMMAND, result)
    assert store.list("alice") == [third, fourth, fifth]
    await store.stop()


async def test_one_users_results_make_way_in_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MOST_BYTES_IN_ALL", 10_000)
    store = FileTasks()

    async def result() -> bytes:
        return of_size(2800)

    mine = [await store.run("alice", COMMAND, result) for _ in range(3)]
    theirs = await store.run("bob", COMMAND, result)
    assert store.list("alice") == mine[1:]
    assert store.list("bob") == [theirs]
    await store.stop()


async def test_a_result_that_is_too_large_and_an_error_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "LARGEST_RESULT", 1000)
    store = FileTasks()

    async def large() -> bytes:
        return of_size(1001)

    async def absent() -> bytes:
        raise FileMissingError("/x: No such file or directory")

    async def broken() -> bytes:
        raise ZeroDivisionError("secret")

    for run, text in ((large, "too large"), (absent, "No such file or directory"), (broken, "Internal error")):
        task = store.begin("alice", COMMAND, run, timeout=60)
        await ended(task)
        shown = json.loads(task.show())
        assert shown["status"] == "failed"
        assert text in shown["result"]["output"]
        assert "secret" not in shown["result"]["output"]
    await store.stop()


async def test_a_task_ends_after_its_time_and_is_forgotten_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "TTL", 0.0)
    store = FileTasks()
    task = store.begin("alice", COMMAND, asyncio.Event().wait, timeout=0.01)  # type: ignore[arg-type]
    await ended(task)
    assert task.status is TaskState.FAILED
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert store.list("alice") == []
    await store.stop()


async def test_cancelling_before_and_during_the_work() -> None:
    store, began = FileTasks(), asyncio.Event()

    async def wait() -> bytes:
        began.set()
        await asyncio.Event().wait()
        return b"null"

    early = store.begin("alice", COMMAND, wait, timeout=60)
    await store.cancel("alice", early.id)
    late = store.begin("alice", COMMAND, wait, timeout=60)
    await began.wait()
    with pytest.raises(NotFoundError):
        await store.cancel("bob", late.id)
    await store.cancel("alice", late.id)
    await store.cancel("alice", late.id)
    assert early.status is late.status is TaskState.CANCELED
    left = store.begin("alice", COMMAND, wait, timeout=60)
    await store.stop()
    assert left.status is TaskState.CANCELED
    assert store.list("alice") == []


async def test_an_unexpected_error_of_a_request_stays_the_requests() -> None:
    store = FileTasks()

    async def broken() -> bytes:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.run("alice", COMMAND, broken)
    assert [task.status for task in store.list("alice")] == [TaskState.CANCELED]
    await store.stop()


@pytest.mark.parametrize("seconds", [60, 0.05])
async def test_a_thread_that_hangs_keeps_its_users_share(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Cancelled by its user, or out of time: else a file system that hangs would take a thread for each such task."""
    monkeypatch.setattr(tasks, "_CANCEL_TIMEOUT", 0.05)
    store, threads, came_back = FileTasks(), ThreadShares(8, 1), threading.Event()
    started: list[int] = []

    def hang() -> bytes:
        started.append(1)
        came_back.wait()
        return b"null"

    begun = [store.begin("alice", COMMAND, lambda: threads.run("alice", hang), timeout=seconds) for _ in range(4)]
    await until(lambda: started)
    if seconds == 60:
        for task in begun:
            await store.cancel("alice", task.id)
    else:
        await asyncio.gather(*map(ended, begun[1:]))
    assert started == [1]
    assert not begun[0].has_ended
    came_back.set()
    await asyncio.gather(*map(ended, begun))
    assert started == [1]
    await store.stop()


async def test_a_task_ends_when_its_user_may_not_do_it_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_CHECK_INTERVAL", 0.01)
    store = FileTasks()
    answers = iter([None, GatewayUnavailableError("OpenFGA did not respond"), None, PermissionDeniedError("Not yours")])
    stopped = asyncio.Event()

    async def allow() -> None:
        if (answer := next(answers)) is not None:
            raise answer

    async def work() -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return b"null"

    task = store.begin("alice", COMMAND, work, timeout=60, allow=allow)
    await ended(task)
    assert stopped.is_set()
    assert json.loads(task.show())["result"] == {"output": "Error: Not yours"}
    await store.stop()


async def test_a_task_that_waited_for_others_begins_if_its_user_still_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_CHECK_INTERVAL", 0.0)
    store = FileTasks()

    async def allow() -> None:
        raise PermissionDeniedError("Not yours")

    async def work() -> bytes:
        raise AssertionError("begun")

    task = store.begin("alice", COMMAND, work, timeout=60, allow=allow)
    await ended(task)
    assert json.loads(task.show())["result"] == {"output": "Error: Not yours"}
    await store.stop()
