"""Replicas of one training: what they agree on, what an asynchronous server does, and who minds whose end."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swarm.trial import Evaluation, Status
from swarm.workers.context import Context
from swarm.workers.problem import attempt
from swarm.workers.replicas import ReplicaLost, Replicas
from swarm.workers.replicas import rendezvous as seat
from swarm.workers.replicas.rendezvous import NotMetError, Seat, seated

MAKE_CERTIFICATES = Path(__file__).parents[2] / "deploy" / "make-certificates"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(103, 5))  # a last batch that three cannot share alike
Y = X @ np.arange(5.0) + RNG.normal(size=103)


def seats(size: int, sync: bool = True) -> list[Seat]:
    lines = [socket.socketpair() for _ in range(1, size)]
    first = Seat(0, size, sync, tuple(line for line, _ in lines))
    return [first, *(Seat(rank, size, sync, (line,)) for rank, (_, line) in enumerate(lines, 1))]


def together(
    train: Callable[[Replicas], Any], size: int, sync: bool = True, given: list[Seat] | None = None
) -> list[Any]:
    """What each of so many replicas returns, in threads of this process."""

    def one(seat: Seat) -> Any:
        replicas, well = Replicas(seat), False
        try:
            found = train(replicas)
            well = True
            return found
        finally:
            replicas.close(well=well)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, given or seats(size, sync)))


def gradient(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Of half the squared error, summed over the rows."""
    return X[rows].T @ (X[rows] @ weights - Y[rows])


def batches(steps: int = 40, size: int = 10) -> Iterator[np.ndarray]:
    for step in range(steps):
        yield np.arange(step * size, (step + 1) * size) % len(X)


def sgd(replicas: Replicas) -> np.ndarray:
    """Stochastic gradient descent, each replica on its part of every batch."""
    weights = replicas.start(np.zeros(5) + replicas.rank)
    for batch in batches():
        mine = batch[replicas.rank :: replicas.size]
        weights = weights - 0.05 * replicas.mean(replicas.size * gradient(weights, mine) / len(batch))
    return weights


def asynchronous_sgd(replicas: Replicas) -> np.ndarray:
    weights = replicas.start(np.zeros(5))
    for number, batch in enumerate(batches()):
        if number % replicas.size == replicas.rank:
            weights = replicas.push(-0.05 * gradient(weights, batch) / len(batch))
    return replicas.settle()


@pytest.mark.parametrize("size", [2, 3, 4])
def test_synchronous_replicas_take_the_steps_of_one_training_on_the_whole_batch(size: int) -> None:
    found = together(sgd, size)
    np.testing.assert_allclose(found[0], sgd(Replicas()), atol=1e-6, rtol=0)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_an_asynchronous_training_of_one_replica_is_a_synchronous_one() -> None:
    np.testing.assert_allclose(together(asynchronous_sgd, 1, sync=False)[0], sgd(Replicas()), atol=1e-6, rtol=0)


def test_asynchronous_replicas_lose_no_change_and_end_with_the_same_weights() -> None:
    def count(replicas: Replicas) -> tuple[np.ndarray, float]:
        replicas.start(np.zeros(3))
        for _ in range(200):
            replicas.push(np.ones(3))
        return replicas.settle(), replicas.staleness

    found = together(count, 3, sync=False)
    for weights, _ in found:
        np.testing.assert_array_equal(weights, np.full(3, 600.0))
    assert found[0][1] >= 0


def test_asynchronous_replicas_find_what_one_training_finds() -> None:
    solution = np.linalg.lstsq(X, Y, rcond=None)[0]
    distance = np.abs(together(asynchronous_sgd, 2, sync=False)[0] - solution).max()
    assert distance < 0.5 < np.abs(solution).max()


def test_staleness_counts_the_changes_that_came_in_between() -> None:
    turn = [threading.Event(), threading.Event()]

    def train(replicas: Replicas) -> float:
        replicas.start(np.zeros(1))
        if replicas.rank == 0:
            for _ in range(3):
                replicas.push(np.ones(1))
            turn[0].set()
            turn[1].wait(10)
        else:
            turn[0].wait(10)
            replicas.push(np.ones(1))  # made from weights that lack three changes
            turn[1].set()
        replicas.settle()
        return replicas.staleness

    assert together(train, 2, sync=False)[0] == 3 / 4


def test_the_end_of_one_replica_is_the_end_of_all() -> None:
    def train(replicas: Replicas) -> str:
        if replicas.rank == 1:
            return "left"
        try:
            replicas.mean(np.zeros(2))
        except ReplicaLost:
            return str(replicas.lost)
        return "nothing missed"

    for found in (together(train, 2), together(train, 3)):
        assert found[0].startswith("another replica went away")


@pytest.mark.parametrize("sync", [True, False])
def test_what_differs_in_length_is_not_averaged(sync: bool) -> None:
    def train(replicas: Replicas) -> None:
        replicas.start(np.zeros(2))
        replicas.mean(np.zeros(2 + replicas.rank))

    with pytest.raises(ValueError, match="^replica 1 gave 3 values to be averaged with 2$"):
        together(train, 2, sync)


# --- the training that they are of


def attempted(train: Any, size: int = 2) -> list[Any]:
    evaluation = Evaluation.of("p", {"x": 1.0}, replicas=size)
    with ThreadPoolExecutor(size) as pool:
        made: list[Future[Any]] = [
            pool.submit(attempt, train, evaluation, lambda _: None, None, one) for one in seats(size)
        ]
        return [each.result() for each in made]


def test_a_training_whose_other_replica_fails_is_cancelled_and_the_other_says_why() -> None:
    def train(params: Any, ctx: Context) -> float:
        if ctx.replicas.rank == 1:
            raise MemoryError("no room")
        return float(ctx.replicas.mean(np.ones(1))[0])

    first, other = attempted(train)
    assert (first.status, other.status) == (Status.CANCELLED, Status.FAILED)
    assert first.error.startswith("another replica went away")
    assert other.error.startswith("MemoryError: no room")


def test_replicas_that_never_speak_to_each_other_are_a_mistake() -> None:
    first, _ = attempted(lambda params, ctx: 1.0)
    assert first.status is Status.FAILED
    assert "each of 2 replicas has trained for itself: use ctx.replicas" in first.error


def test_only_the_first_replica_reports() -> None:
    reports: list[float] = []

    def train(params: Any, ctx: Context) -> float:
        ctx.replicas.mean(np.ones(1))
        ctx.report(rank=ctx.replicas.rank)
        return 1.0

    evaluation = Evaluation.of("p", {}, replicas=3)
    with ThreadPoolExecutor(3) as pool:
        for each in seats(3):
            pool.submit(attempt, train, evaluation, lambda metrics: reports.append(metrics["rank"]), None, each)
    assert reports == [0]


# --- how they meet


@contextmanager
def meeting(size: int, guests: Callable[[dict[str, Any]], None]) -> Iterator[Seat | None]:
    evaluation = Evaluation.of("p", {}, replicas=size)
    with ThreadPoolExecutor(1) as pool, seated(evaluation, None, lambda said: pool.submit(guests, dict(said))) as found:
        yield found


def test_replicas_meet_by_invitation_whatever_their_order_and_strangers_are_shown_out() -> None:
    evaluation = Evaluation.of("p", {}, replicas=3)
    found: dict[int, Seat | None] = {}
    held = threading.Event()

    def sit(invitation: dict[str, Any]) -> None:
        with seated(evaluation, invitation, lambda _: None) as mine:
            found[invitation["rank"]] = mine
            held.wait(10)

    def guests(said: dict[str, Any]) -> None:
        address = said["host"], said["port"]
        with socket.create_connection(address) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: everything\r\n\r\n")
        for rank in (2, 1):
            threading.Thread(target=sit, args=({**said, "rank": rank},), daemon=True).start()

    with meeting(3, guests) as first:
        assert first is not None and (first.rank, first.size, len(first.lines)) == (0, 3, 2)
        for line, rank in zip(first.lines, (1, 2), strict=True):
            while rank not in found:
                held.wait(0.01)
            other = found[rank]
            assert other is not None and line.getpeername() == other.lines[0].getsockname()
        held.set()


def test_who_waits_in_vain_says_who_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seat, "MEET_SECONDS", 0.2)
    with pytest.raises(NotMetError, match=r"replica 1, 2 of 3 did not come within 0\.2 s"), meeting(3, lambda _: None):
        pass


def test_who_comes_too_late_finds_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    invitation = {"host": "127.0.0.1", "port": port, "secret": "00" * 32, "rank": 1}
    with (
        pytest.raises(NotMetError, match="replica 0 is not there"),
        seated(Evaluation.of("p", {}, replicas=2), invitation, lambda _: None),
    ):
        pass


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("sync", [True, False])
def test_where_there_are_certificates_nobody_listens_in_or_joins_without_one(tmp_path: Path, sync: bool) -> None:
    for authority in ("ours", "another"):
        (tmp_path / authority).mkdir()
        subprocess.run([MAKE_CERTIFICATES, tmp_path / authority], check=True, capture_output=True)

    def files(authority: str) -> tuple[str, str, str]:
        folder = tmp_path / authority / "worker"
        return str(folder / "ca.pem"), str(folder / "cert.pem"), str(folder / "key.pem")

    def secured(first: str, second: str) -> list[Seat]:
        return [replace(seat, tls=files(whose)) for seat, whose in zip(seats(2, sync), (first, second), strict=True)]

    train = sgd if sync else asynchronous_sgd
    found = together(train, 2, sync, secured("ours", "ours"))
    np.testing.assert_array_equal(found[0], found[1])
    with pytest.raises(ssl.SSLError):
        together(train, 2, sync, secured("ours", "another"))
