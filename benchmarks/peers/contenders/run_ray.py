"""Ray Tune: random search, as many trials at a time as there are slots, failed trials run again.

Actors are used again, as the documentation advises for short trials, or each trial gets a fresh one.

A run that was cut short goes on by ``Tuner.restore``.
"""

from __future__ import annotations

import os

import ray
from ray import tune
from ray.tune.search import BasicVariantGenerator
from training import Task


def main() -> None:
    task = Task.called()
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    ray.init("local", num_cpus=task.slots, include_dashboard=False, log_to_driver=False, configure_logging=False)

    def train(config: dict[str, float]) -> None:
        tune.report({"loss": task.train(config)})

    draw = (lambda low, high: tune.randint(low, high + 1)) if task.whole else tune.uniform
    trainable = tune.with_resources(train, {"cpu": 1})
    folder = f"{task.folder}/run"
    if task.resume and tune.Tuner.can_restore(folder):
        tuner = tune.Tuner.restore(folder, trainable=trainable, resume_errored=True)
    else:
        tuner = tune.Tuner(
            trainable,
            param_space={name: draw(low, high) for name, (low, high) in task.space.items()},
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                num_samples=task.evaluations,
                search_alg=BasicVariantGenerator(max_concurrent=task.slots, random_state=task.seed),
                reuse_actors="reused" in task.variant,
            ),
            run_config=tune.RunConfig(
                name="run", storage_path=task.folder, failure_config=tune.FailureConfig(max_failures=3), verbose=0
            ),
        )
    best = tuner.fit().get_best_result(metric="loss", mode="min")
    task.answer(best.config, best.metrics["loss"])


if __name__ == "__main__":
    main()
