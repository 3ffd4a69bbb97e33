"""A row for each GPU, with its memory and its load."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from swarm.plots.units import size

_MOST = 64  # rows
_IDENTIFIER = re.compile(r"\b((?:GPU|MIG)-[0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


def brief(slot: str) -> str:
    """The name of a slot with its GPUs abbreviated as NVIDIA's tools take them: ``host:GPU-0a1b2c3d``."""
    return _IDENTIFIER.sub(r"\1", slot)


def cards_html(cards: Sequence[tuple[str, Any]]) -> str:
    """The GPUs of the workers, as HTML; nothing where there are none.

    Args:
        cards: The machine and what its worker tells of each, as :func:`swarm.workers.cards.load.look` does.
    """
    rows = [_row(host, card) for host, card in cards[:_MOST] if isinstance(card, Mapping)]
    if not rows:
        return ""
    more = f"<p>{len(cards) - _MOST} more GPUs</p>" if len(cards) > _MOST else ""
    head = "".join(f"<th>{name}</th>" for name in ("GPU", "machine", "memory", "load"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{more}"


def _row(host: str, card: Mapping[str, Any]) -> str:
    used, total, load = (_number(card.get(name)) for name in ("used", "total", "load"))
    memory = (
        "not told" if used is None or not total else _meter(used / total, f"{size(int(used))} of {size(int(total))}")
    )
    busy = "not told" if load is None else _meter(load / 100, f"{load:.0f} %")
    name = f"{escape(str(card.get('index', '?'))[:4])} <small>{escape(str(card.get('name', ''))[:60])}</small>"
    return f"<tr><td>{name}</td><td>{escape(host)}</td><td>{memory}</td><td>{busy}</td></tr>"


def _meter(share: float, text: str) -> str:
    return f"<progress max='1' value='{min(max(share, 0.0), 1.0):.3f}'></progress> <small>{escape(text)}</small>"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
