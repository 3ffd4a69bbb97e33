"""How our objects show themselves in a notebook: tables of escaped text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_LONGEST = 200  # characters of a cell


def facts(rows: Mapping[str, Any]) -> str:
    """A table of names and values, a row each."""
    cells = "".join(f"<tr><th style='text-align:left'>{_cell(name)}</th>{_data(rows[name])}</tr>" for name in rows)
    return f"<table>{cells}</table>"


def grid(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with a heading for each column."""
    head = "".join(f"<th style='text-align:left'>{_cell(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(map(_data, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def value(found: Any) -> Any:
    """A value as it is shown: a number to six digits."""
    return f"{found:.6g}" if isinstance(found, float) else found


def _data(found: Any) -> str:
    return f"<td style='text-align:left'>{_cell(found)}</td>"


def _cell(found: Any) -> str:
    text = str("" if found is None else value(found))
    return escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
