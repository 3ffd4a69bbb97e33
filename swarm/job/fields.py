"""How the fields of a job are read from what a user or a job file gives, and what is said of those that do not fit."""

from __future__ import annotations

import dataclasses
import difflib
import keyword
import math
from collections.abc import Mapping
from typing import Annotated, Any, get_args

import packaging.requirements
from pydantic import AfterValidator, BaseModel, TypeAdapter, ValidationError

from swarm.errors import InvalidInput, InvalidJob, InvalidOptimizer
from swarm.optimizers import OPTIMIZERS
from swarm.optimizers.base import Optimizer
from swarm.optimizers.replay import Replay
from swarm.space.space import Space
from swarm.trial import Criterion, Direction, resource


def space(value: Any) -> Any:
    """A search space from a job file's data, or as it is."""
    return value if value is None or isinstance(value, Space) else Space.parse(value)


def optimizer(value: Any) -> Any:
    """An optimizer from its name, or from ``{name: …, option: …}``."""
    if isinstance(value, Optimizer):
        return value
    options = {"name": value} if isinstance(value, str) else value
    if not isinstance(options, dict) or not isinstance(options.get("name"), str):
        raise InvalidOptimizer(f"an optimizer is a name or {{name: PSO, particles: 6, …}}, not {value!r}")
    options = dict(options)
    name = options.pop("name")
    methods = OPTIMIZERS | {"Replay": Replay}  # which is no search, so the tests of the methods do not iterate it
    if name not in methods:
        raise InvalidOptimizer(
            f"there is no optimizer {name!r}{guess(name, OPTIMIZERS)}; there are {', '.join(OPTIMIZERS)}"
        )
    known = [option.name for option in dataclasses.fields(methods[name])]
    for option in options:
        if option not in known:
            raise InvalidOptimizer(
                f"optimizer {name} has no option {option!r}{guess(option, known)}; it has {', '.join(known)}"
            )
    for option, inner in options.items():
        if isinstance(inner, dict) and "name" in inner:  # a method that composes over another
            options[option] = optimizer(inner)
    try:
        return TypeAdapter(methods[name]).validate_python(options)
    except ValidationError as error:
        raise own(error) or InvalidOptimizer(f"optimizer {name}: {first(error)}") from None


def fitness(value: Any) -> Any:
    """What the fitness is; a list is one of criteria."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict) and value:
        return _weights_or_targets(value)
    if not isinstance(value, list | tuple) or len(value) < 2:
        raise InvalidJob(
            "fitness is a metric, weights of metrics, or a list of two or more like {metric: val_accuracy, direction: "
            f"maximize, tolerance: 0.01}}, not {value!r}"
        )
    criteria = tuple(_criterion(each) for each in value)
    names = [each.metric for each in criteria]
    for i, criterion in enumerate(criteria):
        if criterion.metric in names[:i]:
            raise InvalidJob(f"fitness: {criterion.metric} is named twice, and the second time decides nothing")
        if criterion.tolerance is None and i < len(criteria) - 1:
            raise InvalidJob(f"fitness: {criterion.metric} needs a tolerance, else what follows it decides nothing")
        if criterion.tolerance is not None and not 0 < criterion.tolerance < math.inf:
            raise InvalidJob(f"fitness: the tolerance of {criterion.metric} is above 0, not {criterion.tolerance!r}")
    return criteria


def _weights_or_targets(value: dict[str, Any]) -> dict[str, Any]:
    directions = get_args(Direction)
    named = [each in directions for each in value.values()]
    if any(named) and not (all(named) and len(named) > 1):
        raise InvalidJob(
            "fitness: either every metric has a weight, or there are two or more, and each says "
            f"{' or '.join(directions)}; not {value!r}"
        )
    for metric, weight in value.items():
        if not any(named) and not (isinstance(weight, int | float) and math.isfinite(weight)):
            raise InvalidJob(f"fitness: the weight of {metric} is a number, not {weight!r}")
    return value


def _criterion(value: Any) -> Criterion:
    known = [each.name for each in dataclasses.fields(Criterion)]
    for name in value if isinstance(value, dict) else ():
        if name not in known:
            raise InvalidJob(f"fitness: unknown key {name!r}{guess(name, known)}; known are {', '.join(known)}")
    try:
        criterion: Criterion = TypeAdapter(Criterion).validate_python(value)
    except ValidationError as error:
        raise InvalidJob(f"fitness: {first(error)} in {value!r}") from None
    return criterion


def _requirement(text: str) -> str:
    try:
        packaging.requirements.Requirement(text)
    except packaging.requirements.InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise InvalidJob(f"requirement {text!r} is not like keras>=3.10: {reason}") from None
    return text


Requirement = Annotated[str, AfterValidator(_requirement)]
"""What a worker must have installed, as in a requirements file: ``keras>=3.10``, ``python==3.11.*``."""


def gpus_per_training(value: float) -> float:
    """GPUs of a training, if there is such a class of slots."""
    resource(value)  # refuses what is no class of slots
    return value


def plain(optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer as :func:`optimizer` reads it."""
    options = {field.name: getattr(optimizer, field.name) for field in dataclasses.fields(optimizer)}
    nested = {name: plain(value) if isinstance(value, Optimizer) else value for name, value in options.items()}
    return {"name": type(optimizer).__name__, **nested}


# --- what is wrong with them, in words


def own(error: ValidationError) -> InvalidInput | None:
    """The error of ours that pydantic wrapped, if its first complaint is one."""
    cause = error.errors()[0].get("ctx", {}).get("error")
    return cause if isinstance(cause, InvalidInput) else None


def first(
    error: ValidationError, model: type[BaseModel] | None = None, parts: Mapping[str, type[BaseModel]] | None = None
) -> str:
    """The first complaint of pydantic, in one line, with a guess where a key is unknown.

    Args:
        error: What pydantic has to say.
        model: What was to be made.
        parts: What its fields are made of, by name.
    """
    complaint = error.errors()[0]
    where = ".".join(str(part) for part in complaint["loc"] if not keyword.iskeyword(str(part)))
    if complaint["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        part = (parts or {}).get(where.split(".")[0]) if "." in where else model
        known = part.model_fields if part else {}
        return f"unknown key {where!r}{guess(where.split('.')[-1], known)}; known are {', '.join(known)}"
    if complaint["type"] == "missing":
        return f"{where!r} is missing"
    got = "" if complaint["type"] == "value_error" else f", got {complaint['input']!r}"
    text = complaint["msg"].removeprefix("Value error, ")
    return f"{where}: {text}{got}" if where and complaint["type"] != "value_error" else text


def guess(word: object, known: Any) -> str:
    """A remark on the known word that was perhaps meant."""
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
