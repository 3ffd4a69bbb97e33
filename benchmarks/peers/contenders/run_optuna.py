"""Optuna as its tutorial on parallelization and its FAQ say: processes that share a study through its storage.

Variants: a sampler (random or TPE) and a storage (SQLite or journal); ``retry`` has what the documentation of
``RDBStorage`` gives against dead workers (heartbeats) and ends when so many trials are complete; ``unique`` has the
FAQ's recipe against duplicated samples.
"""

from __future__ import annotations

import math
import multiprocessing
import warnings
from typing import Any

import optuna
from optuna.storages import JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from training import Task


def storage_of(task: Task) -> Any:
    if "journal" in task.variant:
        return JournalStorage(JournalFileBackend(f"{task.folder}/journal.log"))
    alive: dict[str, Any] = {}
    if "retry" in task.variant:
        alive = {"heartbeat_interval": 1, "grace_period": 2}
        alive["heartbeat_stale_trial_callback"] = RetryHeartbeatStaleTrialCallback()
    return RDBStorage(f"sqlite:///{task.folder}/optuna.db", engine_kwargs={"connect_args": {"timeout": 60}}, **alive)


def study_of(task: Task, worker: int) -> optuna.Study:
    seed = None if task.resume else 1000 * task.seed + worker  # a seed used again would suggest the same again
    sampler: Any = optuna.samplers.RandomSampler(seed)
    if "TPE" in task.variant:
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)  # as advised for distributed runs
    return optuna.create_study(storage=storage_of(task), sampler=sampler, study_name="run", load_if_exists=True)


def work(task: Task, worker: int) -> None:
    def objective(trial: optuna.Trial) -> float:
        suggest: Any = trial.suggest_int if task.whole else trial.suggest_float
        params = {name: suggest(name, low, high) for name, (low, high) in task.space.items()}
        if "unique" in task.variant:
            for earlier in reversed(trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))):
                if earlier.params == params:
                    assert earlier.value is not None
                    return earlier.value
        return task.train(params)

    study = study_of(task, worker)
    if "retry" in task.variant:
        study.optimize(objective, callbacks=[MaxTrialsCallback(task.evaluations, states=(TrialState.COMPLETE,))])
    else:
        study.optimize(objective, n_trials=math.ceil(task.evaluations / task.slots))


def main() -> None:
    task = Task.called()
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study_of(task, 0)  # it makes the tables, before others look for them
    workers = [multiprocessing.Process(target=work, args=(task, i)) for i in range(task.slots)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    study = study_of(task, 0)
    task.answer(study.best_params, study.best_value)


if __name__ == "__main__":
    main()
