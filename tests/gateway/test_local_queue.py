"""What runs where and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crestline.gateway.schedulers.local.queue import Allocation, Cluster, Resources, Share, Waiting, schedule
from crestline.model import InvalidRequestError


def cluster(count: int = 2, cpus: int = 4, memory: int = 1000) -> Cluster:
    names = [f"n{number}" for number in range(1, count + 1)]
    return Cluster([(name, cpus, memory) for name in names], {"all": names, "first": names[:1]})


def waiting(number: int, partition: str = "all", **resources: object) -> Waiting:
    return Waiting(number, partition, Resources(**resources))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("resources", "allocation"),
    [
        (Resources(), {"n1": Share(1, 1, 0)}),
        (Resources(tasks=4), {"n1": Share(4, 4, 0)}),
        (Resources(tasks=6), {"n1": Share(4, 4, 0), "n2": Share(2, 2, 0)}),
        (Resources(nodes=2, tasks=2), {"n1": Share(1, 1, 0), "n2": Share(1, 1, 0)}),
        (Resources(nodes=2, tasks=3), {"n1": Share(2, 2, 0), "n2": Share(1, 1, 0)}),
        (Resources(tasks=2, cpus_per_task=3), {"n1": Share(1, 3, 0), "n2": Share(1, 3, 0)}),
        (Resources(tasks=3, tasks_per_node=2), {"n1": Share(2, 2, 0), "n2": Share(1, 1, 0)}),
        (Resources(memory_per_node=600), {"n1": Share(1, 1, 600)}),
        (Resources(memory_per_node=0), {"n1": Share(1, 1, 1000)}),
        (Resources(tasks=3, memory_per_cpu=500), {"n1": Share(2, 2, 1000), "n2": Share(1, 1, 500)}),
        (Resources(exclusive=True), {"n1": Share(1, 4, 1000)}),
    ],
)
def test_placement(resources: Resources, allocation: Allocation) -> None:
    started, _ = schedule(cluster(), [Waiting(1, "all", resources)])
    assert started == {1: allocation}


@pytest.mark.parametrize(
    "resources",
    [
        Resources(tasks=9),
        Resources(nodes=3, tasks=3),
        Resources(cpus_per_task=5),
        Resources(memory_per_node=1001),
        Resources(tasks=5, memory_per_cpu=500),
        Resources(nodes=1, tasks=5),
        Resources(tasks=3, tasks_per_node=1),
    ],
)
def test_what_can_never_run_is_refused(resources: Resources) -> None:
    with pytest.raises(InvalidRequestError, match=r"can never run.*ask for less"):
        cluster().check("all", resources)


def test_check_looks_at_an_idle_cluster() -> None:
    busy = cluster()
    schedule(busy, [waiting(1, tasks=8)])
    busy.check("all", Resources(tasks=8))


def test_nothing_overtakes_a_job_that_does_not_fit() -> None:
    nodes = cluster()
    schedule(nodes, [waiting(1, tasks=5)])
    started, reasons = schedule(nodes, [waiting(2, tasks=4), waiting(3), waiting(4)])
    assert started == {}
    assert reasons[2] == "Resources"


def test_other_partitions_go_on() -> None:
    nodes = Cluster([("a", 2, 100), ("b", 2, 100)], {"a": ["a"], "b": ["b"]})
    schedule(nodes, [waiting(1, "a", tasks=2)])
    started, reasons = schedule(nodes, [waiting(2, "a"), waiting(3, "b"), waiting(4, "a")])
    assert set(started) == {3}
    assert reasons == {2: "Resources", 4: "Priority"}


def test_a_shared_node_is_kept_for_the_job_that_waits() -> None:
    nodes = cluster()
    schedule(nodes, [waiting(1, tasks=7)])
    started, reasons = schedule(nodes, [waiting(2, nodes=2, tasks=2), waiting(3, "first")])
    assert started == {}
    assert reasons == {2: "Resources"}


def test_exclusive_wants_an_idle_node() -> None:
    nodes = cluster(1)
    allocation = schedule(nodes, [waiting(1)])[0][1]
    assert schedule(nodes, [waiting(2, exclusive=True)])[0] == {}
    nodes.release(allocation)
    assert set(schedule(nodes, [waiting(2, exclusive=True), waiting(3)])[0]) == {2}


def test_array_limit_holds_its_own_tasks_only() -> None:
    queue = [Waiting(number, "all", Resources(), array=1, at_once=2) for number in (1, 2, 3)]
    started, reasons = schedule(cluster(), [*queue, waiting(4)], {1: 1})
    assert set(started) == {1, 4}
    assert reasons == {2: "JobArrayTaskLimit", 3: "JobArrayTaskLimit"}


JOBS = st.lists(
    st.builds(
        Resources,
        nodes=st.none() | st.integers(1, 3),
        tasks=st.integers(3, 6),
        tasks_per_node=st.none() | st.integers(1, 3),
        cpus_per_task=st.integers(1, 3),
        memory_per_node=st.none() | st.integers(0, 1000),
        memory_per_cpu=st.none(),
        exclusive=st.booleans(),
    ),
    max_size=12,
)


@given(JOBS, st.lists(st.sampled_from(["all", "first"]), min_size=12, max_size=12), st.randoms(use_true_random=False))
def test_queue_never_overcommits_and_never_starves_a_job(
    jobs: list[Resources], partitions: list[str], random: object
) -> None:
    """Jobs end in any order, new ones keep coming; the oldest of a partition starts before those behind it there."""
    nodes = cluster(3)
    queue = []
    for number, resources in enumerate(jobs):
        try:
            nodes.check(partitions[number], resources)
        except InvalidRequestError:
            continue
        queue.append(Waiting(number, partitions[number], resources))
    running: dict[int, Allocation] = {}
    newest = len(jobs)
    while any(job.job_id < len(jobs) for job in queue):
        started, _ = schedule(nodes, queue)
        for job in queue:
            if job.job_id in started:
                allocation = started[job.job_id]
                assert sum(share.tasks for share in allocation.values()) == job.resources.tasks
                assert job.resources.nodes in (None, len(allocation))
                assert set(allocation) <= set(nodes.partitions[job.partition])
                older = [other for other in queue if other.job_id < job.job_id and other.job_id not in started]
                assert not any(other.partition == job.partition for other in older)
        running |= started
        queue = [job for job in queue if job.job_id not in started]
        for node in nodes.nodes.values():
            assert 0 <= node.used_cpus <= node.cpus
            assert 0 <= node.used_memory <= node.memory
        assert running, "nothing runs and nothing starts"
        gone = random.choice(sorted(running))  # type: ignore[attr-defined]
        nodes.release(running.pop(gone))
        newest += 1
        queue.append(waiting(newest))  # small jobs that would fit into every gap
        assert newest < 100 * (len(jobs) + 1), "an old job starves"
    for allocation in running.values():
        nodes.release(allocation)
    assert all(node.used_cpus == node.used_memory == node.jobs == 0 for node in nodes.nodes.values())
