"""A schedule of hyper-parameters, trained from the start by one network."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import Any

from swarm.errors import InvalidOptimizer, InvalidSpace
from swarm.optimizers.base import Optimizer
from swarm.space.base import Domain
from swarm.trial import Trial


@dataclass(kw_only=True)
class Replay(Optimizer):
    """One slice after the other, each with its own hyper-parameters, from the checkpoint of the one before.

    What :class:`~swarm.optimizers.pbt.PBT` finds is a network and a schedule; this tells whether the schedule alone is
    worth as much. It ends early if a slice fails.

    Attributes:
        steps: What to train, in order: mappings with ``budget``, which grows, and ``params``.

    Raises:
        InvalidOptimizer: There are no steps, or the budgets do not grow; at ``start``: hyper-parameters do not belong
            to the space.
    """

    steps: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.steps, list) or not self.steps or not all(map(_is_step, self.steps)):
            raise InvalidOptimizer(
                f"{self._named('steps')} must be a list of mappings with budget above 0 and params, not {self.steps!r}"
            )
        budgets = [step["budget"] for step in self.steps]
        if any(later <= earlier for earlier, later in zip([0, *budgets], budgets, strict=False)):
            raise InvalidOptimizer(f"{self._named('steps')} must have growing budgets, not {budgets}")

    @property
    def sizes(self) -> dict[str, int]:
        """The steps."""
        return {"steps": len(self.steps)}

    @property
    def planned(self) -> int | None:
        """As many trials as there are steps."""
        return len(self.steps) if self._started else None

    @property
    def inherits(self) -> bool:
        """True: without the checkpoint of the step before it would be another training."""
        return True

    @property
    def largest_budget(self) -> float | None:
        """The budget of the last step."""
        return float(self.steps[-1]["budget"])

    def parents(self) -> set[int]:
        """The last step."""
        self._check_started()
        return set() if self._last is None else {self._last}

    def _check_room(self, number: int) -> None:
        if number:
            raise InvalidOptimizer("Replay trains one network by its schedule: it tries no other configurations")

    def _begin(self) -> None:
        self._fixed = {name: value for name, value in self._space.domains.items() if not isinstance(value, Domain)}
        try:
            for step in self.steps:
                self._space.check({**self._fixed, **step["params"]})
        except InvalidSpace as error:
            raise InvalidOptimizer(f"{self._named('steps')}: {error}") from None
        self._last: int | None = None  # id of the step that was told last
        self._failed = False

    def _exhausted(self) -> bool:
        return self._failed or self._asked == len(self.steps)

    def _ask(self) -> Trial | None:
        if self._open:
            return None
        step = self.steps[self._asked]
        params = self._space.normalised({**self._fixed, **step["params"]})
        return self._trial(params, generation=self._asked, budget=float(step["budget"]), parent=self._last)

    def _tell(self, trial: Trial, loss: float) -> None:
        self._last, self._failed = trial.id, math.isinf(loss)


def _is_step(step: Any) -> bool:
    """Whether it is a mapping with a finite budget, and params by name."""
    if not isinstance(step, dict) or {"budget", "params"} != set(step):
        return False
    budget, params = step["budget"], step["params"]
    number = isinstance(budget, int | float) and not isinstance(budget, bool) and 0 < budget <= sys.float_info.max
    return number and isinstance(params, dict) and all(isinstance(name, str) for name in params)
