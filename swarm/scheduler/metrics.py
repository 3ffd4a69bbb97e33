"""The swarm's part of the page ``/metrics``, which Dask's scheduler serves to Prometheus beside its own metrics."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import distributed.http.scheduler.prometheus.core as dask_metrics
from distributed.http.prometheus import PrometheusCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from swarm.scheduler.slot_status import capacity
from swarm.scheduler.totals import Totals
from swarm.store.records import Source, State

if TYPE_CHECKING:
    from swarm.scheduler.plugin import Service

STATES = tuple(State)
_LIVE = tuple(state for state in State if not state.ended)

Family = GaugeMetricFamily | CounterMetricFamily


class SwarmMetrics(PrometheusCollector):  # type: ignore[misc]
    """Metrics of the jobs that the master has told of, and of the slots that the scheduler sees.

    Totals are of all jobs since the scheduler began, also of those that it has forgotten; only jobs that have not ended
    have metrics of their own, so their number stays small.

    Args:
        server: The scheduler.
    """

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self.subsystem = "swarm"

    def collect(self) -> Iterator[Family]:
        """What Prometheus reads."""
        service: Service | None = self.server.plugins.get("swarm")
        if service is None:
            return
        yield self._slots()
        yield from self._master(service)
        states = service.states()
        if isinstance(states, list):  # else no master has been there, and totals would seem to start over
            jobs = [json.loads(state) for state in states]
            yield self._states(jobs)
            yield from self._totals(service.totals)
            yield from self._live([job for job in jobs if job["state"] in _LIVE])

    def _gauge(self, name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(self.build_name(name), text, labels=labels)

    def _counter(self, name: str, text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(self.build_name(name), text, labels=labels)

    def _slots(self) -> Family:
        slots = self._gauge("slots", "Slots that workers offer", "resource", "state")
        for name, count in capacity(self.server).items():
            slots.add_metric([name, "busy"], count["busy"])
            slots.add_metric([name, "free"], max(0, count["offered"] - count["busy"]))
        return slots

    def _master(self, service: Service) -> Iterator[Family]:
        found = service.health()
        healthy = self._gauge("healthy", "1 if the master was heard of lately and its store answers, else 0")
        healthy.add_metric([], int(found["ok"]))
        connected = self._gauge("master_connected", "1 if a master is connected and was heard of lately, else 0")
        connected.add_metric([], int(found["master"] and not found["silent"]))
        standbys = self._gauge("standbys", "Masters that wait for the office")
        standbys.add_metric([], len(found["standbys"]))
        yield from (healthy, connected, standbys)
        if found["term"] is not None:
            term = self._gauge("master_term", "Number of the master's lease, which each new master increments")
            term.add_metric([], found["term"])
            yield term
        if found["store"] != "unknown":
            answers = self._gauge("store_answers", "1 if the store answers the master, else 0")
            answers.add_metric([], int(found["store"] == "answers"))
            yield answers
        if service.heard is not None:
            silent = self._gauge("master_silent_seconds", "Since the master was heard of last")
            silent.add_metric([], time.monotonic() - service.heard)
            yield silent

    def _states(self, jobs: list[dict[str, Any]]) -> Family:
        states = Counter(job["state"] for job in jobs)
        by_state = self._gauge("jobs", "Jobs by state", "state")
        for state in (*STATES, *sorted(states.keys() - set(STATES))):
            by_state.add_metric([state], states[state])
        return by_state

    def _totals(self, totals: Totals) -> Iterator[Family]:
        counts = totals.counts
        evaluations = self._counter("evaluations", "Evaluations by the source of their answer", "source")
        for source in Source:
            evaluations.add_metric([source.value], counts[source])
        trials = self._counter("trials", "Trials that were answered, by how they ended", "status")
        trials.add_metric(["ok"], counts["told"] - counts["failed"])
        trials.add_metric(["failed"], counts["failed"])
        pruned = self._counter("pruned_evaluations", "Trainings that were ended early, being hopeless")
        pruned.add_metric([], counts["pruned"])
        seconds = self._counter("trained_seconds", "Seconds of training, over all slots")
        seconds.add_metric([], counts["trained_seconds"])
        yield from (evaluations, trials, pruned, seconds)

    def _live(self, jobs: list[dict[str, Any]]) -> Iterator[Family]:
        best = self._gauge("job_best_fitness", "Best fitness so far, in the job's own direction", "job", "direction")
        running = self._gauge("job_running", "Trainings that run now", "job")
        told = self._gauge("job_told", "Trials that are answered", "job")
        troubled = self._gauge("job_troubled", "1 if something keeps the job from going on, else 0", "job")
        active = self._gauge("job_active", "1 if the job wants slots, 0 if it is paused", "job")
        for job in jobs:
            if job["best"] is not None:
                best.add_metric([job["name"], job["direction"]], job["best"]["fitness"])
            running.add_metric([job["name"]], job["running"])
            told.add_metric([job["name"]], job["told"])
            troubled.add_metric([job["name"]], int(job["trouble"] is not None))
            active.add_metric([job["name"]], int(job["state"] == State.ACTIVE))
        yield from (best, running, told, troubled, active)


def mount() -> None:
    """Have the schedulers of this process show them; once is enough, and more does no harm."""
    if SwarmMetrics not in dask_metrics.COLLECTORS:
        dask_metrics.COLLECTORS.append(SwarmMetrics)
