"""Which device gets which job."""

from __future__ import annotations

from familyseer.fleet._jobs import Group, Job
from familyseer.fleet._schedule import Slot, Waiting, assign
from familyseer.fleet._session import Artifact
from familyseer.measure._timing import RunPlan


def slots(*described: tuple[str, int, float, float]) -> list[Slot]:
    return [Slot(*one) for one in described]


def test_each_idle_device_of_the_owner_begins_a_job() -> None:
    jobs = [Waiting(i, group=1, owner=0) for i in range(5)]
    begun = assign(jobs, slots(("a", 0, 0.0, 1.0), ("b", 0, 0.0, 1.0), ("c", 0, 0.5, 1.0)))
    assert begun == {"a": 0, "b": 1}


def test_a_slow_device_leaves_the_last_job_to_a_fast_one_that_is_soon_free() -> None:
    fleet = slots(("slow", 0, 0.0, 5.0), ("fast", 0, 0.5, 1.0))
    assert assign([Waiting(0, group=1, owner=0)], fleet) == {}
    # with enough jobs in the queue it has its share
    many = [Waiting(i, group=1, owner=0) for i in range(6)]
    assert assign(many, fleet) == {"slow": 4}


def test_classes_are_never_mixed_within_a_group() -> None:
    fleet = slots(("a", 0, 0.0, 1.0), ("b", 1, 0.0, 1.0))
    assert assign([Waiting(i, group=1, owner=1) for i in range(3)], fleet) == {"b": 0}
    # nor by a group whose owner is chosen now
    assert len(assign([Waiting(i, group=1) for i in range(3)], fleet)) == 1
    # two groups have a device each
    assert assign([Waiting(0, group=1), Waiting(1, group=2)], fleet) == {"a": 0, "b": 1}


def test_a_new_group_goes_to_the_class_that_is_done_with_it_first() -> None:
    fleet = slots(("one", 0, 0.0, 1.0), ("b", 1, 0.0, 1.5), ("c", 1, 0.0, 1.5))
    assert assign([Waiting(0, group=1)], fleet) == {"one": 0}
    assert set(assign([Waiting(i, group=1) for i in range(6)], fleet)) == {"b", "c"}


def test_devices_that_were_lost_on_a_job_do_not_get_it_again() -> None:
    fleet = slots(("a", 0, 0.0, 1.0), ("b", 0, 0.0, 1.0))
    assert assign([Waiting(0, 1, owner=0, avoid=frozenset({"a"}))], fleet) == {"b": 0}
    assert assign([Waiting(0, 1, owner=0, avoid=frozenset({"a", "b"}))], fleet) == {}


def test_jobs_in_turn_stay_at_home() -> None:
    fleet = slots(("a", 0, 0.0, 1.0), ("b", 0, 0.0, 1.02))
    assert assign([Waiting(0, 1, owner=0, home="b")], fleet) == {"b": 0}


def test_nobody_begins_without_devices() -> None:
    assert assign([Waiting(0, 1)], []) == {}


def job(number: int, priority: float, losses: int = 0) -> Job:
    artifact = Artifact("x.so", "cpu", ())
    lost = [(f"device {i}", "gone") for i in range(losses)]
    return Job(artifact, RunPlan(), Group(), priority, 0.0, number, losses=lost)


def test_jobs_that_unlock_most_come_first_and_those_that_lost_a_device_last() -> None:
    jobs = [job(1, 0.0), job(2, 3.0), job(3, 3.0), job(4, 9.0, losses=1), job(5, 1.0)]
    assert [one.number for one in sorted(jobs, key=lambda j: j.rank)] == [2, 3, 5, 1, 4]
