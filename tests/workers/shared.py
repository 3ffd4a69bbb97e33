"""One problem for all problems of a file of tests, so that one process imports TensorFlow for all of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cloudpickle

from swarm.trial import Evaluation
from swarm.workers.keras import KerasProblem

_PROBLEM = "the problem itself"


class Shared:
    """Trains the problem that comes with the hyper-parameters (:func:`evaluation`)."""

    preload = KerasProblem.preload

    def __call__(self, params: Any, ctx: Any) -> Any:
        problem, own = _unpacked(params)
        return problem(own, ctx)

    def test(self, params: Any, ctx: Any) -> Any:
        problem, own = _unpacked(params)
        return problem.test(own, ctx)


SHARED = cloudpickle.dumps(Shared())


def evaluation(problem: Any, params: Mapping[str, Any], *, seed: int | None = None, **options: Any) -> Evaluation:
    """What :data:`SHARED` is given to do what the problem does with ``params``, at the seed that it has by itself."""
    packed = {**params, _PROBLEM: base64.b64encode(cloudpickle.dumps(problem)).decode()}
    own = Evaluation.of("p", params, **options).seed
    return replace(Evaluation.of("p", packed, **options), seed=own if seed is None else seed)


def _unpacked(params: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    own = dict(params)
    return cloudpickle.loads(base64.b64decode(own.pop(_PROBLEM))), own
