"""What is said of an error: its reason, and the user's own lines that led to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from swarm.trial import Evaluation
from swarm.workers.evaluate import evaluate
from swarm.workers.problem import TRACEBACK_LIMIT, explain

SCRIPT = """
import json

from swarm.trial import Evaluation


def load(path):
    return json.loads(path)


def train(params, ctx):
    text = params["text"]
    found = load(text)  # the line that calls
    return found["fitness"]
"""


def below(error):
    """The lines below the reason, of an error that was raised."""
    return explain(error).partition("\n")[2]


def caught(call, *arguments):
    try:
        call(*arguments)
    except BaseException as error:
        return error.with_traceback(error.__traceback__.tb_next)
    raise AssertionError("nothing was raised")


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's own, in a folder of its own."""
    (tmp_path / "mytrain.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mytrain", raising=False)
    import mytrain

    return mytrain


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_the_users_own_lines_are_shown_with_what_stands_around_them(module, tmp_path, isolation):
    result = evaluate(cloudpickle.dumps(module.train), Evaluation.of("p", {"text": "{"}, isolation=isolation))
    assert result.reason.startswith("JSONDecodeError: ")
    lines = result.traceback.splitlines()
    assert lines[:4] == [
        f"{tmp_path}/mytrain.py, line 13, in train",
        '      12 |     text = params["text"]',
        "  >   13 |     found = load(text)  # the line that calls",
        '      14 |     return found["fitness"]',
    ]
    assert lines[4] == f"{tmp_path}/mytrain.py, line 8, in load"
    assert lines[-1].startswith("… raised in json: ")
    assert len(lines) == 4 + 3 + 1, "no line of ours, and none of the library's but the last"


def test_a_file_is_named_from_the_folder_where_the_training_runs(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert below(caught(module.train, {"text": "{"}, None)).splitlines()[4] == "mytrain.py, line 8, in load"


def test_what_is_installed_somewhere_else_is_a_library(tmp_path, monkeypatch):
    """As by pip install --target, or by a cluster's modules on PYTHONPATH."""
    target = tmp_path / "target"
    (target / "biglib").mkdir(parents=True)
    (target / "biglib" / "__init__.py").write_text("def fit():\n    raise ValueError('bad')\n")
    (target / "biglib-1.0.dist-info").mkdir()
    (target / "biglib-1.0.dist-info" / "RECORD").write_text("biglib/__init__.py,,\n")
    (target / "mine.py").write_text("import biglib\n\n\ndef train():\n    biglib.fit()\n")
    monkeypatch.syspath_prepend(target)
    import mine

    lines = below(caught(mine.train)).splitlines()
    assert lines[0] == f"{target}/mine.py, line 5, in train"
    assert lines[-1] == f"… raised in biglib: {target}/biglib/__init__.py, line 2, in fit"


def test_what_an_error_was_raised_because_of_is_shown_below_it(module):
    def wrapped():
        try:
            module.load("{")
        except ValueError as error:
            raise RuntimeError("no data") from error

    text = below(caught(wrapped))
    first, second = text.split("because of JSONDecodeError: ")
    assert "in wrapped" in first and "mytrain.py" not in first
    assert "mytrain.py, line 8, in load" in second


def test_an_error_of_another_process_shows_that_processs_lines(module):
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    def pooled():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(module.load, "{").result()

    assert 'mytrain.py", line 8, in load' in below(caught(pooled))


def test_every_part_of_a_group_is_shown(module):
    def grouped():
        raise ExceptionGroup("two", [caught(module.load, "{"), OSError("away")])

    text = below(caught(grouped))
    assert "in grouped" in text and "mytrain.py, line 8" in text and "OSError: away" in text


def test_a_file_that_does_not_parse_is_named_with_its_line(tmp_path, monkeypatch):
    (tmp_path / "unparsable.py").write_text("x = 1\ny = (\n")
    monkeypatch.syspath_prepend(tmp_path)
    error = caught(__import__, "unparsable")
    assert f"{tmp_path}/unparsable.py, line 2\n" in below(error)
    assert "  >    2 | y = (" in below(error)


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Mute(), "Mute: (what it says cannot be shown: that raised RuntimeError)"),
        (ValueError("\n  first\nsecond"), "ValueError: first"),
        (ValueError(os.fsdecode(b"caf\xe9")), "ValueError: caf\\udce9"),
        (KeyError("rate"), "KeyError: 'rate'"),
    ],
)
def test_whatever_an_error_says_of_itself_can_be_sent_as_one_line(error, reason):
    def raising():
        raise error

    text = explain(caught(raising))
    assert text.splitlines()[0] == reason
    json.dumps(text).encode()
    assert "in raising" in text


def test_the_rest_of_a_long_text_stands_below():
    text = below(ValueError("first\nsecond\nthird"))
    assert text == "ValueError: first\nsecond\nthird"


def test_endless_recursion_is_shown_in_a_few_lines():
    def deeper(depth):
        return deeper(depth + 1)

    text = below(caught(deeper, 0))
    assert len(text) <= TRACEBACK_LIMIT
    assert "more lines of yours" in text


def test_code_from_a_prompt_is_the_users_though_it_has_no_file():
    names = {"__name__": "__main__"}
    exec("def train():\n    raise ValueError('bad')\n", names)
    assert "<string>, line 2, in train" in below(caught(names["train"]))


def test_a_script_that_runs_from_standard_input_shows_its_line():
    script = (
        "from swarm.workers.problem import explain\n"
        "try:\n    open('/no/such')\nexcept OSError as error:\n    print(explain(error))\n"
    )
    root = Path(__file__).parent.parent.parent
    done = subprocess.run([sys.executable, "-"], input=script, cwd=root, capture_output=True, text=True, check=True)
    assert "<stdin>, line 3, in <module>" in done.stdout
