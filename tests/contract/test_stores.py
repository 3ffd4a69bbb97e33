"""What every store must do. A new kind of store is tested by being a parameter of the fixture ``store_url``."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import sqlalchemy as sa
from services import wait_until

from swarm.errors import JobConflict, JobNotFound, LeaseLost, StoreTooNew, StoreUnavailable
from swarm.plain import canonical
from swarm.store import SCHEMA, Event, JobStatus, State, Store, Submission
from swarm.store.events import Asked, Began, Ended, Enqueued, Extended, Retried, Stopped
from swarm.trial import Evaluation, Result, Status, Trial

OK = Result(
    key="k1",
    status=Status.OK,
    fitness=0.9,
    metrics={"loss": 0.3},
    curve=({"epoch": 0.0},),
    seconds=2.5,
    end=7.0,
)
FAILED = Result(key="k2", status=Status.FAILED, error="ValueError: no", end=8.0)


def of(result: Result, problem: str = "p") -> tuple[Evaluation, Result]:
    """The result as the archive takes it, with its evaluation."""
    return Evaluation(key=result.key, problem=problem, params={"x": 1}, seed=0, budget=3.0), result


def line(number: int) -> Event:
    """Some event of a journal."""
    return Ended(reason=str(number), time=float(number))


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store(store_url)
    yield opened
    opened.close()


def test_a_job_is_read_back_as_it_was_written(store: Store) -> None:
    store.add_job("a", {"space": {"x": {"integer": [1, 2]}}}, b"\x00code")
    job = store.job("a")
    assert (job.name, job.spec, job.status) == ("a", {"space": {"x": {"integer": [1, 2]}}}, "new")
    assert store.code("a") == b"\x00code"


def test_jobs_are_listed_oldest_first(store: Store) -> None:
    for name in ("b", "a", "c"):
        store.add_job(name, {}, b"")
    assert [job.name for job in store.jobs()] == ["b", "a", "c"]


def test_a_taken_name_is_refused_and_the_first_job_stays(store: Store) -> None:
    store.add_job("a", {"seed": 1}, b"first")
    with pytest.raises(JobConflict, match="another name"):
        store.add_job("a", {"seed": 2}, b"second")
    assert store.code("a") == b"first"


def test_an_unknown_job_is_named_with_those_that_exist(store: Store) -> None:
    store.add_job("digits", {}, b"")
    with pytest.raises(JobNotFound, match="no job 'digit'.*digits"):
        store.job("digit")


def test_status_is_kept(store: Store) -> None:
    store.add_job("a", {}, b"")
    store.set_status("a", JobStatus.FINISHED)
    assert store.job("a").status is JobStatus.FINISHED


def test_events_come_back_in_order_after_reopening(store: Store, store_url: str) -> None:
    events = [line(number) for number in range(2500)]
    store.append("a", 0, events[:1])
    store.append("a", 1, events[1:])
    store.append("b", 0, events[:3])
    again = Store(store_url)
    assert list(again.events("a")) == events
    again.close()


def test_a_second_writer_of_one_journal_is_refused_and_writes_nothing(store: Store, store_url: str) -> None:
    other = Store(store_url)
    store.append("a", 0, [line(0)])
    with pytest.raises(JobConflict, match="another process"):
        other.append("a", 0, [line(0), line(1)], [of(OK)])
    assert len(list(store.events("a"))) == 1
    assert store.result("k1") is None
    other.append("a", 1, [line(1)], [of(OK)])  # the corrected call works
    assert store.result("k1") == OK
    other.close()


def test_results_answer_by_key_whichever_job_wrote_them(store: Store) -> None:
    store.append("a", 0, [line(0), line(1)], [of(OK), of(FAILED)])
    assert store.result("k1") == OK
    assert store.result("k2") == FAILED
    assert store.result("k3") is None


def test_a_journal_and_the_archive_have_values_as_they_were(store: Store) -> None:
    params = {
        "depth": None,
        "kernel": (3, (5, [1.0, 1, True, "1", None])),
        "layers": [64, 32],
        "weights": {0: 1.0, "0": 2, None: [()], 2.5: -1.5},
        "marked": {"tuple": [1]},
        "other": {"dict": {"dict": []}},
        "model.units": 3,
    }
    store.add_job("a", {}, b"")
    known = ({"params": params, "loss": 0.5},)
    store.append("a", 0, [Began(version="0", known=known), Asked(trial=Trial(id=0, params=params), evaluations=())])
    began, asked = store.events("a")
    assert repr(began.known) == repr(known) and repr(asked.trial.params) == repr(params)
    evaluation = Evaluation.of("p", params)
    result = Result(key=evaluation.key, status=Status.OK, fitness=1.0)
    store.append("a", 2, [Ended(reason="done")], [(evaluation, result)])
    [(found, _, _)] = store.durations("p", 10)
    assert canonical(found) == canonical(params) and found == params


def test_durations_are_those_of_the_problems_latest_successes(store: Store) -> None:
    other = Result(key="k3", status=Status.OK, fitness=0.1, seconds=9.0, end=9.0)
    newer = Result(key="k4", status=Status.OK, fitness=0.1, seconds=4.0, end=10.0)
    store.append("a", 0, [line(0)], [of(OK), of(FAILED), of(other, "q"), of(newer)])
    assert store.durations("p", 10) == [({"x": 1}, 3.0, 4.0), ({"x": 1}, 3.0, 2.5)]
    assert store.durations("p", 1) == [({"x": 1}, 3.0, 4.0)]
    assert store.durations("nothing", 10) == []


def test_the_first_result_of_a_key_sticks(store: Store) -> None:
    store.append("a", 0, [line(0)], [of(OK)])
    later = Result(key="k1", status=Status.OK, fitness=0.1)
    store.append("b", 0, [line(0)], [of(later)])
    assert store.result("k1") == OK


def test_a_failure_that_answers_nobody_gives_way_to_a_later_result(store: Store) -> None:
    store.append("a", 0, [line(0)], [of(FAILED)])
    assert store.result("k2") == FAILED
    assert store.answer("k2") is None
    blamed = Result(key="k2", status=Status.FAILED, error="Infeasible: too large", blamed=True)
    store.append("b", 0, [line(0)], [of(blamed)])
    assert store.answer("k2") == blamed
    better = Result(key="k2", status=Status.OK, fitness=0.1)
    store.append("c", 0, [line(0)], [of(better)])
    assert store.answer("k2") == blamed, "the first that answers sticks"


def test_a_journal_is_cut_with_what_is_forgotten_of_the_archive(store: Store) -> None:
    store.add_job("a", {}, b"")
    store.append("a", 0, [line(i) for i in range(9)], [of(OK), of(FAILED)])
    store.append("b", 0, [line(0)])
    store.cut("a", 4, [Retried(failures=2, keys=())], forget=["k1", "k2"])
    assert [event.kind for event in store.events("a")] == ["ended"] * 4 + ["retried"]
    assert (store.result("k1"), store.result("k2")) == (OK, None), "what has succeeded is not forgotten as a failure"
    assert store.job("a").status == "stopped"
    assert len(list(store.events("b"))) == 1
    with pytest.raises(JobConflict, match="another process"):
        store.append("a", 9, [line(9)])
    store.append("a", 5, [line(5)])
    store.cut("a", 6, [], lost=["k1"])
    assert store.result("k1") is None


def test_an_event_that_json_cannot_hold_is_refused_before_anything_is_written(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON"):
        store.append("a", 0, [line(0), Asked(trial=Trial(id=1, params={"x": float("nan")}), evaluations=())])
    assert list(store.events("a")) == []


def test_a_store_of_a_later_version_is_refused(store: Store, store_url: str) -> None:
    store.close()
    engine = sa.create_engine(store_url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE swarm_meta SET value = '99'"))
    engine.dispose()
    with pytest.raises(StoreTooNew, match="schema 99.*upgrade"):
        Store(store_url)


def test_an_empty_database_is_no_store_unless_it_may_be_made_one(store_url: str) -> None:
    with pytest.raises(StoreUnavailable):
        Store(store_url, create=False)
    Store(store_url).close()
    Store(store_url, create=False).close()


def test_a_page_of_a_journal_can_be_read(store: Store) -> None:
    store.append("a", 0, [line(i) for i in range(10)])
    assert list(store.events("a", after=4, limit=3)) == [line(4), line(5), line(6)]


def test_a_submission_is_read_back_and_replaced(store: Store) -> None:
    first = Submission("a", "ada", 2.0, 3, environment=("python==3.11.*",))
    store.submit(first, {"seed": 1}, b"code")
    assert store.submissions() == [first]
    assert store.code("a") == b"code"
    ended = Submission("a", "ada", 2.0, None, state=State.FAILED, reason="no", summary={"told": 3})
    store.set_submission(ended)
    assert store.submissions() == [ended]
    with pytest.raises(JobConflict):
        store.submit(first, {}, b"")


def test_one_master_at_a_time_holds_the_lease(store: Store, store_url: str) -> None:
    other = Store(store_url)
    assert store.lease("one", 60)
    assert not other.lease("two", 60)
    assert store.lease("one", 0)  # renewed, and already over
    assert other.lease("two", 60)
    assert not store.lease("one", 60)
    assert other.term == store.term + 1
    other.close()


def test_a_master_that_lost_the_lease_can_write_nothing(store: Store, store_url: str) -> None:
    other = Store(store_url)
    assert store.lease("one", 0)
    store.submit(Submission("a", "ada"), {}, b"")
    store.append("a", 0, [line(0)])  # the lease is over, but nobody has taken it
    assert other.lease("two", 60)
    for write in (
        lambda: store.append("a", 1, [line(0)], [of(OK)]),
        lambda: store.set_submission(Submission("a", "ada", 9.0)),
        lambda: store.set_status("a", JobStatus.RUNNING),
        lambda: store.add_job("b", {}, b""),
    ):
        with pytest.raises(LeaseLost, match="another master"):
            write()
    assert len(list(other.events("a"))) == 1
    assert other.result("k1") is None
    assert other.submissions() == [Submission("a", "ada")]
    other.append("a", 1, [line(0)])
    other.close()


def test_a_master_that_leaves_in_order_can_be_followed_at_once(store: Store, store_url: str) -> None:
    other = Store(store_url)
    assert store.lease("one", 60)
    store.give_up_lease()
    assert other.lease("two", 60)
    other.close()


def test_a_store_of_the_first_schema_is_brought_up_to_date(store: Store, store_url: str) -> None:
    store.add_job("a", {}, b"")
    engine = sa.create_engine(store.url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE swarm_submissions"))
        connection.execute(sa.text("DROP TABLE swarm_lease"))
        connection.execute(sa.text("UPDATE swarm_meta SET value = '1'"))
    engine.dispose()
    again = Store(store_url)
    assert [job.name for job in again.jobs()] == ["a"]
    assert again.submissions() == []
    assert again.lease("one", 1)
    again.close()


def count(store: Store, statement: str) -> int:
    """What a statement of SQL counts in the database of a store."""
    engine = sa.create_engine(store.url)
    with engine.connect() as connection:
        found = int(connection.execute(sa.text(statement)).scalar_one())
    engine.dispose()
    return found


def test_code_that_several_jobs_have_is_kept_once(store: Store, store_url: str) -> None:
    code, other = b"\x00same" * 1000, b"\x00other" * 10
    for number in range(5):
        store.add_job(f"run-{number}", {}, code)
    again = Store(store_url)  # another process knows it, too
    again.submit(Submission("submitted", "ada"), {}, code)
    again.add_job("different", {}, other)
    names = [f"run-{number}" for number in range(5)] + ["submitted"]
    assert all(store.code(name) == code for name in names) and store.code("different") == other
    assert len({store.digest(name) for name in names}) == 1 and store.digest("different") != store.digest("submitted")
    assert count(store, "SELECT sum(length(data)) FROM swarm_code") == len(code) + len(other)
    assert count(store, "SELECT sum(length(problem)) FROM swarm_jobs") == 0
    again.close()


def test_a_job_without_code_has_none(store: Store) -> None:
    store.add_job("a", {}, b"")
    assert store.code("a") == b"" and store.digest("a") is None
    with pytest.raises(JobNotFound, match="no job 'b'; it has a"):
        store.code("b")
    with pytest.raises(JobNotFound, match="were deleted"):
        store.content("0" * 64)


def test_a_refused_job_leaves_no_code_behind(store: Store) -> None:
    store.add_job("a", {}, b"first")
    with pytest.raises(JobConflict):
        store.add_job("a", {}, b"second")
    assert store.code("a") == b"first"
    assert count(store, "SELECT count(*) FROM swarm_code") == 1


def test_a_store_of_the_second_schema_is_brought_up_to_date_and_its_jobs_keep_their_code(
    store: Store, store_url: str
) -> None:
    store.add_job("later", {}, b"")
    engine = sa.create_engine(store.url)
    row = {"name": "old", "spec": '{"seed": 1}', "problem": b"\x00old code", "created": 0.0, "status": "stopped"}
    insert = f"INSERT INTO swarm_jobs ({', '.join(row)}) VALUES ({', '.join(f':{column}' for column in row)})"
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE swarm_code"))
        connection.execute(sa.text("DROP TABLE swarm_job_code"))
        connection.execute(sa.text("UPDATE swarm_meta SET value = '2'"))
        connection.execute(sa.text(insert), row)
    engine.dispose()
    again = Store(store_url)
    assert [job.name for job in again.jobs()] == ["old", "later"]
    assert again.code("old") == b"\x00old code" and again.digest("old") is None
    again.add_job("new", {}, b"\x00old code")
    assert (again.code("new"), again.code("old")) == (b"\x00old code", b"\x00old code")
    assert count(again, "SELECT value FROM swarm_meta WHERE name = 'schema'") == SCHEMA
    again.close()


def test_names_that_begin_alike_are_found_whatever_characters_they_have(store: Store) -> None:
    for name in ("a_b", "a_b-2", "a_b.c", "axb", "axb-2", "A_b-3", "b"):
        store.add_job(name, {}, b"")
    assert store.names("a_b") - {"A_b-3"} == {"a_b", "a_b-2", "a_b.c"}
    assert store.names("nothing") == set()


def test_an_unknown_job_is_answered_with_the_names_of_the_latest(store: Store) -> None:
    for number in range(9):
        store.add_job(f"run-{number}", {}, b"")
    with pytest.raises(JobNotFound, match=r"no job 'run'; it has run-4, run-5, run-6, run-7, run-8$"):
        store.job("run")


def test_a_new_store_is_opened_by_many_at_once(store_url: str) -> None:
    starting = threading.Barrier(6)

    def opened(_: int) -> int:
        starting.wait()
        with closing(Store(store_url)) as store:
            return len(store.jobs())

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(opened, range(6))) == [0] * 6


def test_weights_of_users_are_kept_and_one_is_that_of_everybody(store: Store, store_url: str) -> None:
    assert store.weights() == {}
    for user, weight in (("ann", 3.0), ("Bob O'Hara", 0.5), ("ann", 2.0), ("eve", 7.0), ("eve", 1.0)):
        store.set_weight(user, weight)
    with closing(Store(store_url)) as other:
        assert other.weights() == {"ann": 2.0, "Bob O'Hara": 0.5}


def test_a_master_that_has_lost_its_lease_weighs_nobody(store: Store, store_url: str) -> None:
    assert store.lease("first", 0.0)
    with closing(Store(store_url)) as second:
        assert second.lease("second", 60)
        with pytest.raises(LeaseLost):
            store.set_weight("ann", 2.0)
        assert second.weights() == {}


def put_clock_ahead(store: Store, seconds: float) -> None:
    """As if the lease had been given when the clock was so much ahead."""
    engine = sa.create_engine(store.url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE swarm_lease SET expires = expires + :seconds"), {"seconds": seconds})
    engine.dispose()


def test_a_lease_that_a_wrong_clock_gave_for_an_hour_is_over_after_its_own_length(
    store: Store, store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(Store(store_url)) as other:
        assert store.lease("one", 0.5)
        put_clock_ahead(store, 3600)
        assert store.lease_holder() is None
        began = time.monotonic()
        assert not other.lease("two", 0.5), "it may be alive"
        wait_until(lambda: other.lease("two", 0.5))
        assert 0.5 <= time.monotonic() - began < 5
        assert other.term == store.term + 1
        assert "the lease of master one is to end in 3600 s only" in caplog.text and "a clock was wrong" in caplog.text
        assert not store.lease("one", 0.5)


def test_a_master_that_renews_its_lease_keeps_it_whatever_the_clock_says(store: Store, store_url: str) -> None:
    with closing(Store(store_url)) as other:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert store.lease("one", 0.2)
            put_clock_ahead(store, 3600)
            assert not other.lease("two", 0.2)


def test_the_term_of_a_restored_store_is_raised_above_the_one_that_was_seen(
    store: Store, store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.outrank(9)
    assert store.term == 0, "it has none"
    assert store.lease("one", 60)
    store.outrank(1)
    assert store.term == 1 and not caplog.text
    store.outrank(7)
    assert store.term == 7 and "term 1 is behind term 7" in caplog.text and "backup" in caplog.text
    store.add_job("a", {}, b"")
    assert store.lease("one", 60)
    store.give_up_lease()
    with closing(Store(store_url)) as other:
        assert other.lease("two", 60) and other.term == 8
        with pytest.raises(LeaseLost):
            store.outrank(20)


def service_of(store: Store, states: dict[str, State]) -> None:
    """Jobs of a service, in this order; those that have ended did so one second after the other from second 1 on."""
    for number, (name, state) in enumerate(states.items()):
        store.submit(Submission(name, "ann"), {"name": name}, b"")
        if state is not State.ACTIVE:
            store.set_submission(Submission(name, "ann", state=state, ended=number + 1.0))


def test_jobs_that_go_on_are_listed_apart_from_those_that_have_ended(store: Store) -> None:
    states = {f"job-{number}": list(State)[number % 5] for number in range(15)}
    service_of(store, states)
    active = [each.job for each in store.submissions(active=True)]
    assert active == [name for name, state in states.items() if not state.ended]
    assert store.counts() == dict.fromkeys(State, 3)
    store.set_submission(Submission("job-2", "ann"))  # it is submitted again
    assert [each.job for each in store.submissions(active=True)] == sorted([*active, "job-2"], key=list(states).index)


def test_ended_jobs_come_by_the_page_the_latest_first(store: Store) -> None:
    states = {f"job-{number}": list(State)[number % 5] for number in range(15)}
    service_of(store, states)
    store.set_submission(Submission("job-2", "ann", state=State.FINISHED, ended=8.0))  # in the same moment as job-7
    wanted = sorted((name for name, state in states.items() if state.ended), key=lambda name: int(name[4:]))[::-1]
    wanted.remove("job-2")
    wanted.insert(wanted.index("job-7") + 1, "job-2")
    seen: list[str] = []
    after = None
    while page := store.ended(2, after):
        assert len(page) <= 2
        seen += [submission.job for _, submission in page]
        assert [job.spec["name"] for job, _ in page] == [submission.job for _, submission in page]
        after = page[-1][1].ended or 0.0, page[-1][1].job
    assert seen == wanted
    failed = store.ended(9, states=[State.FAILED])
    assert [submission.job for _, submission in failed] == ["job-14", "job-9", "job-4"]
    assert store.expired(9.5, 3) == [("job-3", 4.0), ("job-4", 5.0), ("job-2", 8.0)] and store.expired(1.0, 3) == []


def test_a_job_that_somebody_goes_on_with_is_not_deleted_for_its_age(store: Store) -> None:
    service_of(store, {"a": State.FAILED, "b": State.FAILED})
    [(_, when), _] = store.expired(9.0, 9)
    store.set_submission(Submission("a", "ann"))
    assert not store.delete_job("a", ended=when) and store.has_job("a") and store.submission("a") is not None
    assert store.delete_job("b", ended=2.0) and not store.has_job("b")


def test_when_a_job_ended_is_noted_with_its_end(store: Store) -> None:
    store.submit(Submission("a", "ann"), {}, b"")
    before = time.time()
    assert store.submission("a") is not None and store.expired(before + 60, 9) == []
    store.set_submission(Submission("a", "ann", state=State.CANCELLED))
    [(_, ended)] = store.ended(1)
    assert ended.ended is not None and before <= ended.ended <= time.time()


def test_a_job_becomes_another_in_its_limits_together_with_the_event_that_says_so(store: Store) -> None:
    store.add_job("a", {"trials": 3}, b"code")
    store.append("a", 0, [line(0), line(1)])
    store.set_status("a", JobStatus.FINISHED)
    steering = [
        Extended(version="1", limits={"optimizer.trials": 5}, optimizer={"name": "Random", "trials": 5}, time=2.0),
        Enqueued(configurations=({"x": 1},), user="ann", time=3.0),
        Stopped(reason="enough", time=4.0),
    ]
    store.extend("a", 2, steering, {"trials": 5})
    assert list(store.events("a")) == [line(0), line(1), *steering]
    job = store.job("a")
    assert (job.spec, job.status, store.code("a")) == ({"trials": 5}, "stopped", b"code")
    with pytest.raises(JobConflict, match="another process"):
        store.extend("a", 4, [line(4)], {"trials": 9})
    assert store.job("a").spec == {"trials": 5} and store.length("a") == 5
