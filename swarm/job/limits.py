"""How large a job may be: each count is looked at before anything is built of it, and a text that says how to go on.

The limits are settings (:class:`swarm.config.Limits`) of whoever makes the job: of a client, and of the master that
reads what a client has sent, or what a store has kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from swarm.config import limits
from swarm.errors import InvalidInput, InvalidJob, InvalidOptimizer, InvalidSpace
from swarm.optimizers.base import Optimizer
from swarm.space.domain import Choice
from swarm.space.space import Space

NAME = 200
"""Characters of the name of a hyper-parameter, a metric or a problem."""
_TEXT = 2000  # characters of an error
_COMMA = 3  # bytes of a value at least, and of what sets it apart from the next


Parts = Callable[[Any], Sequence[Any] | None]


def parts_of(value: Any) -> Sequence[Any] | None:
    """What plain data consist of; None of what is no mapping and no list."""
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, Mapping):
        return [part for pair in value.items() for part in pair]
    return list(value) if isinstance(value, set | frozenset) else None


def check_data(data: Any, what: str = "the job", parts: Parts = parts_of) -> None:
    """Refuse data that are too large or too deep, however often a part of them is named again.

    Args:
        data: Plain data. What is no mapping, list, text or number is not looked into.
        what: What they are, for the error.
        parts: What a part of them consists of, if it consists of others.

    Raises:
        InvalidJob: They are, by ``swarm.max-specification`` or ``swarm.max-depth``.
    """
    known = limits()
    left = int(known.max_specification)
    waiting: list[tuple[Sequence[Any], int]] = [([data], 0)]
    while waiting:
        level, depth = waiting.pop()
        if depth > known.max_depth + 1:
            raise InvalidJob(too_deep(what, known.max_depth))
        left -= _COMMA * len(level)
        for part in level if left >= 0 else ():
            if isinstance(part, str | bytes):
                left -= len(part)
            elif isinstance(part, int):
                left -= part.bit_length() // 4  # digits
            elif left >= 0 and (inner := parts(part)) is not None:
                waiting.append((inner, depth + 1))
        if left < 0:
            raise InvalidJob(f"{what} {_too_large(known.max_specification)}")


def too_deep(what: str, most: int) -> str:
    """What to say of data with more than so many levels."""
    return (
        f"{what} has more than {most} mappings and lists inside each other: write it flatter, or raise swarm.max-depth "
        "in the configuration, of the master, too"
    )


def check_size(size: int, what: str = "the job") -> None:
    """Refuse a specification of so many bytes, before it is read.

    Raises:
        InvalidJob: It is larger than ``swarm.max-specification``.
    """
    most = limits().max_specification
    if size > most:
        raise InvalidJob(f"{what} {_too_large(most)}")


def _too_large(most: int) -> str:
    return (
        f"has more than {most / 1e6:.3g} MB apart from its code: let the training read its data from a file, or raise "
        "swarm.max-specification in the configuration, of the master, too"
    )


def check_specification(data: Mapping[str, Any]) -> None:
    """Refuse what cannot be stored: the specification of a job, as :meth:`swarm.job.Job.to_dict` gives it.

    Raises:
        InvalidJob: It is too large, or has a number or a text that JSON does not know.
    """
    try:
        text = json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidJob("a text in the job is no Unicode (half of a surrogate pair): write it again") from None
    except ValueError:
        raise InvalidJob("a number in the job is NaN or infinite: write a finite one, or leave it out") from None
    check_size(len(text))


def check_parameters(count: int) -> None:
    """Refuse a search space of so many hyper-parameters.

    Raises:
        InvalidSpace: They are more than ``swarm.max-parameters``.
    """
    most = limits().max_parameters
    if count > most:
        raise InvalidSpace(
            f"the space has {count} hyper-parameters, and {most} are allowed: leave out what is fixed and what hardly "
            "matters, or raise swarm.max-parameters in the configuration, of the master, too"
        )


def check_space(space: Space) -> None:
    """Refuse a search space that is too large.

    Raises:
        InvalidSpace: It has too many hyper-parameters, options or values of a condition, or too long a name.
    """
    check_parameters(len(space.domains))
    most = limits().max_options
    counts = [
        *((name, "options", domain.size) for name, domain in space.domains.items() if isinstance(domain, Choice)),
        *(
            (name, f"values of {other} in its condition", len(values))
            for name, conditions in space.conditions.items()
            for other, values in conditions.items()
        ),
    ]
    for name, what, count in counts:
        if count > most:
            raise InvalidSpace(
                f"{name}: {count} {what}, and {most} are allowed: take an integer or real domain, or fewer, or raise "
                "swarm.max-options in the configuration, of the master, too"
            )
    for name in space.domains:
        if len(name) > NAME:
            raise InvalidSpace(f"{name[:20]}…: the name has {len(name)} characters, and {NAME} are allowed: shorten it")


def check_method(method: Optimizer, space: Space) -> None:
    """Refuse a method that keeps too much at a time, before it is started.

    Raises:
        InvalidOptimizer: By ``swarm.max-population`` or ``swarm.max-numbers``.
    """
    known = limits()
    for options, count in method.sizes.items():
        named = f"{type(method).__name__}: {options} makes {_count(count)}"
        if count > known.max_population:
            raise InvalidOptimizer(
                f"{named}, and {known.max_population} are allowed at a time: lower {options}, or raise "
                "swarm.max-population in the configuration, of the master, too"
            )
        if count * space.dimensions > known.max_numbers:
            raise InvalidOptimizer(
                f"{named}, each with {space.dimensions} hyper-parameters, and {known.max_numbers} numbers are allowed: "
                f"lower {options}, fix hyper-parameters, or raise swarm.max-numbers in the configuration, of the "
                "master, too"
            )


def check_repeats(folds: int, repeats: int) -> None:
    """Refuse a trial of so many trainings.

    Raises:
        InvalidJob: By ``swarm.max-repeats``.
    """
    most = limits().max_repeats
    if folds * repeats > most:
        raise InvalidJob(
            f"repeats: {_count(repeats)} for each of {folds} folds are {_count(folds * repeats)} trainings of one "
            f"trial, and {most} are allowed: lower repeats, or raise swarm.max-repeats in the configuration, of the "
            "master, too"
        )


def check_plan(method: Optimizer, each: int) -> None:
    """Refuse a started method that plans too many trials.

    Args:
        method: The method.
        each: Trainings of a trial.

    Raises:
        InvalidOptimizer: By ``swarm.max-evaluations``.
    """
    most, planned = limits().max_evaluations, method.planned
    if planned is not None and planned * each > most:
        raise InvalidOptimizer(
            f"{type(method).__name__} plans {_count(planned)} trials of {each} trainings, and {most} trainings are "
            "allowed: lower its generations, trials or points, or raise swarm.max-evaluations in the configuration, of "
            "the master, too"
        )


def _count(number: int) -> str:
    """A number for people, however large."""
    return str(number) if number < 10**18 else "more than 10^18"


def shortened(error: InvalidInput) -> InvalidInput:
    """The error, with a text that somebody can read: it may quote all that was given."""
    text = str(error)
    if len(text) <= _TEXT:
        return error
    return type(error)(f"{text[: _TEXT // 2]} … {text[-_TEXT // 2 :]}")
