"""Why slots train nothing, in a line each, or one for all that have the same reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from swarm.dashboard.board import Shown
from swarm.plots.units import count
from swarm.store.records import State
from swarm.trial import resource

_MOST = 20  # lines
_NAMES = 4  # slots that are named


def idle_html(free: Mapping[str, str], waits: Mapping[str, str], jobs: Mapping[str, Shown]) -> str:
    """Why slots are idle, as HTML; empty if none is.

    Args:
        free: Classes of the slots that train nothing, by name of the slot.
        waits: Why some wait for their GPU, by name of the slot.
        jobs: What is searched.
    """
    own = [f"<br><b>{escape(slot)}</b> waits for its GPU: {escape(waits[slot])}" for slot in sorted(waits)]
    lines = own[:_MOST] + ([f"<br>{len(own) - _MOST} more wait for their GPUs"] if len(own) > _MOST else [])
    for kind in sorted(set(free.values())):
        slots = sorted(slot for slot, each in free.items() if each == kind and slot not in waits)
        if slots:
            named = ", ".join(slots[:_NAMES]) + (f" and {len(slots) - _NAMES} more" if len(slots) > _NAMES else "")
            lines.append(f"<br><b>{escape(named)}</b> idle: {escape(_reason(kind, jobs))}")
    return "".join(lines)


def _reason(kind: str, jobs: Mapping[str, Shown]) -> str:
    states = {name: shown.state for name, shown in jobs.items()}
    active = [name for name, state in states.items() if state.get("state") == State.ACTIVE]
    paused = [name for name, state in states.items() if state.get("state") == State.PAUSED]
    left = [name for name, state in states.items() if state.get("state") == "unattended"]
    if not active:
        if left:
            return f"{_list(left)} not attended to by anybody; start a master: swarm master"
        if paused:
            return f"{_list(paused)} paused; go on with: swarm unpause {paused[0]}"
        return "there is nothing to do; submit a job: swarm submit JOB.yaml"
    fitting = [name for name in active if _class(jobs[name]) in (kind, None)]
    if not fitting:
        return f"no job wants slots of the class {kind}; {_list(active)} trained on {_class(jobs[active[0]])}"
    return "; ".join(f"{name} {why}" for name in fitting[:_NAMES] for why in _why(states[name]))


def _why(state: Mapping[str, Any]) -> Iterator[str]:
    """Why a job that is active sends nothing more now."""
    told, planned, running, most = (state.get(name) for name in ("told", "planned", "running", "most"))
    if state.get("trouble"):
        yield str(state["trouble"])
    elif most is not None and running is not None and running >= most:
        yield f"may use {count(most, 'slot')}, and does (swarm share)"
    elif not running:
        yield "is choosing what to try next"
    elif None not in (told, planned) and int(told or 0) + int(running) >= int(planned or 0):
        yield f"has nothing more to ask for, and waits for its last {count(running, 'training')}"
    else:
        yield f"waits for {count(running, 'training')} before it asks for more"


def _class(shown: Shown) -> str | None:
    """Class of the slots that a job trains on; None while that is not known."""
    try:
        return resource(shown.job["gpus_per_training"])
    except (KeyError, TypeError, ValueError):
        return None


def _list(names: Sequence[str]) -> str:
    """Names as the beginning of a sentence."""
    shown = ", ".join(names[:_NAMES]) + (f" and {len(names) - _NAMES} more" if len(names) > _NAMES else "")
    return f"{shown} {'are' if len(names) > 1 else 'is'}"
