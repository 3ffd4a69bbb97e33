"""Time series: where they come from, how they are divided without leaking the future, and windows onto them.

A series is divided in time: what a network is trained on comes first, then what it is validated on, then what it is
tested on. Windows lie within one part, and a scale is that of the training part.
"""

from __future__ import annotations

import csv
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from swarm.errors import InvalidProblem
from swarm.workers.context import Context

Array = npt.NDArray[np.float32]
Part = Literal["train", "valid", "test"]
Scale = Literal["minmax", "standard"]

PARKING = "parking-birmingham"  # a folder
PARKING_DATES = ("Datetime", "weekday", "time")


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Values of several quantities at equal steps of time.

    Attributes:
        columns: Names of the quantities.
        targets: Those whose next value is to be predicted.
        train: What networks are trained on, (n, columns).
        valid: What follows it, and they are compared on.
        test: What follows that, unseen until the end.
        low: Lowest value that a target can have.
        high: Highest.
    """

    columns: tuple[str, ...]
    targets: tuple[str, ...]
    train: Array
    valid: Array
    test: Array
    low: float
    high: float

    def windows(self, part: Part, look_back: int) -> tuple[Array, Array]:
        """Every stretch of ``look_back`` steps of a part, and the targets at the step that follows it.

        Returns:
            Arrays (n - look_back, look_back, columns) and (n - look_back, targets), of a part of n steps.

        Raises:
            InvalidProblem: There is no such part, or it is too short.
        """
        if part not in get_args(Part):
            raise InvalidProblem(f"a series has the parts {', '.join(get_args(Part))}, not {part!r}")
        values: Array = getattr(self, part)
        if len(values) <= look_back:
            raise InvalidProblem(f"the {part} part has {len(values)} steps: too few to look back {look_back}")
        stretches = np.lib.stride_tricks.sliding_window_view(values[:-1], look_back, axis=0)
        chosen = [self.columns.index(name) for name in self.targets]
        return np.ascontiguousarray(stretches.swapaxes(1, 2)), np.ascontiguousarray(values[look_back:, chosen])


def load(data: str | Mapping[str, Any]) -> Series:
    """A series, from memory if this process has loaded it before.

    Args:
        data: Name of one of :data:`SERIES`, or with options: ``{"name": "sine", "points": 100}``, and for any CSV file
            ``{"file": "sales.csv", "columns": ["sold", "weekday"], "targets": ["sold"]}``.

    Raises:
        InvalidProblem: There is no such series, or it has no such option; or a file does not hold what it should.
        FileNotFoundError: A file is not there.
    """
    options = {"name": data} if isinstance(data, str) else dict(data)
    return _loaded(json.dumps(options, sort_keys=True))


@functools.lru_cache(maxsize=4)
def _loaded(text: str) -> Series:
    options = json.loads(text)
    name = options.pop("name", "csv" if "file" in options else None)
    if name not in SERIES:
        raise InvalidProblem(f"no series {name!r}; there are {', '.join(SERIES)}")
    try:
        return SERIES[name](**options)
    except TypeError as error:
        raise InvalidProblem(f"options of the series {name}: {error}") from None


def divided(values: npt.ArrayLike, columns: Sequence[str], targets: Sequence[str], shares: Sequence[float]) -> Series:
    """A series in three parts, one after the other.

    Args:
        values: Of every column at every step, (n, columns).
        columns: Their names.
        targets: Those to predict.
        shares: What share of the steps is for training, and for validation; the rest is for the test.

    Raises:
        InvalidProblem: The shares leave a part without a step, or a target is no column.
    """
    array = np.asarray(values, dtype=np.float32)
    unknown = [name for name in targets if name not in columns]
    if unknown or not targets:
        missing = f"no column {unknown[0]!r}" if unknown else "no target"
        raise InvalidProblem(f"the series has {missing}; its columns are {', '.join(columns)}")
    train, valid = shares
    first, second = round(train * len(array)), round((train + valid) * len(array))
    if not 0 < first < second < len(array):
        raise InvalidProblem(f"shares {list(shares)} of {len(array)} steps leave a part empty: try [0.6, 0.2]")
    parts = array[:first], array[first:second], array[second:]
    chosen = array[:first, [list(columns).index(name) for name in targets]]
    return Series(tuple(columns), tuple(targets), *parts, low=float(chosen.min()), high=float(chosen.max()))


def scaled(series: Series, scale: Scale) -> Series:
    """The series with columns as they are seen from the training part, which alone says how.

    Args:
        series: As it was measured.
        scale: ``minmax`` puts the training part of a column between 0 and 1, ``standard`` gives it mean 0 and standard
            deviation 1. What follows may leave that range.

    Raises:
        InvalidProblem: There is no such scale.
    """
    if scale not in get_args(Scale):
        raise InvalidProblem(f"scale is one of {', '.join(get_args(Scale))}, not {scale!r}")
    train = series.train.astype(float)
    if scale == "minmax":
        offset, unit = train.min(axis=0), np.ptp(train, axis=0)
    else:
        offset, unit = train.mean(axis=0), train.std(axis=0)
    unit[unit == 0] = 1.0  # a column that does not change
    parts = {part: ((getattr(series, part) - offset) / unit).astype(np.float32) for part in get_args(Part)}
    targets = parts["train"][:, [series.columns.index(name) for name in series.targets]]
    return replace(series, **parts, low=float(targets.min()), high=float(targets.max()))


def _sine(
    points: int = 1000, frequency: float = 1.0, step: float = 0.1, shares: Sequence[float] = (0.6, 0.2)
) -> Series:
    """The sine of 2πft at t = 0, ``step``, 2·``step``, …: with the usual options just ten points per period."""
    return _fourier([1.0], points, frequency, step, shares)


def _fourier(
    amplitudes: Sequence[float] = (1.0, 0.5, 0.25),
    points: int = 1000,
    frequency: float = 1.0,
    step: float = 0.1,
    shares: Sequence[float] = (0.6, 0.2),
) -> Series:
    """Σ aₖ sin 2πkft over the harmonics k = 1, 2, …, as far as there are amplitudes; divided by Σ|aₖ| if above 1."""
    t = step * np.arange(points)
    waves = [a * np.sin(2 * np.pi * k * frequency * t) for k, a in enumerate(amplitudes, 1)]
    wave = np.sum(waves, axis=0) / max(1.0, float(np.abs(amplitudes).sum()))
    return replace(divided(wave[:, np.newaxis], ["value"], ["value"], shares), low=-1.0, high=1.0)


def _csv(
    file: str,
    columns: Sequence[str],
    targets: Sequence[str] | None = None,
    scale: Scale | None = "minmax",
    shares: Sequence[float] = (0.6, 0.2),
) -> Series:
    """Columns of a file, by name. The file is relative to the folder SWARM_DATA, if that is set."""
    path = Path(os.environ.get("SWARM_DATA", ""), file)
    series = divided(_columns(path, columns), columns, columns if targets is None else targets, shares)
    return series if scale is None else scaled(series, scale)


def _parking(columns: Sequence[str] | None = None, targets: Sequence[str] | None = None, valid: float = 0.2) -> Series:
    """Occupancy of car parks in Birmingham, half-hourly by day, in [0, 1]: 1,188 steps, and 200 to test.

    The two files name 28 car parks in common, which are taken unless ``columns`` names some of them; ``weekday`` and
    ``time`` (hour) can be among those. The last steps of the first file, a share of ``valid``, are for validation.
    """
    folder = Path(os.environ.get("SWARM_DATA", ""), PARKING)
    first, second = folder / "training_norm_outer_df.csv", folder / "testing_norm_outer_df.csv"
    if columns is None:
        there = _header(second)
        columns = [name for name in _header(first) if name in there and name not in PARKING_DATES]
    if targets is None:
        targets = [name for name in columns if name not in PARKING_DATES]
    before, after = _columns(first, columns), _columns(second, columns)
    share = len(before) / (len(before) + len(after))
    series = divided(np.concatenate([before, after]), columns, targets, ((1 - valid) * share, valid * share))
    return replace(series, low=0.0, high=1.0)


def _header(path: Path) -> list[str]:
    with _opened(path) as file:
        return next(csv.reader(file), [])


def _columns(path: Path, columns: Sequence[str]) -> npt.NDArray[np.float64]:
    """Columns of a CSV file, (n, columns).

    Raises:
        InvalidProblem: The file has no such column, or something else than finite numbers in it.
    """
    known = _header(path)
    for name in columns:
        if name not in known:
            raise InvalidProblem(f"{path.name} has no column {name!r}; it has {', '.join(known)}")
    with _opened(path) as file:
        try:
            values = np.array([[float(row[name]) for name in columns] for row in csv.DictReader(file)])
        except (TypeError, ValueError) as error:
            raise InvalidProblem(f"{path.name}: columns {', '.join(columns)} must be numbers: {error}") from None
    if not np.isfinite(values).all():
        raise InvalidProblem(f"{path.name}: a value of {', '.join(columns)} is not finite: mend or leave out its row")
    return values


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: its folder is what the variable SWARM_DATA names")
    return path.open(newline="", encoding="utf-8")


SERIES: dict[str, Callable[..., Series]] = {"csv": _csv, "fourier": _fourier, "parking": _parking, "sine": _sine}
"""Series by name: functions whose arguments are their options."""


def only_split(ctx: Context) -> None:
    """Refuses all folds but the first: a series is divided in time, once.

    Raises:
        InvalidProblem: It is another fold.
    """
    if ctx.fold:
        raise InvalidProblem("a series is divided in time, so there is one split and not several folds: use repeats")
