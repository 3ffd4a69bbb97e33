"""What a user submits: problem, search space, optimizer and how to run them, checked before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self, Unpack

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PrivateAttr, ValidationError, model_validator

from swarm.errors import InvalidInput, InvalidJob
from swarm.job import fields as job_fields
from swarm.job import limits
from swarm.job.earlier.belonging import known_results
from swarm.job.file import read
from swarm.job.given import JobFields
from swarm.job.problem import Problem
from swarm.job.raised import Differences, is_raised
from swarm.job.rules import Prune, Stop, Then
from swarm.job.specification import comparison, contradictions, merit, reading, spaces
from swarm.job.specification.merit import Scored
from swarm.job.stored_problem import Content, StoredProblem
from swarm.manners.notebook import facts, grid
from swarm.optimizers.base import Optimizer
from swarm.optimizers.folds import Folds
from swarm.optimizers.surrogate_pso import SurrogatePSO
from swarm.space.space import Space
from swarm.trial import Criterion, Direction, Evaluation, Isolation, Params, Purpose, Trial

_ELSEWHERE = {"name", "problem", "options", "space", "constraint", "optimizer", "then"}  # in what describes a job


class Job(BaseModel, frozen=True, extra="forbid", arbitrary_types_allowed=True, protected_namespaces=()):
    """One search: what to train, where to look, how to search.

    A job is checked completely when it is made, before anything runs, and cannot be changed afterwards. What differs in
    it makes another search: the store keeps a run under the name of its job, and refuses another job of that name. Only
    limits may be raised under it: a search that has ended by its method's (``generations``, ``trials``, …), by those of
    ``stop``, or by ``time_limit`` then goes on from its end.

    Attributes:
        name: Name of the run in the store; the same name with the same job resumes, and goes on with higher limits.
        problem: A function ``train(params, ctx) -> float | dict``, a problem object, the name of a built-in problem
            (``lenet4``), or where to find one (``package.module:name``, ``train.py:train``). Or give ``command``: a
            program that trains and prints ``FoM: 0.97`` (:class:`swarm.workers.command.CommandProblem`, whose other
            arguments are ``options``).
        options: Arguments that make a problem of what ``problem`` names (built-in problems have some).
        version: Any text or number that counts for what is the same training: another version, another training. For
            what code cannot show, such as a data base that has changed.
        files: Files and folders, or patterns such as ``data/*.npz``, whose content counts likewise; relative to the
            job file, or to the current folder.
        space: Hyper-parameters by name; left out, the problem's own.
        constraint: What several hyper-parameters have to satisfy together, ``units_2 <= units_1``, or a list of such
            texts; in Python also a function of a configuration. It becomes part of the space. What it refuses is never
            tried. A function that does more than to compare only its script has: a service, and others who read the
            run, take expressions alone.
        optimizer: The method that searches. None is :class:`~swarm.optimizers.surrogate_pso.SurrogatePSO` with as many
            trials as ``stop.evaluations`` allows: 100 without it, or 10,000 if ``stop.seconds`` or ``stop.gpu_hours``
            ends the search.
        direction: Whether a larger or a smaller fitness is better; None is what the problem says, or ``maximize``. A
            ``fitness`` of your own that is one metric or weights needs it.
        fitness: What the fitness is: a metric that the training returns (``seconds`` is its wall-clock time), or
            weights of metrics, whose sum it is: ``{val_loss: 1, parameters: 1.0e-7}``; or a list of metrics, the most
            important one first: ``[{metric: val_accuracy, direction: maximize, tolerance: 0.01}, {metric: parameters,
            direction: minimize}]``. In a list the first decides, unless two trainings round to the same multiple of
            its tolerance, then the second, and so on; the last needs no tolerance. The fitness then stays within one
            tolerance of the first metric (so a ``target`` is one of it) and has its direction; ``direction`` is left
            out. Its mean over folds or repeats keeps that order only for what differs by more than the tolerance. Or
            targets that all count: ``{mae: minimize, weights: minimize}``; of two trainings the one is better that is
            not worse in any and better in one; those that none beats so are the front (``run(…).front``). ``GA`` and
            ``SurrogatePSO`` search along it, ``MuPlusLambda`` counts in how many targets one is better, ``Random`` and
            ``Grid`` do not mind, and the others follow the sum of the logarithms. What is shown as fitness is the
            first, or the training's own if it is among them. None is what the training calls fitness.
        constraints: What metrics must be for a trial to be the best: ``{latency_ms: "<= 20"}``, with ``<=``, ``<``,
            ``>=`` or ``>`` and a number. Methods take a trial that does not meet them for one that has failed.
        first: Configurations that the method tries before any of its own, in their order, and learns from: known
            networks to be bettered, ``[{units: 32, rate: 0.001}, …]``. They count as its trials. What one lacks is
            drawn at random.
        results: Earlier results that the search begins with, as knowledge: of another run ``{run: NAME, store: FILE}``,
            of a table ``{csv: FILE}`` or ``{parquet: FILE}`` (``fitness: COLUMN`` if it has another name), of Optuna
            ``{optuna: URL, study: NAME}``, or single ones ``{params: {…}, fitness: 0.9}``. They are no trials of this
            search, and nothing of it is counted as trained. They are read when the job is made, and may change later.
        seed: Seed of the search. Trainings take theirs from their evaluation key.
        isolation: ``process`` trains in a child process, which only slices of one problem share; ``thread`` is for
            functions of milliseconds: on this machine they are called in the calling process, one after another.
        time_limit: Wall-clock limit of one training in seconds.
        gpus_per_training: GPUs of the slots that train it, or one over the number of slots that share a GPU; it runs on
            workers that offer such slots.
        gpu_memory: What each GPU must have free before a training starts there: ``6GB``, ``800 MiB``, or bytes. None is
            nine tenths of what a screen and the driver leave of a GPU, or the slot's share of that. It is how trainings
            are run, not what they are, and may be changed later.
        replicas: Slots that train one network together, each on its share of every batch; they start and end together.
        sync: Whether replicas take every step together, as one training on the whole batch would, or each goes its own
            pace and gives what it has changed to a parameter server.
        deterministic: Whether TensorFlow, PyTorch and JAX are told to give equal numbers each time, also on a GPU,
            where sums are taken in any order otherwise; slower, and refused by operations that cannot. The random
            numbers of Python, NumPy, TensorFlow and PyTorch then begin with the training's seed. Its trainings are
            others than those without.
        folds: How many of the ten cross-validation folds to use.
        fold_mode: ``swarm`` runs one search per fold (the paper's protocol), ``mean`` takes the mean over folds.
        repeats: Trainings per position and fold, at different seeds; the fitness is their mean.
        archive: Answer positions that were already trained without training.
        checkpoints: Where trainings that others continue keep their checkpoints: a URL or folder that every worker
            sees, or true for a folder beside the store. None is true if the problem can continue from one.
        test: Score the best on the unseen test set at the end; None does so if the problem can.
        max_failures: The search ends as failed when so many of its first trainings have failed, all for one reason, and
            none has succeeded: a missing file, say, fails every other, too. 0 lets it go on all the same. None is 5, or
            the first generation if that is smaller. What the configuration is to blame for (``swarm.Infeasible``, a
            fitness that is no finite number, a process that died) does not count. It may be changed later.
        shared: In a service with TLS, every user may read what the job finds, and its events; otherwise its owner and
            the administrators alone.
        notify: Whom to tell at the end, and when a trial fails for the first time: a URL, which is sent a JSON object,
            or a command, which reads it from its standard input. A service tells only URLs, of hosts that its setting
            ``swarm.notify-hosts`` names. It may be changed later.
        requirements: What the workers must have installed, as in a requirements file; checked before the first training
            of a job that is submitted to a service.
        stop: When to stop early.
        then: A second search to run when this one has ended, around what it found.
        prune: When to end a single training early, by comparison with others; None trains all to their end. Leave
            it off for PSO: a particle that was judged too early misleads the swarm.

    Raises:
        InvalidInput: A field is unknown, missing, of a wrong type or out of its range, or two of them contradict each
            other: an :class:`~swarm.errors.InvalidJob`, or one of its sisters for space, optimizer and problem.

    Example:
        ::

            >>> from swarm import PSO, Integer, Job, Real
            >>> def train(params, ctx):
            ...     return -((params["rate"] - 0.1) ** 2) - params["units"]
            >>> space = {"rate": Real(1e-4, 0.3, log=True), "units": Integer(4, 64)}
            >>> job = Job(name="mine", problem=train, space=space, optimizer=PSO(particles=6), stop={"seconds": 60})
            >>> job.direction, job.stop.seconds
            ('maximize', 60.0)
            >>> Job(name="mine", problem=train, space=space, optimizer="PSSO")
            Traceback (most recent call last):
            swarm.errors.InvalidOptimizer: there is no optimizer 'PSSO' (did you mean 'PSO'?); there are ...
    """

    name: job_fields.JobName
    problem: Any
    options: dict[str, Any] = Field(default_factory=dict)
    version: str | int | Annotated[float, Field(allow_inf_nan=False)] | None = None
    files: list[str] = Field(default=[], max_length=1000)
    space: Annotated[Space | None, BeforeValidator(job_fields.space)] = None
    constraint: Any = None
    optimizer: Annotated[Optimizer, BeforeValidator(job_fields.optimizer)] = None  # type: ignore[assignment]
    direction: Direction | None = None
    fitness: Annotated[
        job_fields.MetricName
        | dict[job_fields.MetricName, float]
        | dict[job_fields.MetricName, Direction]
        | tuple[Criterion, ...]
        | None,
        BeforeValidator(job_fields.fitness),
    ] = None
    constraints: Annotated[dict[job_fields.MetricName, str], BeforeValidator(job_fields.constraints)] = {}
    first: list[dict[str, Any]] = Field(default=[], max_length=10_000)
    results: list[Any] = Field(default=[], max_length=10_000)
    seed: int = Field(default=0, ge=0, lt=2**63)
    isolation: Isolation = "process"
    time_limit: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    gpus_per_training: Annotated[float, AfterValidator(job_fields.gpus_per_training)] = 1
    gpu_memory: Annotated[int | None, BeforeValidator(job_fields.gpu_memory)] = None
    replicas: int = Field(default=1, ge=1, le=1000)
    sync: bool = True
    deterministic: bool = False
    folds: int = Field(default=1, ge=1, le=10)
    fold_mode: Literal["swarm", "mean"] = "swarm"
    repeats: job_fields.Count = Field(default=1, ge=1)
    archive: bool = True
    checkpoints: bool | str | None = None
    test: bool | None = None
    max_failures: job_fields.Count | None = Field(default=None, ge=0)
    shared: bool = False
    notify: Annotated[str | None, BeforeValidator(job_fields.notify)] = None
    requirements: list[job_fields.Requirement] = Field(default=[], max_length=100)
    stop: Stop = Stop()
    prune: Prune | None = None
    then: Annotated[Then | None, BeforeValidator(job_fields.named)] = None

    _code: Problem = PrivateAttr()

    def __init__(self, /, **data: Unpack[JobFields]) -> None:
        limits.check_data({name: value for name, value in data.items() if name not in ("problem", "options")})
        if data.get("optimizer") is None:
            data.pop("optimizer", None)
        try:
            super().__init__(**reading.with_program(reading.as_python(dict(data))))
        except ValidationError as error:
            complaint = job_fields.own(error) or InvalidJob(
                job_fields.first(error, Job, {"stop": Stop, "prune": Prune, "then": Then})
            )
            raise limits.shortened(complaint) from None
        except InvalidInput as error:
            raise limits.shortened(error) from None
        try:
            limits.check_specification(self.to_dict())
        except TypeError as error:
            raise InvalidJob(f"the job has a value that a store cannot keep: {error}") from None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        limits.check_repeats(self.folds, self.repeats)
        if self.optimizer is None:
            object.__setattr__(self, "optimizer", SurrogatePSO(trials=self.stop.trials(self.folds * self.repeats)))
        code = self.problem if isinstance(self.problem, Problem) else Problem.of(self.problem, self.options)
        code = code.with_data(self.version, self.files, Path())
        space = spaces.space_of(self.name, self.space, code, self.constraint)
        object.__setattr__(self, "first", [spaces.tried_first(space, *each) for each in enumerate(self.first)])
        contradictions.check_test(self.test, code)
        contradictions.check_isolation(
            self.isolation, time_limit=self.time_limit, prune=self.prune, deterministic=self.deterministic
        )
        contradictions.check_replicas(self.replicas, self.gpus_per_training)
        object.__setattr__(self, "direction", merit.direction_of(self.fitness, self.direction, code))
        contradictions.check_prune(self.prune, self.direction)
        object.__setattr__(self, "space", space)
        object.__setattr__(self, "checkpoints", code.resumable if self.checkpoints is None else self.checkpoints)
        if self.optimizer.inherits:
            contradictions.check_heritable(self.optimizer, code, space, self.checkpoints)
        object.__setattr__(self, "test", code.testable if self.test is None else self.test)
        self._code = code
        method = self.method()
        limits.check_method(method, space)
        method = method.start(space, seed=self.seed)  # an optimizer that refuses the space does so now
        method.give(self.first)
        limits.check_plan(method, self.repeats * (self.folds if self.fold_mode == "mean" else 1))
        contradictions.check_targets(self.targets, method, self.prune)
        contradictions.check_results(self.results, self.targets)
        if self.results:  # in place of where they are
            assert self.direction is not None
            object.__setattr__(self, "results", known_results(self.results, space, self.direction, Path()))
        if self.then is not None:
            self.following(space.decode([0.5] * space.dimensions))  # and so does the one that follows
        return self

    # --- what the search needs

    @property
    def targets(self) -> dict[str, Direction]:
        """Metrics by all of which the optimizer compares trials, with their directions; none if the fitness decides.

        The first is shown as the fitness; if the training's own is among them, that.
        """
        return merit.targets_of(self.fitness)

    @property
    def code(self) -> Problem:
        """The problem, pickled, with its name and fingerprint."""
        return self._code

    @property
    def gpus(self) -> float:
        """GPUs that one training has, with all its replicas."""
        return self.gpus_per_training * self.replicas

    @property
    def sign(self) -> int:
        """Loss = sign × fitness: optimizers minimise."""
        return 1 if self.direction == "minimize" else -1

    def losses(self, found: Scored) -> list[float]:
        """What the optimizer is told of a trial that has a fitness: one loss, or one for each target."""
        return merit.losses(found, self.targets, self.sign)

    def unmet(self, found: Scored) -> str | None:
        """The first constraint that a trial with a fitness does not meet, in words; None if it meets all."""
        return merit.unmet(found, self.targets, self.constraints)

    def start(self) -> Optimizer:
        """The optimizer, started on this job's space and seed, with what it is to try first."""
        assert self.space is not None
        started = self.method().start(self.space, seed=self.seed)
        started.give(self.first)
        return started

    def method(self, described: Mapping[str, Any] | None = None) -> Optimizer:
        """The optimizer, once or for each fold.

        Args:
            described: Another one than the job's, as its :meth:`to_dict` has it.

        Raises:
            InvalidOptimizer: That describes none.
        """
        optimizer = self.optimizer
        if described is not None:
            optimizer = job_fields.optimizer(job_fields.as_stored(described))
        if self.folds > 1 and self.fold_mode == "swarm":
            return Folds(inner=optimizer, folds=self.folds)
        return optimizer

    def evaluations(
        self,
        trial: Trial,
        purpose: Purpose = "fitness",
        parents: Sequence[str] | None = None,
        donors: Sequence[Sequence[str]] = (),
        keys: Sequence[str] | None = None,
    ) -> list[Evaluation]:
        """The evaluations of a trial: one per fold and repeat. A test score is one training per fold of the trial.

        Args:
            trial: What to train.
            purpose: ``fitness``, or ``test`` for the score on the unseen test set.
            parents: Keys of the evaluations of the trial that this one continues, in the order of this list; those
                of the trial itself to score what it has trained.
            donors: The same of each further trial that it takes networks from.
            keys: The keys that they have, if they were asked for before; None derives them.
        """
        handed_on = self.optimizer.inherits
        own = self.folds > 1 and self.fold_mode == "swarm"
        folds = [trial.fold or 0] if own or purpose == "test" else range(self.folds)
        repeats = 1 if purpose == "test" else self.repeats
        places = [(fold, repeat) for fold in folds for repeat in range(repeats)]
        continued = list(parents) if parents and self.checkpoints else [None] * len(places)
        weights = merit.weights_of(self.fitness)
        salt = "" if self.archive else f"{self.name}/{trial.id}"
        if handed_on and self.archive:
            salt = self.name  # another job's answer would leave nothing to continue from
        assert self.space is not None
        params = self.space.normalised(trial.params)
        return [
            Evaluation.of(
                self._code.fingerprint,
                params,
                budget=trial.budget,
                fold=fold,
                repeat=repeat,
                purpose=purpose,
                parent=parent,
                donors=[each[place] for each in donors],
                salt=salt,
                isolation=self.isolation,
                time_limit=self.time_limit,
                slice=handed_on,
                merit=weights,
                replicas=self.replicas,
                sync=self.sync,
                deterministic=self.deterministic,
                gpu_memory=self.gpu_memory,
                key=None if keys is None else keys[place],
            )
            for place, ((fold, repeat), parent) in enumerate(zip(places, continued[: len(places)], strict=True))
        ]

    def following(self, found: Params) -> Job:
        """The search that follows when this one has found a configuration.

        Raises:
            InvalidOptimizer, InvalidJob: What follows does not fit.
        """
        assert self.then is not None and self.space is not None
        return self.changed(
            name=f"{self.name}-then",
            space=spaces.space_around(found, self.space, self.then.search),
            checkpoints=self.checkpoints if isinstance(self.checkpoints, str) else None,
            first=[],
            results=[],
            optimizer=self.then.optimizer,
            stop=self.then.stop,
        )

    def changed(self, **changes: Any) -> Job:
        """This job without the search that follows it, and with other fields."""
        left_out = ("then", "options", "constraint")
        fields = {name: getattr(self, name) for name in type(self).model_fields if name not in left_out}
        return Job(**{**fields, "problem": self._code, **changes})

    # --- in and out

    def _repr_html_(self) -> str:
        about = {
            "job": self.name,
            "problem": self.code.name,
            "method": repr(self.optimizer),
            "goal": f"{self.direction} {self.fitness if isinstance(self.fitness, str) else 'the fitness'}",
            "seed": self.seed,
        }
        limits = self.stop.model_dump(exclude_none=True)
        about |= {"stops at": ", ".join(f"{name} {value}" for name, value in limits.items())} if limits else {}
        domains = self.space.domains if self.space else {}
        return facts(about) + grid(["hyper-parameter", "values"], domains.items())

    def to_dict(self) -> dict[str, Any]:
        """What makes this job this job, as plain data; the problem as its name and fingerprint."""
        assert self.space is not None
        data = {
            "name": self.name,
            "problem": self._code.to_dict(),
            "space": self.space.to_dict(),
            "optimizer": job_fields.plain(self.optimizer),
            **self.model_dump(exclude=_ELSEWHERE, mode="json"),
            "then": None
            if self.then is None
            else self.then.model_dump(mode="json", exclude={"optimizer"})
            | {"optimizer": job_fields.plain(self.then.optimizer)},
        }
        if not self.shared:
            del data["shared"]  # which an earlier version does not know
        return dict(json.loads(json.dumps(data)))  # as a store gives it back: tuples are lists

    @classmethod
    def from_dict(cls, data: dict[str, Any], code: bytes | Content) -> Job:
        """The job that :meth:`to_dict` described.

        Args:
            data: What it described.
            code: The pickled problem that the store kept, or what reads it when it is needed.

        Raises:
            InvalidInput: It describes none, or one that is larger than the settings of this machine allow.
        """
        given: Any = code
        reading.check_keys(data, cls.model_fields)
        limits.check_data(data.get("problem"))
        problem = StoredProblem.from_dict(data.get("problem"), given)
        try:
            return cls(**{**comparison.with_methods_as_stored(data), "problem": problem})
        except (TypeError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:  # a bug; not for all
            raise InvalidJob(
                f"the job cannot be built: {type(error).__name__}: {error}; report this as a bug"
            ) from error

    @classmethod
    def from_file(cls, path: str | Path, settings: Iterable[str] = (), **changes: Any) -> Job:
        """Read a job file (YAML or JSON). A problem in a file is found relative to the job file.

        Args:
            path: The job file.
            settings: What to set in it, such as ``optimizer.particles=12``: a key, or keys with a dot in between, and
                a value in YAML.
            **changes: Fields to replace, such as ``folds=10``; None leaves a field as the file has it.

        Raises:
            InvalidInput: The file cannot be read, or a key, a type or a value is wrong; the text says which.
        """
        path = Path(path)
        data = read(path, settings)
        data |= {name: value for name, value in changes.items() if value is not None}
        try:
            reading.check_keys(data, cls.model_fields)
            return cls(**reading.beside_file(data, path.parent))
        except InvalidInput as error:
            raise type(error)(f"{path}: {limits.shortened(error)}") from None

    def differences(self, other: dict[str, Any]) -> list[str]:
        """What differs between this job and another's :meth:`to_dict`, as readable lines."""
        found = self.compared(other)
        raised = (f"{where} is {mine!r}, was {theirs!r}" for where, (mine, theirs) in found.raised.items())
        return [*found.others, *raised]

    def compared(self, other: dict[str, Any]) -> Differences:
        """How this job differs from another's :meth:`to_dict`: in limits that are raised, and in what makes it another.

        A job whose second search began around what it found then has no limits of its own that could be raised.
        """
        assert self.direction is not None
        then = None if self.then is None else self.then.optimizer
        raised = partial(is_raised, method=self.optimizer, then=then, direction=self.direction)
        return comparison.compared(self.to_dict(), other, type(self).model_fields, raised)


def check_job(found: object, what: str) -> None:
    """See that something is a job.

    Args:
        found: What was passed.
        what: To what, such as ``run(job)``.

    Raises:
        InvalidInput: It is none; the text says how one is made.
    """
    if not isinstance(found, Job):
        path = isinstance(found, (str, Path))
        remedy = f"read it: Job.from_file({str(found)!r})" if path else "make one: Job(name=…, problem=…, space=…)"
        raise InvalidInput(f"{what} takes a Job, not {'a file name' if path else type(found).__name__}; {remedy}")
