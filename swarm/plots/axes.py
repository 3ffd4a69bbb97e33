"""How hyper-parameters are laid out along an axis: scale, ticks and labels, for whatever library draws it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from swarm.space.base import Domain
from swarm.space.domain import Choice, Integer, Real
from swarm.space.space import Space

if TYPE_CHECKING:
    import pandas as pd

_TICKS = 5
_OPTIONS = 12  # more would overlap
_FARTHEST = 1e300


@dataclass(frozen=True)
class Axis:
    """One searched hyper-parameter.

    Attributes:
        name: Its name.
        scale: ``linear`` or ``log`` for numbers, ``options`` for one of a few values.
        low: Smallest value; NaN for options.
        high: Largest value.
        options: A text for each value, in order, no two of them equal; empty for numbers.
        whole: Whether all values are whole numbers.
        ticks: Positions in [0, 1] along the axis, with the texts that belong there.
        choice: The domain, if there are options.
    """

    name: str
    scale: Literal["linear", "log", "options"]
    low: float
    high: float
    options: tuple[str, ...]
    whole: bool
    ticks: tuple[tuple[float, str], ...]
    choice: Choice | None = None

    def label(self, value: Any) -> str:
        """The text of a value, if there are options."""
        place = None if self.choice is None else self.choice.place(value)
        return str(value) if place is None else self.options[place]

    @property
    def column(self) -> str:
        """Name of its column in a table, which no other column has."""
        return f"p_{self.name}"


def axes(space: Space) -> list[Axis]:
    """The axes of all searched hyper-parameters, in order."""
    return [_axis(name, space.domains[name]) for name in space.names]


def _axis(name: str, domain: Any) -> Axis:
    if isinstance(domain, Choice):
        options = domain.labels
        every = math.ceil(len(options) / _OPTIONS)
        shown = [((i + 0.5) / len(options), options[i]) for i in range(0, len(options), every)]
        return Axis(name, "options", math.nan, math.nan, options, False, tuple(shown), domain)
    scale: Literal["linear", "log"] = "log" if domain.log else "linear"
    return Axis(
        name, scale, float(domain.low), float(domain.high), (), isinstance(domain, Integer), _ticks(domain, scale)
    )


def drawable(fitness: Any) -> Any:
    """Fitness, an array or a column, as figures can draw it: the width of an axis must be a float, too."""
    return np.clip(fitness, -_FARTHEST, _FARTHEST)


def _ticks(domain: Integer | Real, scale: str) -> tuple[tuple[float, str], ...]:
    """About five round values with their positions."""
    if scale == "log":
        powers = range(math.ceil(math.log10(domain.low) - 1e-9), math.floor(math.log10(domain.high) + 1e-9) + 1)
        if len(powers) > 2:
            every = math.ceil(len(powers) / (_TICKS + 2))
            return tuple((_position(domain, 10.0**power), f"{10.0**power:g}") for power in powers[::every])
    values = [domain.decode(i / (_TICKS - 1)) for i in range(_TICKS)]
    return tuple((domain.encode(value), _short(value)) for value in dict.fromkeys(values))


def _short(value: Any) -> str:
    """A number in three digits, or in more without an exponent."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def _position(domain: Domain, value: float) -> float:
    return min(1.0, max(0.0, domain.encode(value)))


def columns(configurations: pd.DataFrame, axes: Sequence[Axis]) -> pd.DataFrame:
    """Values of the hyper-parameters for drawing, a column :attr:`Axis.column` each.

    Numbers are floats, NaN where a configuration is without; options are texts, empty where it is without.

    Args:
        configurations: A row per trial, as :attr:`swarm.runs.history.History.configurations`.
        axes: Of :func:`axes`.
    """
    import pandas as pd  # a second that the live pages do without

    found: dict[str, pd.Series[Any]] = {}
    for axis in axes:
        values = configurations.get(axis.name, pd.Series(math.nan, index=configurations.index))
        if axis.scale == "options":
            labels = ["" if _missing(value) else axis.label(value) for value in values]
            found[axis.column] = pd.Series(labels, index=configurations.index, dtype=object)
        else:
            found[axis.column] = values.astype(float)
    return pd.DataFrame(found, index=configurations.index)


def _missing(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)  # None may be an option
