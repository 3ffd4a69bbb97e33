"""Where a search begins: points that fill the cube evenly.

Source: Sobol, USSR Comput. Math. Math. Phys. 7 (1967), with the scrambling of Matoušek, J. Complexity 14 (1998).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sobol(dimensions: int, index: int, rng: np.random.Generator) -> Array:
    """Point number ``index`` of a scrambled Sobol sequence, an array (1, d).

    Args:
        dimensions: Number d of dimensions; beyond those that have a sequence the numbers are random.
        index: Number of the point, from 0.
        rng: Random numbers of the scrambling, the same for all points of a sequence.
    """
    from scipy.stats import qmc

    d = min(dimensions, qmc.Sobol.MAXDIM)
    sequence = qmc.Sobol(d, scramble=True, rng=rng)
    if index:
        sequence.fast_forward(index)
    rest = np.random.default_rng([dimensions, index]).random((1, dimensions - d))
    return np.hstack([sequence.random(1), rest])
