"""Which rows of benchmarks/README.md come from which results: what was found, beside what the papers say.

To add a benchmark, write a function that yields rows from its JSON and list it here.
"""

from __future__ import annotations

from benchmarks.cost import rows as of_cost
from benchmarks.papers import rows as of_papers
from benchmarks.peers import rows as of_peers
from benchmarks.scale import rows as of_scale
from benchmarks.shared.rows import Reader

READERS: dict[str, Reader] = {
    "parallel-pso": of_papers.parallel_pso,
    "lenet4": of_papers.lenet,
    "hpo-report": of_papers.hpo_report,
    "time-to-accuracy": of_papers.time_to_accuracy,
    "recombination": of_papers.recombination,
    "pbt": of_papers.pbt,
    "dlopt": of_papers.dlopt,
    "nhop": of_papers.nhop,
    "quality": of_peers.quality,
    "answers": of_peers.answers,
    "fronts": of_peers.fronts,
    "questions": of_peers.questions,
    "real-trainings": of_peers.real_trainings,
    "overhead": of_peers.overhead,
    "peers-utilisation": of_peers.peers_utilisation,
    "peers-stragglers": of_peers.peers_stragglers,
    "peers-overhead": of_peers.peers_overhead,
    "peers-repeats": of_peers.peers_repeats,
    "peers-faults": of_peers.peers_faults,
    "scaling": of_scale.scaling,
    "speedup-sleep": of_scale.speedup_sleep,
    "speedup-start": of_scale.speedup_start,
    "async-vs-sync": of_scale.async_vs_sync,
    "scale": of_scale.scale,
    "scale-million": of_scale.scale,
    "dask-limit": of_scale.dask_limit,
    "population": of_scale.population,
    "slices": of_scale.slices,
    "one-machine": of_cost.one_machine,
    "chaos": of_scale.chaos,
    "chaos-hangs": of_scale.chaos,
    "chaos-postgres": of_scale.chaos,
    "chaos-sqlite": of_scale.chaos,
    "drain": of_scale.drain,
    "service": of_scale.service,
    "long-journals": of_scale.long_journals,
    "year": of_scale.year,
    "loop": of_scale.loop,
    "dashboard": of_scale.dashboard,
}
