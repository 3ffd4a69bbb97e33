"""BOHB: Hyperband whose configurations come from the model of TPE.

Source: Falkner, Klein and Hutter, BOHB: Robust and Efficient Hyperparameter Optimization at Scale, ICML 2018, and its
implementation HpBandSter, which the LeNet-5 report ran.
"""

from __future__ import annotations

from dataclasses import dataclass

from swarm.optimizers.hyperband import Hyperband
from swarm.optimizers.tpe import Guided, ModelName
from swarm.trial import Params, Trial


@dataclass(kw_only=True)
class BOHB(Guided, Hyperband):
    """Hyperband that starts its configurations where a model of those told expects good ones.

    The model is that of the largest budget which has enough results, whatever the budget that a configuration starts
    on. Since it knows what has been told when a configuration is asked for, a run depends on the sequence of calls.

    The report's run is ``BOHB(min_budget=10, max_budget=40, iterations=20)``: budgets of 13.33 and 40 epochs, 50
    configurations and 60 trials that cost 1600 epochs if each starts over (1590 in whole epochs), and 1467 if not.

    Source: Falkner, Klein and Hutter, BOHB: Robust and Efficient Hyperparameter Optimization at Scale, ICML 2018.

    Attributes:
        min_budget: Lower limit of the smallest budget, in the problem's unit of budget, such as epochs.
        max_budget: Largest budget. The budgets are ``max_budget / eta^k``, down to ``min_budget``.
        eta: Factor between budgets; about one in ``eta`` is promoted. 2 or more.
        iterations: Number of iterations in all.
        promotion: ``sync`` promotes when all of a rung are told, ``async`` as soon as a trial is good enough.
        known: A configuration that an iteration has started before is drawn ``again``, or the archive's is the
            ``answer``, as for Hyperband.
        model: ``hpbandster`` as the source has it, or ``optuna``, as for TPE.
        random_fraction: Share of the configurations that are random all the same, 0 to 1.
        good_fraction: Share of the observations that count as good, above 0 up to 0.99.
        candidates: Number of candidates that are drawn for each configuration.
        startup: Of the model ``optuna``: results on a budget, before which it does not speak for that.
        min_points: Of the model ``hpbandster``: least number of good and of bad observations; None, and the least
            allowed, is d + 1.
        bandwidth_factor: Likewise: factor on the widths of the kernels when candidates are drawn, above 0 up to 10.
        min_bandwidth: Likewise: least width of a kernel in the unit cube, above 0.

    Raises:
        InvalidOptimizer: An option is out of its range.

    Example:
        ::

            >>> from swarm import BOHB, Real, Space
            >>> optimizer = BOHB(min_budget=10, max_budget=40, iterations=20).start(Space({"x": Real(-5, 5)}), seed=7)
            >>> while not optimizer.done:
            ...     trial = optimizer.ask()
            ...     optimizer.tell(trial, (trial.params["x"] - 2) ** 2)
            >>> trial, loss = optimizer.best
            >>> trial.budget, loss < 0.01
            (40.0, True)
    """

    model: ModelName = "hpbandster"

    def _next_place(self) -> tuple[int, int] | None:
        return self._place()

    def _configuration(self, iteration: int, member: int) -> Params:
        return self._next_given() or self._proposed(iteration, member)

    def _ask(self) -> Trial | None:
        trial = super()._ask()
        if trial is not None:
            self._model.ask(trial)
        return trial

    def _tell(self, trial: Trial, loss: float) -> None:
        self._ahead = None
        super()._tell(trial, loss)
        self._model.tell(trial, loss)
