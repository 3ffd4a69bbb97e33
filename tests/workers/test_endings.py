"""What a training has made of its process, or of its exception, does not take back how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time

import cloudpickle
import pytest

from swarm.trial import Evaluation, Status
from swarm.workers.evaluate import evaluate
from swarm.workers.isolation import process


class WriteOnly:
    """All that Python asks of what stands in the place of ``sys.stdout``."""

    def write(self, text):
        pass


class Refusing(WriteOnly):
    def write(self, text):
        raise OSError("the disk of the log is full")

    def flush(self):
        raise KeyboardInterrupt


class Hanging(WriteOnly):
    def flush(self):
        time.sleep(600)


def stdout_without_flush():
    sys.stdout = WriteOnly()
    print("training")


def stderr_without_flush():
    sys.stderr = WriteOnly()


def streams_that_refuse():
    sys.stdout = sys.stderr = Refusing()


def stdout_closed():
    sys.stdout.close()


def streams_of_none():
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None


def descriptors_closed():
    os.close(1)
    os.close(2)


def a_flush_that_hangs():
    sys.stdout = Hanging()


def a_thread_that_stays():
    threading.Thread(target=threading.Event().wait).start()


def an_exit_handler_that_hangs():
    import atexit

    atexit.register(time.sleep, 600)


def an_environment_of_none():
    setattr(os, "environ", None)  # noqa: B010


def warnings_as_errors():
    import warnings

    warnings.simplefilter("error")


def signals_ignored():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)


def a_fork_that_returns_too():
    os.fork()


def a_fork_that_returns_first():
    pid = os.fork()
    if pid:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


MISCHIEF = [
    stdout_without_flush,
    stderr_without_flush,
    streams_that_refuse,
    stdout_closed,
    streams_of_none,
    descriptors_closed,
    a_thread_that_stays,
    an_exit_handler_that_hangs,
    an_environment_of_none,
    warnings_as_errors,
    signals_ignored,
    a_fork_that_returns_too,
    a_fork_that_returns_first,
]


def silent(mischief):
    def train(params, ctx):
        mischief()
        return 7.0

    return train


def run(problem, params=None, **options):
    return evaluate(cloudpickle.dumps(problem), Evaluation.of("p", params or {}, **options))


@pytest.mark.parametrize("mischief", MISCHIEF, ids=lambda mischief: mischief.__name__)
def test_a_training_counts_whatever_it_has_made_of_its_process(mischief):
    result = run(silent(mischief))
    assert (result.status, result.fitness, result.error) == (Status.OK, 7.0, None)


def test_a_training_counts_though_its_process_hangs_when_it_is_to_flush(monkeypatch):
    monkeypatch.setattr(process, "CLOSE_SECONDS", 0.2)
    assert run(silent(a_flush_that_hangs), time_limit=60).fitness == 7.0


def test_a_slice_that_hangs_when_it_is_to_flush_is_not_given_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "CLOSE_SECONDS", 0.2)

    def train(params, ctx):
        ctx.save({}, step=1)
        sys.stdout = Hanging()
        return {"fitness": 7.0, "pid": os.getpid()}

    pickled = cloudpickle.dumps(train)
    slices = [Evaluation.of("p", {"x": x}, budget=1, slice=True) for x in range(2)]
    results = [evaluate(pickled, each, checkpoints=str(tmp_path)) for each in slices]
    assert [result.fitness for result in results] == [7.0, 7.0]
    assert results[0].metrics["pid"] != results[1].metrics["pid"]


def test_what_a_training_prints_is_there_though_its_result_was_said_first(capfd):
    def train(params, ctx):
        sys.stdout.write("the last line, without an end")
        return 7.0

    assert run(train).fitness == 7.0
    assert "the last line, without an end" in capfd.readouterr().out


def test_a_module_that_replaces_stdout_when_it_is_prepared_can_be_forked():
    class Problem:
        def prepare(self):
            sys.stdout = WriteOnly()

        def __call__(self, params, ctx):
            return 7.0

    problem = cloudpickle.dumps(Problem())
    assert [evaluate(problem, Evaluation.of("p", {"x": x})).fitness for x in range(2)] == [7.0, 7.0]


def test_threads_report_whole_messages_and_nothing_after_the_result():
    def train(params, ctx):
        begun = threading.Event()

        def report():
            begun.set()
            with contextlib.suppress(OSError):
                while True:
                    ctx.report(loss=1.0, text_of_some_length=2.0)

        for _ in range(4):
            threading.Thread(target=report, daemon=True).start()
        begun.wait()
        return 7.0

    result = run(train)
    assert (result.fitness, result.error) == (7.0, None)
    assert {tuple(point.items()) for point in result.curve} <= {(("loss", 1.0), ("text_of_some_length", 2.0))}


class NoText(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class TextOfNone(Exception):
    def __str__(self):
        return None  # noqa: PLE0307


class TextThatInterrupts(Exception):
    def __str__(self):
        raise KeyboardInterrupt


class NoTraceback(Exception):
    @property
    def __traceback__(self):
        raise RuntimeError("no traceback")

    def with_traceback(self, traceback):
        raise RuntimeError("no traceback")


class Own(BaseException):
    pass


def many_in_one():
    error: Exception = ValueError("the innermost")
    for _ in range(2000):
        error = ExceptionGroup("a group", [error])
    return error


def of_a_long_chain():
    error = None
    for number in range(5000):
        following = ValueError(number)
        following.__context__ = error
        error = following
    return error


ERRORS = {
    "no text": (NoText, "NoText"),
    "a text of None": (TextOfNone, "TextOfNone"),
    "a text that interrupts": (TextThatInterrupts, "TextThatInterrupts"),
    "no traceback": (NoTraceback, "NoTraceback"),
    "interrupted": (KeyboardInterrupt, "KeyboardInterrupt"),
    "no Exception": (Own, "Own"),
    "a generator's end": (GeneratorExit, "GeneratorExit"),
    "a group in a group": (many_in_one, "ExceptionGroup: a group (1 sub-exception)"),
    "a long chain": (of_a_long_chain, "ValueError: 4999"),
    "a huge text": (lambda: ValueError("x" * 10_000_000), "ValueError: xxx"),
    "lone surrogates": (lambda: ValueError("\udc80"), "ValueError: \\udc80"),
    "bytes": (lambda: ValueError(b"\xff"), "ValueError: b'\\xff'"),
}


@pytest.mark.parametrize("isolation", ["process", "thread"])
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_is_said_whatever_becomes_of_its_text(kind, isolation):
    make, expected = ERRORS[kind]

    def train(params, ctx):
        raise make()

    result = run(train, isolation=isolation)
    assert result.status is Status.FAILED
    assert (result.error or "").startswith(expected)
    assert len(result.error or "") < 5000


def test_an_error_too_deep_is_said():
    def train(params, ctx):
        return train(params, ctx)

    assert (run(train).error or "").startswith("RecursionError: maximum recursion depth exceeded")


class NoNumber:
    def __float__(self):
        raise RuntimeError("no number")

    def __repr__(self):
        raise RuntimeError("no text")


class NoName:
    def __str__(self):
        raise RuntimeError("no name")


def test_metrics_that_are_none_are_left_out_and_the_fitness_counts():
    metrics = {"loss": NoNumber(), NoName(): NoNumber(), 3: 0.5, ("a", 1): 0.25, "text": "none"}

    def train(params, ctx):
        ctx.report(loss=NoNumber(), accuracy=0.5)
        return {"fitness": 7.0, **metrics}

    result = run(train)
    assert (result.fitness, result.metrics) == (7.0, {"3": 0.5, "('a', 1)": 0.25})
    assert result.curve == ({"accuracy": 0.5},)


def test_a_fitness_that_is_no_number_is_named_by_its_type_if_it_has_no_text():
    def train(params, ctx):
        return NoNumber()

    assert "a fitness of a NoNumber, which is no finite number" in (run(train).error or "")


@pytest.mark.parametrize("forked", [True, False])
def test_a_problem_that_ends_its_process_when_it_is_prepared_says_so(forked, tmp_path):
    first = tmp_path / "first"

    class Problem:
        def prepare(self):
            if not forked and not first.exists():  # a thread: not safe to fork, so that it is prepared in the child
                first.touch()
                threading.Thread(target=threading.Event().wait, daemon=True).start()
                return
            sys.exit("no such data set")

        def __call__(self, params, ctx):
            return 7.0

    result = run(Problem())
    assert (result.status, (result.error or "").split("\n")[0]) == (Status.FAILED, "SystemExit: no such data set")
