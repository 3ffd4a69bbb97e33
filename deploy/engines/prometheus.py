"""Prometheus, which reads the scheduler's metrics and our alert rules."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from deploy.engines.frame import said, which
from deploy.engines.job import call, wait_until
from deploy.engines.processes import Processes, free_port
from deploy.engines.service import Ours, Served, Service

RULES = Path(__file__).parent.parent / "prometheus" / "rules.yml"


class Prometheus(Service):
    """A worker, Prometheus itself and the master are killed; Prometheus has counted all the same."""

    name: ClassVar = "prometheus"
    packages: ClassVar = {"prometheus": "prometheus", "promtool": "prometheus"}

    def version(self) -> str:
        """As it says it."""
        return f"Prometheus {said(which('prometheus'), '--version').split()[2]}"

    @contextmanager
    def served(self, folder: Path) -> Iterator[Served]:
        """The service by hand, and a Prometheus that looks at it each second."""
        call(which("promtool"), "check", "rules", RULES)
        with Processes(folder) as processes:
            ours = Ours(processes)
            address = f"127.0.0.1:{free_port()}"
            (folder / "prometheus.yml").write_text(_CONFIGURATION.format(pages=ours.pages, rules=RULES))
            options = {"config.file": folder / "prometheus.yml", "storage.tsdb.path": folder / "data"}
            words = [f"--{name}={value}" for name, value in (options | {"web.listen-address": address}).items()]
            processes.start("prometheus", which("prometheus"), *words)
            ours.scheduler()
            ours.master()
            for name in ("worker-1", "worker-2"):
                ours.worker(name)
            kills = {
                "worker": lambda: processes.restart("worker-1"),
                "Prometheus": lambda: processes.restart("prometheus"),
                "master": lambda: processes.restart("master"),
            }
            yield Served(ours.address, ours.environment("master"), kills, lambda: self._seen(address))

    def _seen(self, address: str) -> str:
        """How many trials it has counted, once it has seen that the job has ended."""
        wait_until(lambda: _value(address, 'dask_swarm_jobs{state="finished"}') == 1, "Prometheus sees the end")
        trials = _value(address, 'sum(dask_swarm_trials_total{status="ok"})')
        firing = _asked(address, "ALERTS{alertstate='firing'}")
        if firing:
            raise AssertionError(f"alerts are raised: {', '.join(each['metric']['alertname'] for each in firing)}")
        return f"Prometheus has counted {trials:g} trials, and raised no alert"


def _asked(address: str, query: str) -> list[Any]:
    """What Prometheus answers; nothing while it starts."""
    url = f"http://localhost:{address.partition(':')[2]}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return list(json.load(answer)["data"]["result"])
    except (urllib.error.URLError, ConnectionError):
        return []


def _value(address: str, query: str) -> float | None:
    found = _asked(address, query)
    return float(found[0]["value"][1]) if found else None


_CONFIGURATION = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: swarm
    static_configs: [{{targets: ["127.0.0.1:{pages}"]}}]
"""
