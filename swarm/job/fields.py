"""How the fields of a job are read from what a user or a job file gives, and what is said of those that do not fit."""

from __future__ import annotations

import dataclasses
import difflib
import keyword
import operator
import re
import sys
from collections.abc import Callable, Mapping, Sized
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError

from swarm.code.expression import expression_of
from swarm.code.fingerprint import Fingerprint
from swarm.errors import InvalidInput, InvalidJob, InvalidOptimizer
from swarm.job.limits import NAME, check_parameters
from swarm.optimizers import OPTIMIZERS
from swarm.optimizers.base import EXACT, Optimizer
from swarm.optimizers.replay import Replay
from swarm.space.constraint import Constraint, Function
from swarm.space.space import Space
from swarm.trial import Criterion, Direction, resource

_METRICS = 100  # of a fitness


def space(value: Any) -> Any:
    """A search space from a job file's data, or as it is."""
    if value is None or isinstance(value, Space):
        return value
    if isinstance(value, Sized):
        check_parameters(len(value))
    return Space.parse(value)


def written(constraint: Function, names: list[str]) -> Constraint:
    """A function that is a constraint, as the expression that it is; or else by its name and a digest of its code.

    Args:
        constraint: The function.
        names: Names of all hyper-parameters.
    """
    assert constraint.function is not None
    if (found := expression_of(constraint.function, names)) is not None:
        return found
    name = constraint.text.partition(" [")[0]
    return Function(constraint.function, f"{name} [{Fingerprint(constraint.function).digest}]")


def _named(what: str) -> Callable[[str], str]:
    """What refuses a text that cannot be a name: too long, or with line breaks, control or escape characters."""

    def check(text: str) -> str:
        if not text or len(text) > NAME:
            raise InvalidJob(f"{what} has {len(text)} characters: give it 1 to {NAME}")
        if not text.isprintable():
            raise InvalidJob(f"{what} {text!r} has characters that are not printed: write it without")
        return text

    return check


MetricName = Annotated[str, AfterValidator(_named("the name of a metric"))]
"""A metric's name: one line that can be printed."""
check_problem_name = _named("the name of the problem")
ProblemName = Annotated[str, AfterValidator(check_problem_name)]
"""A problem's name, likewise."""

_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _job_name(text: str) -> str:
    if _JOB.fullmatch(text) is None:
        raise InvalidJob(
            f"name: {text[:100]!r} cannot name a job: take 1 to 100 of the letters a to z and A to Z, digits, "
            "and . _ -, with a letter or digit first"
        )
    return text


JobName = Annotated[str, AfterValidator(_job_name)]
"""A job's name, which stands in file names, URLs and tables."""
Count = Annotated[int, Field(le=EXACT)]
"""A number of things: no more than anybody counts."""


def optimizer(value: Any) -> Any:
    """An optimizer from its name, or from ``{name: …, option: …}``."""
    if isinstance(value, Optimizer):
        return value
    options = {"name": value} if isinstance(value, str) else value
    if not isinstance(options, dict) or not isinstance(options.get("name"), str):
        raise InvalidOptimizer(f"an optimizer is a name or {{name: PSO, particles: 6, …}}, not {value!r}")
    options = dict(options)
    name = options.pop("name")
    if not all(isinstance(option, str) for option in options):
        raise InvalidOptimizer(f"optimizer {name}: the names of options are texts, not {list(options)!r}")
    methods = OPTIMIZERS | {"Replay": Replay}  # which is no search, so the tests of the methods do not iterate it
    if name not in methods:
        raise InvalidOptimizer(
            f"there is no optimizer {name!r}{guess(name, OPTIMIZERS)}; there are {', '.join(OPTIMIZERS)}"
        )
    fields = dataclasses.fields(methods[name])
    known = [option.name for option in fields]
    inner = {option.name for option in fields if option.type == "Optimizer"}  # a method that composes over another
    for option in options:
        if option not in known:
            raise InvalidOptimizer(
                f"optimizer {name} has no option {option!r}{guess(option, known)}; it has {', '.join(known)}"
            )
    options |= {option: optimizer(options[option]) for option in inner & options.keys()}
    try:
        return TypeAdapter(methods[name]).validate_python(options)
    except ValidationError as error:
        raise own(error) or InvalidOptimizer(f"optimizer {name}: {first(error)}") from None


def named(value: Any) -> Any:
    """A mapping whose keys are texts, or what is no mapping."""
    for key in value if isinstance(value, dict) else ():
        if not isinstance(key, str):
            raise InvalidJob(f"unknown key {key!r}: a key is a text")
    return value


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
    _check_metrics(len(value))
    criteria = tuple(_criterion(each) for each in value)
    names = [each.metric for each in criteria]
    for i, criterion in enumerate(criteria):
        if criterion.metric in names[:i]:
            raise InvalidJob(f"fitness: {criterion.metric} is named twice, and the second time decides nothing")
        if criterion.tolerance is None and i < len(criteria) - 1:
            raise InvalidJob(f"fitness: {criterion.metric} needs a tolerance, else what follows it decides nothing")
        if criterion.tolerance is not None and not 0 < criterion.tolerance <= sys.float_info.max:
            raise InvalidJob(f"fitness: the tolerance of {criterion.metric} is above 0, not {criterion.tolerance!r}")
    return criteria


_CONSTRAINT = re.compile(r"\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
_HOLDS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


def constraints(value: Any) -> Any:
    """What metrics must be; each a sign and a number, in one spelling."""
    if not isinstance(value, dict):
        raise InvalidJob(f'constraints are bounds of metrics, {{latency_ms: "<= 20"}}, not {value!r}')
    if len(value) > _METRICS:
        raise InvalidJob(f"constraints: {len(value)} metrics, and {_METRICS} are allowed: name those that matter")
    found = {}
    for metric, wanted in value.items():
        match = _CONSTRAINT.fullmatch(wanted) if isinstance(wanted, str) else None
        if match is None:
            raise InvalidJob(f'constraints: {metric} is {wanted!r}: write <=, <, >= or > and a number, such as "<= 20"')
        found[metric] = f"{match[1]} {match[2]}"
    return found


def holds(value: float, wanted: str) -> bool:
    """Whether a number is what a constraint wants."""
    sign, number = wanted.split()
    return bool(_HOLDS[sign](value, float(number)))


def _check_metrics(count: int) -> None:
    if count > _METRICS:
        raise InvalidJob(f"fitness: {count} metrics, and {_METRICS} are allowed: name those that matter")


def _weights_or_targets(value: dict[str, Any]) -> dict[str, Any]:
    _check_metrics(len(value))
    for metric in value:
        if not isinstance(metric, str):
            raise InvalidJob(f"fitness: the name of a metric is a text, not {metric!r}")
    directions = get_args(Direction)
    named = [each in directions for each in value.values()]
    if any(named) and not (all(named) and len(named) > 1):
        raise InvalidJob(
            "fitness: either every metric has a weight, or there are two or more, and each says "
            f"{' or '.join(directions)}; not {value!r}"
        )
    for metric, weight in value.items():
        if not any(named) and not (isinstance(weight, int | float) and abs(weight) <= sys.float_info.max):
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
    import packaging.requirements

    try:
        packaging.requirements.Requirement(text)
    except packaging.requirements.InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise InvalidJob(f"requirement {text!r} is not like keras>=3.10: {reason}") from None
    return text


Requirement = Annotated[str, Field(max_length=1000), AfterValidator(_requirement)]
"""What a worker must have installed, as in a requirements file: ``keras>=3.10``, ``python==3.11.*``."""


_UNITS = {"": 1, "b": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("kmgt", 1)
    for suffix, base in (("", 1000), ("b", 1000), ("i", 1024), ("ib", 1024))
}
_LEAST = 1 << 20  # bytes of memory that anybody asks for


def gpu_memory(value: Any) -> Any:
    """Bytes of a GPU's memory from ``6GB``, ``800 MiB`` or a number of bytes."""
    if value is None:
        return None
    remedy = "write it as 6GB, 800 MiB, or in bytes"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidJob(f"gpu_memory: {value!r} is no amount of memory: {remedy}")
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:[eE]\+?\d{1,2})?)\s*([a-zA-Z]*)\s*", str(value))
    if found is None or found[2].lower() not in _UNITS:
        raise InvalidJob(f"gpu_memory: {value!r} is no amount of memory: {remedy}")
    amount = float(found[1]) * _UNITS[found[2].lower()]
    if not _LEAST <= amount <= EXACT:
        raise InvalidJob(f"gpu_memory: {value!r} is {amount:g} bytes, which no training can mean: {remedy}")
    return int(amount)


def is_url(text: str) -> bool:
    """Whether a text is an address of the web, http or https."""
    return re.match(r"https?://[^\s/]", text) is not None


def notify(value: Any) -> Any:
    """Whom to tell: a URL, or a command."""
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise InvalidJob(f"notify is a URL (https://…) or a command, as one text, not {value!r}")
    if "://" in value.split()[0] and not is_url(value):
        raise InvalidJob(f"notify: {value!r} is no address that can be posted to: write https://HOST/… or a command")
    return value


def gpus_per_training(value: float) -> float:
    """GPUs of a training, if there is such a class of slots."""
    resource(value)  # refuses what is no class of slots
    return value


def as_stored(optimizer: Any) -> Any:
    """An optimizer's plain data from a store, with what was the case before there were options that they lack."""
    name = optimizer.get("name") if isinstance(optimizer, dict) else None
    method = OPTIMIZERS.get(name) if isinstance(name, str) else None
    if method is None:
        return optimizer
    return {**method.before, **{option: as_stored(value) for option, value in optimizer.items()}}


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
    close = difflib.get_close_matches(str(word)[:NAME], list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
