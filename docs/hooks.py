"""What pages take from the program itself: a line such as ``{{ keys swarm.job.Job }}`` stands for it.

command-line             every command with its arguments and options, as typer writes them
costs, limits, growth, populations    what benchmarks/scale/dask_limit.py, scale.py and population.py have measured
keys MODULE.CLASS        the fields of a pydantic model as a table
options NAME             the options of a search method as a table
settings                 the file of settings
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import griffe
import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.cli import get_docs_for_click

import swarm.cli
from swarm.optimizers import OPTIMIZERS

ROOT = Path(__file__).parent.parent
_MARK = re.compile(r"^\{\{ ([a-z-]+)(?: ([\w.]+))? \}\}$", re.MULTILINE)
_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`(?:~?(?:[\w.]*\.)?(\w+)|([^<`]+?) ?<[^>`]+>)`")
_LITERAL = re.compile(r"::\n(?=\n)")
_ALONE = re.compile(r"^( *)::\n(?=\n)", re.MULTILINE)  # a comment in its place keeps the code below it indented
_KINDS = {str: "text", int: "whole number", float: "number", bool: "true, false", type(None): "", Any: "anything"}


def on_page_markdown(text: str, **_: Any) -> str:
    """Replace the marks of a page, before it becomes HTML."""
    return _MARK.sub(lambda mark: _WRITERS[mark[1]](*filter(None, [mark[2]])), text)


def command_line() -> str:
    """Every command."""
    group = typer.main.get_command(swarm.cli.app)
    text = get_docs_for_click(obj=group, ctx=typer.Context(group, info_name="swarm"), name="swarm")
    return text[text.index("\n## ") :]  # the page has its own heading, and its contents list the commands


def keys(path: str) -> str:
    """Fields of a pydantic model."""
    module, _, name = path.rpartition(".")
    model: type[BaseModel] = getattr(import_module(module), name)
    hints, about = typing.get_type_hints(model), _attributes(model)
    rows = [
        (key, _kind(hints[key]), _default(field.get_default(call_default_factory=True)), about[key])
        for key, field in model.model_fields.items()
    ]
    return _table("key", rows)


def options(name: str) -> str:
    """Options of a search method."""
    method = OPTIMIZERS[name]
    hints, about = typing.get_type_hints(method), _attributes(OPTIMIZERS["GA"])
    about |= {key: text for key, text in _attributes(method).items() if not text.startswith("As for GA")}
    rows = [
        (field.name, _kind(hints[field.name]), _default(_dataclass_default(field)), about[field.name])
        for field in dataclasses.fields(method)
    ]
    return _table("option", rows)


def settings() -> str:
    """The settings with their defaults."""
    return f"```yaml\n{(ROOT / 'swarm' / 'swarm.yaml').read_text(encoding='utf-8')}```"


def of(benchmark: str) -> Callable[[Callable[[dict[str, Any]], str]], Callable[[], str]]:
    """Has a writer write of the benchmark's figures, as they are in its results."""
    file = ROOT / "benchmarks" / "results" / benchmark / f"{benchmark}.json"

    def reading(write: Callable[[dict[str, Any]], str]) -> Callable[[], str]:
        unknown = "Not measured yet; the command below does it."
        return lambda: write(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else unknown

    return reading


@of("dask-limit")
def costs(result: dict[str, Any]) -> str:
    """What scheduler and master spend."""
    found = result["costs"]
    named = {
        "m": ("the master, per evaluation", "master", 1e3, "ms"),
        "n": ("the master, per evaluation and worker", "master_slope", 1e6, "µs"),
        "a": ("the scheduler, per evaluation", "scheduler", 1e3, "ms"),
        "b": ("the scheduler, per evaluation and worker", "scheduler_slope", 1e6, "µs"),
        "h": ("the scheduler, per heartbeat", "beat", 1e3, "ms"),
        "i": ("the scheduler, per second", "idle", 1e3, "ms"),
    }
    rows = [f"| {name} | {what} | {found[key] * by:.2g} {unit} |" for name, (what, key, by, unit) in named.items()]
    return "\n".join(["| | of CPU time | |", "|---|---|---|", *rows])


@of("dask-limit")
def limits(result: dict[str, Any]) -> str:
    """How many GPUs they can serve."""
    rows = [f"| {length} | {each['master']:,} | {each['scheduler']:,} |" for length, each in result["limits"].items()]
    return "\n".join(["| length of a training | master | scheduler |", "|---|---|---|", *rows])


@of("scale-million")
def growth(result: dict[str, Any]) -> str:
    """What the master and its store amount to."""
    rows = []
    for row in result["rows"]:
        early, late = row["marks"][len(row["marks"]) // 10], row["marks"][-1]
        rows.append(
            f"| {row['method']} | {row['evaluations']:,} | {row['ms']:.2f} ms | {early['mib']:.0f} → {late['mib']:.0f} "
            f"MiB | {row['store_bytes']:,.0f} bytes | {row['store_bytes'] * row['evaluations'] / 1e9:.1f} GB |"
        )
    head = ["method", "evaluations", "CPU each", "master's memory, after a tenth → at the end", "store each", "in all"]
    return "\n".join([f"| {' | '.join(head)} |", "|---|---|---|---|---|---|", *rows])


@of("population")
def populations(result: dict[str, Any]) -> str:
    """What a barrier costs."""
    rows = [
        f"| {row['method']} | {row['times']} N | {row['between_barriers']:g} | {row['longest']:.1f} | "
        f"{100 * row['busy']:.0f} % | {100 * row['expected']:.0f} % |"
        for row in result["rows"]
    ]
    return "\n".join(["| method | population | k | L | busy | expected |", "|---|---|---|---|---|---|", *rows])


_WRITERS: dict[str, Callable[..., str]] = {
    "command-line": command_line,
    "costs": costs,
    "limits": limits,
    "growth": growth,
    "populations": populations,
    "keys": keys,
    "options": options,
    "settings": settings,
}


def markdown(text: str) -> str:
    """A docstring as Markdown: without roles of Sphinx, and without the second colon before a block of code."""
    text = _ALONE.sub(r"\1<!-- -->\n", text)
    return _LITERAL.sub(":\n", _ROLE.sub(lambda role: f"`{role[1] or role[2]}`", text))


class Docstrings(griffe.Extension):
    """Has mkdocstrings read docstrings so."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """One module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def _table(head: str, rows: Sequence[tuple[str, str, str, str]]) -> str:
    lines = [f"| {head} | is | default | |", "|---|---|---|---|"]
    for name, kind, default, about in rows:
        lines.append(f"| `{name}` | {kind} | {default} | {' '.join(about.split())} |")
    return "\n".join(lines)


def _attributes(cls: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say about its attributes."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = griffe.Docstring(markdown(inspect.cleandoc(base.__doc__ or "")))
        for section in text.parse("google", warnings=False):
            if section.kind is griffe.DocstringSectionKind.attributes:
                found |= {each.name: each.description for each in section.value}
    return found


def _dataclass_default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return PydanticUndefined if field.default is dataclasses.MISSING else field.default


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "needed"
    if value is None or isinstance(value, BaseModel) or value in ({}, []):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _kind(hint: Any) -> str:
    """A type in the words of a job file."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _kind(inner[0])
    if origin is typing.Literal:
        return ", ".join(f"`{each}`" for each in inner)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(dict.fromkeys(filter(None, map(_kind, inner))))
    if hint in _KINDS:
        return _KINDS[hint]
    return "mapping" if origin is dict else "list" if origin else hint.__name__.lower()
