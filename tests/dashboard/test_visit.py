"""Notes and files on the pages of a scheduler, which sees no store: asked of the master, or of a run of one's own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from distributed import Scheduler
from test_master import mastered, scheduler
from test_stored import FILES, png

from swarm import Grid, Integer, Job, Run
from swarm.cluster.connect import paged
from swarm.dashboard.stored import Shelf
from swarm.dashboard.trial.artifacts import left_html
from swarm.dashboard.trial.visit import Visit
from swarm.pool.virtual import VirtualPool
from swarm.runs.artifacts import left
from swarm.scheduler.desk import PageDesk
from swarm.search import Search
from swarm.service.published.of_trials import of_run
from swarm.service.published.publisher import Publisher, showing
from swarm.store import State, Store, Submission
from swarm.store.events import Asked
from swarm.store.left import ALL_SENT, FILES_SENT, LARGEST_SENT, Left
from swarm.trial import artifacts_in


def searched(store: Path, name: str) -> None:
    """A job of two trials, whose trainings have left files."""
    job = Job(name=name, problem=lambda params, ctx: 0.0, version=name, space={"n": Integer(0, 1)}, optimizer=Grid())
    with closing(Store(str(store))) as opened:
        opened.submit(Submission(name, "ann"), job.to_dict(), job.code.pickle)
        asyncio.run(Search(job, opened).run(VirtualPool(1, lambda evaluation: float(evaluation.params["n"]))))
        opened.set_submission(Submission(name, "ann", state=State.FINISHED))
        for event in opened.events(name):
            for each in event.evaluations if isinstance(event, Asked) else ():
                place = Path(artifacts_in(f"{store}.artifacts/results", each.key))
                place.mkdir(parents=True)
                for file, inside in FILES.items():
                    (place / file).write_bytes(inside)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("visit") / "runs.db"
    for name in ("files", "others"):
        searched(found, name)
    return found


@pytest.fixture
def shelf(store: Path) -> Shelf:
    found = Shelf(str(store))
    found.look()
    return found


def keys(shelf: Shelf, job: str = "files") -> list[str]:
    """Of the evaluations of the job's trials."""
    view = shelf.shown[job].view
    assert view is not None
    return [point.key for point in view.points]


async def asked(visit: Visit) -> None:
    """What was asked for has been answered."""
    await asyncio.gather(*visit._tasks)


async def test_what_a_training_left_and_notes_come_from_the_master_and_notes_go_there(
    store: Path, shelf: Shelf
) -> None:
    first, second = keys(shelf)
    async with scheduler() as started, mastered(store.parent, started.address, store=Store(str(store)), look=left):
        desk = started.plugins["swarm"].desk
        one, other = Visit(shelf, desk), Visit(shelf, desk)
        assert one.left("files", first) == ""
        await asked(one)
        found = one.left("files", first)
        assert isinstance(found, Left)
        assert {file.name: file.bytes for file in found.files} == {name: len(data) for name, data in FILES.items()}
        assert {file.name for file in found.files if file.content == FILES[file.name]} == {
            "confusion <b>&'.png",
            "drawing.svg",
            "table.txt",
        }
        html = left_html(one, first, found)
        assert html.count("<img src='data:image/") == 2
        assert "alt='confusion &lt;b&gt;&amp;&#x27;.png'" in html and "<b>b" not in html
        assert one.notes("files") == {} and not one.writes("files")
        assert "token" in (await one.write_note("files", 0, first, "no") or "")
        one.admit()
        assert one.writes("files")
        assert await one.write_note("files", 1, second, "look <b>here</b>") is None
        assert one.notes("files") == {1: "look <b>here</b>"} == Run.load("files", str(store)).notes
        other.notes("files")
        await asked(other)
        assert other.notes("files") == {1: "look <b>here</b>"}
        assert "2000" in (await one.write_note("files", 1, second, "x" * 2001) or "")
        assert await one.write_note("files", 1, second, "") is None
        assert Run.load("files", str(store)).notes == {}


async def test_a_page_reads_and_writes_only_what_the_job_has_asked_for(store: Path, shelf: Shelf) -> None:
    foreign = keys(shelf, "others")[0]
    async with scheduler() as started, mastered(store.parent, started.address, store=Store(str(store)), look=left):
        desk = started.plugins["swarm"].desk
        for method, more in (("left", {}), ("note", {"trial": 0, "text": "no"})):
            answer = await desk.look(method, "files", True, key=foreign, **more)
            assert list(answer["error"]) == ["InvalidInput", "job 'files' has no such trial"]
            answer = await desk.look(method, "nobody's", True, key=foreign, **more)
            assert answer["error"][0] in ("JobNotFound", "InvalidInput")
        for key in ("../../etc/passwd", "%" * 16, "", "A" * 16):
            assert (await desk.look("left", "files", True, key=key))["error"][0] == "InvalidInput"
        for method in ("cancel", "submit", "events"):
            assert (await desk.look(method, "files", True))["error"][0] == "NotAllowed"
    assert Run.load("others", str(store)).notes == {}


@pytest.mark.parametrize(
    ("public", "admitted", "own", "reads", "writes"),
    [
        (False, False, False, False, False),
        (True, False, False, True, False),
        (False, True, False, True, True),
        (False, False, True, True, True),
    ],
)
async def test_who_may_not_read_or_write_asks_nobody(
    public: bool, admitted: bool, own: bool, reads: bool, writes: bool, shelf: Shelf
) -> None:
    requests: list[tuple[str, str]] = []

    async def ask(method: str, data: str, user: str) -> dict[str, Any]:
        requests.append((method, user))
        return {"error": ["NoMaster", "the master is away"]}

    desk = PageDesk(ask, "a secret of mine", "ann", lambda job: public and job == "files")
    desk.own = own
    visit = Visit(shelf, desk)
    if admitted:
        visit.admit()
    key, user = keys(shelf)[0], "ann" if admitted else "swarm-master"
    before = visit.left("files", key)
    assert (before == "") is reads and ("token" in before) is not reads
    assert (visit.notes("files") is not None) is reads
    await asked(visit)
    after = visit.left("files", key)
    assert after == ("the master is away" if reads else before)
    refused = await visit.write_note("files", 0, key, "note")
    assert (refused == "the master is away") is writes
    assert requests == [("left", user), ("notes", user)] * reads + [("note", user)] * writes


async def test_a_run_of_ones_own_answers_for_its_trials_alone(store: Path, shelf: Shelf) -> None:
    key = keys(shelf)[0]
    url = f"sqlite:///{store}"
    with closing(Store(url)) as opened:
        job = Run.load("files", url).job
        outlet = Publisher(job)
        search = Search(job, opened, outlet.note)
        async with paged() as client:
            here = next(each for each in Scheduler._instances if each.address == client.scheduler.address)
            service = here.plugins["swarm"]
            async with showing(client, search, outlet, of_run(url, "files", left)):
                while "files" not in service.board.shown:
                    await asyncio.sleep(0.01)
                visit = Visit(service.board, service.desk)
                assert visit.left("files", key) == ""
                await asked(visit)
                assert isinstance(visit.left("files", key), Left)
                assert await visit.write_note("files", 0, key, "mine") is None
                assert visit.notes("files") == {0: "mine"}
                foreign = keys(shelf, "others")[0]
                assert "no such trial" in (await visit.write_note("files", 0, foreign, "not mine") or "")
                assert "NoMaster" in (await service.desk.look("notes", "others", True))["error"]
    Run.load("files", url).note(0, "")


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[tuple[Store, str]]:
    """A store, and an evaluation whose training has left too much."""
    key, folder = "ab" * 8, tmp_path / "results"
    place = Path(artifacts_in(str(folder), key))
    place.mkdir(parents=True)
    for number in range(4):
        (place / f"{number}.png").write_bytes(png(9, 9) + bytes(LARGEST_SENT - 2000))
    (place / "huge.png").write_bytes(bytes(LARGEST_SENT + 1))
    (place / "long.txt").write_bytes(b"x" * 100_000)
    (place / "link.png").symlink_to("/etc/hostname")
    os.mkfifo(place / "pipe.png")
    for number in range(FILES_SENT):
        (place / f"z{number}.bin").write_bytes(b"1")
    store = Store(f"{tmp_path}/s.db")
    yield store, key
    store.close()


def test_what_travels_to_the_pages_is_bounded(crowded: tuple[Store, str], tmp_path: Path) -> None:
    store, key = crowded
    found = left(store, key, results=str(tmp_path / "results"))
    contents = {file.name: len(file.content) for file in found.files if file.content is not None}
    assert set(contents) == {"0.png", "1.png", "long.txt"}
    assert contents["long.txt"] == 4096
    assert sum(contents.values()) <= ALL_SENT + 4096
    assert len(found.files) == FILES_SENT
    assert not {"link.png", "pipe.png"} & {file.name for file in found.files}
    assert Left.from_dict(found.to_dict()) == found
    assert left(store, key) == Left()


async def test_a_disk_that_does_not_answer_is_said_and_holds_nobody_up(
    store: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from threading import Event

    monkeypatch.setattr("swarm.service.published.of_trials._LOOK_SECONDS", 0.2)
    free = Event()

    def stuck(store: Store, key: str) -> Left:
        free.wait(20)
        return Left()

    opened = Store(str(store))
    async with scheduler() as started, mastered(store.parent, started.address, store=opened, look=stuck):
        desk = started.plugins["swarm"].desk
        waiting = asyncio.ensure_future(desk.look("left", "files", False, key=keys(shelf)[0]))
        assert "ok" in await desk.look("notes", "files", False)
        assert "has not answered" in (await waiting)["error"][1]
    free.set()


def test_of_files_without_their_content_only_the_name_is_shown(store: Path, shelf: Shelf) -> None:
    with closing(Store(str(store))) as opened:
        found = partial(left, opened)(keys(shelf)[0])
    bare = Left(files=tuple(type(file)(file.name, file.bytes) for file in found.files))
    html = left_html(Visit(shelf, PageDesk(None, None, None)), "k", bare)  # type: ignore[arg-type]
    assert "<img" not in html and "model.bin" in html and "<a" not in html
