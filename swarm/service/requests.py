"""What clients may ask the master for: checked here before anything else looks at it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from swarm.errors import InvalidInput
from swarm.job.fields import JobName, Requirement, own
from swarm.job.limits import check_data, check_size, shortened

Priority = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Most = Annotated[int, Field(ge=1, le=10**6)]
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
PAGE = 1000  # events
PAGE_OF_JOBS = 100
_BESIDE = 200_000  # bytes of a submission beside its specification: requirements, mostly
_NAME = 256  # characters of a user's


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Submit(_Request):
    """A new job.

    Attributes:
        spec: The job as :meth:`swarm.job.Job.to_dict` gives it.
        problem: Its pickled problem, which only workers unpickle.
        priority: Its share of its user's slots is in proportion to its priority.
        most: It never uses more slots than this.
        environment: What must be installed on the workers.
        retry_failed: Train again what has failed in the job of this name, which has ended.
    """

    method: Literal["submit"]
    spec: dict[str, Any]
    problem: bytes
    priority: Priority = 1.0
    most: Most | None = None
    environment: list[Requirement] = Field(default=[], max_length=100)
    retry_failed: bool = False


class Steer(_Request):
    """Change what becomes of a job: end it for good, let it pause or go on, or give it another share.

    Attributes:
        method: What to do. ``share`` sets ``priority`` and ``most``; ``stop`` has it ask for nothing more.
        name: Name of the job.
        priority: New priority; None leaves it.
        most: New limit of its slots, 0 for none; None leaves it.
    """

    method: Literal["cancel", "pause", "resume", "share", "stop"]
    name: JobName
    priority: Priority | None = None
    most: Annotated[int, Field(ge=0, le=10**6)] | None = None


class Enqueue(_Request):
    """Have a job try these configurations before any other.

    Attributes:
        name: Name of the job.
        configurations: Hyper-parameters by name, whole or in part.
    """

    method: Literal["enqueue"]
    name: JobName
    configurations: list[dict[str, Any]] = Field(min_length=1, max_length=10_000)


class Weigh(_Request):
    """Give a user another weight among the users.

    Attributes:
        user: Name of the user.
        weight: The share in the slots is in proportion to it.
    """

    method: Literal["weigh"]
    user: Annotated[str, Field(min_length=1, max_length=200)]
    weight: Priority


class Events(_Request):
    """A page of a job's journal, from event number ``after`` on."""

    method: Literal["events"]
    name: JobName
    after: int = Field(default=0, ge=0, lt=2**63)


class Jobs(_Request):
    """A page of the jobs that have ended, the latest first; or one of them.

    Attributes:
        name: Only this one, if it has ended.
        limit: How many at most.
        when: When the last one of the page before has ended; None for the first page.
        last: Its name.
        states: Only those that have ended so; all if there are none.
    """

    method: Literal["jobs"]
    name: JobName | None = None
    limit: int = Field(default=PAGE_OF_JOBS, ge=1, le=PAGE_OF_JOBS)
    when: Annotated[float, Field(allow_inf_nan=False)] | None = None
    last: JobName = "-"
    states: list[Literal["finished", "cancelled", "failed"]] = Field(default=[], max_length=3)


class Describe(_Request):
    """What was submitted: the job as plain data."""

    method: Literal["describe"]
    name: JobName


class Left(_Request):
    """What the training of one evaluation of a job has left: what it printed, its files, pictures within bounds."""

    method: Literal["left"]
    name: JobName
    key: Key


class Notes(_Request):
    """What people wrote on the trials of a job."""

    method: Literal["notes"]
    name: JobName


class WriteNote(_Request):
    """A note on a trial, in place of the one that it had; an empty one takes that away.

    Attributes:
        name: Name of the job.
        trial: Number of the trial.
        key: Key of its first evaluation.
        text: The note.
    """

    method: Literal["note"]
    name: JobName
    trial: int = Field(ge=0, lt=2**63)
    key: Key
    text: str


OfTrials = Left | Notes | WriteNote
Request = Submit | Steer | Enqueue | Weigh | Events | Jobs | Describe | OfTrials
_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="method")])


def parse(method: str, data: str, blob: bytes) -> Request:
    """A request as it came over the wire.

    Args:
        method: What is asked for.
        data: The arguments, JSON.
        blob: The pickled problem of a submission, else empty.

    Raises:
        InvalidInput: It is none; the text says what is wrong.
    """
    check_size(len(data) - _BESIDE, "the request")
    try:
        arguments = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"request {method[:_NAME]!r} is not JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise InvalidInput(f"a request is a mapping, not {type(arguments).__name__}")
    check_data(arguments.get("spec"))
    check_data(arguments.get("configurations"))
    try:
        return _REQUEST.validate_python({**arguments, "method": method, **({"problem": blob} if blob else {})})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        said = f"request {method[:_NAME]!r}{f', {where}' if where else ''}: {own(error) or first['msg']}"
        raise shortened(InvalidInput(said)) from None


def check_user(user: str) -> None:
    """Refuse a name that no user has, and that tables could not show.

    Raises:
        InvalidInput: It is too long, or has characters that are not printed.
    """
    if len(user) > _NAME or not user.isprintable():
        raise InvalidInput(f"a user's name has up to {_NAME} characters that can be printed, not {user[:_NAME]!r}")


def check_most(name: str, replicas: int, most: int | None) -> None:
    """Refuse a limit below which no training of the job could ever begin."""
    if most is not None and most < replicas:
        raise InvalidInput(
            f"a training of job {name!r} takes {replicas} slots, its replicas, and it may use {most}: "
            f"give --max-slots {replicas} (in Python, most={replicas}) or more, or no limit"
        )
