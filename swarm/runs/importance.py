"""How much each hyper-parameter mattered in a run: permutation importance on a random forest.

Source: Breiman, Random Forests (2001), section 10, as scikit-learn's ``permutation_importance``. A forest learns the
fitness of configurations; the importance of a hyper-parameter is how much of R² the forest loses, on trials that it has
not seen, when the values of that hyper-parameter are shuffled among them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from swarm.space.space import Space
from swarm.trial import Params

_FEWEST = 10  # configurations, below which nothing can be said
_MOST = 2000
_PARTS = 5  # of the cross-validation
_SHUFFLES = 5  # of each part
_TREES = 50
_GOOD, _FAIR = 0.6, 0.3  # R² on unseen trials


@dataclass(frozen=True)
class Importance:
    """What mattered.

    Attributes:
        table: Columns ``name``, ``importance`` (loss of R²), ``deviation`` (its standard deviation), the most important
            one first.
        r2: R² of the forest on trials that it has not seen: 1 is perfect, 0 is no better than the mean.
        configurations: Number of different configurations that it learned from.
    """

    table: pd.DataFrame
    r2: float
    configurations: int

    @property
    def confidence(self) -> str:
        """How sure that is, for people."""
        known = (
            f"The forest explains {max(0.0, self.r2):.0%} of the variance of fitness among trials that it has not seen"
        )
        known += f" ({self.configurations} different configurations)"
        enough = self.configurations >= 10 * len(self.table)
        if self.r2 >= _GOOD and enough:
            return f"{known}: the order can be trusted for the part of the space that the search has visited."
        if self.r2 >= _FAIR:
            few = "" if enough else f", and {self.configurations} are few for {len(self.table)} hyper-parameters"
            return f"{known}{few}: take the order as a hint."
        return f"{known}: too little to say what matters. More trials, or a random search, would tell."


def importance(space: Space, configurations: Iterable[Params], fitness: Iterable[float]) -> Importance | None:
    """How much each hyper-parameter mattered, or None if there are too few trials, or all are alike.

    Configurations that were tried more than once count once, with their mean fitness.

    Args:
        space: Where they come from.
        configurations: One per trial.
        fitness: One per trial, finite.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    positions = pd.DataFrame([space.encode(each) for each in configurations], columns=list(space.names))
    if positions.empty:
        return None
    values = np.array(list(fitness), dtype=float)
    values = np.ldexp(values, -int(np.frexp(np.abs(values).max())[1]))  # to ±1, exactly: squares of it are floats, too
    found = pd.Series(values)  # not a column beside hyper-parameters, of which one may be so called
    tried = found.groupby([positions[name] for name in space.names]).mean()
    if len(tried) < _FEWEST or tried.nunique() < 2:
        return None
    tried = tried.sample(min(len(tried), _MOST), random_state=0)
    x, y = tried.index.to_frame().to_numpy(), tried.to_numpy()
    predicted, losses = np.empty_like(y), []
    for seen, unseen in KFold(_PARTS, shuffle=True, random_state=0).split(x):
        forest = RandomForestRegressor(_TREES, random_state=0).fit(x[seen], y[seen])
        predicted[unseen] = forest.predict(x[unseen])
        # In units of the fitness' variance over all trials, as the few of one part may be nearly alike.
        found = permutation_importance(
            forest, x[unseen], y[unseen], scoring="neg_mean_squared_error", n_repeats=_SHUFFLES, random_state=0
        )
        losses.append(found.importances / y.var())
    lost = np.concatenate(losses, axis=1)
    table = pd.DataFrame({"name": space.names, "importance": lost.mean(axis=1), "deviation": lost.std(axis=1)})
    table = table.sort_values("importance", ascending=False, ignore_index=True)
    return Importance(table, float(1 - ((y - predicted) ** 2).mean() / y.var()), len(tried))
