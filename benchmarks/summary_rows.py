"""Which rows of benchmarks/README.md come from which results: what was found, beside what the papers say.

To add a benchmark, write a function that yields rows from its JSON and list it here.
"""

from __future__ import annotations

import rows_of_papers
import rows_of_peers
import rows_of_scale
from rows import Reader

READERS: dict[str, Reader] = {
    "parallel-pso": rows_of_papers.parallel_pso,
    "lenet4": rows_of_papers.lenet,
    "hpo-report": rows_of_papers.hpo_report,
    "time-to-accuracy": rows_of_papers.time_to_accuracy,
    "recombination": rows_of_papers.recombination,
    "pbt": rows_of_papers.pbt,
    "dlopt": rows_of_papers.dlopt,
    "nhop": rows_of_papers.nhop,
    "quality": rows_of_peers.quality,
    "answers": rows_of_peers.answers,
    "fronts": rows_of_peers.fronts,
    "questions": rows_of_peers.questions,
    "overhead": rows_of_peers.overhead,
    "peers-utilisation": rows_of_peers.peers_utilisation,
    "peers-stragglers": rows_of_peers.peers_stragglers,
    "peers-overhead": rows_of_peers.peers_overhead,
    "peers-repeats": rows_of_peers.peers_repeats,
    "peers-faults": rows_of_peers.peers_faults,
    "scaling": rows_of_scale.scaling,
    "speedup-sleep": rows_of_scale.speedup_sleep,
    "speedup-start": rows_of_scale.speedup_start,
    "async-vs-sync": rows_of_scale.async_vs_sync,
    "scale": rows_of_scale.scale,
    "scale-million": rows_of_scale.scale,
    "dask-limit": rows_of_scale.dask_limit,
    "population": rows_of_scale.population,
    "slices": rows_of_scale.slices,
    "chaos": rows_of_scale.chaos,
    "chaos-hangs": rows_of_scale.chaos,
    "chaos-postgres": rows_of_scale.chaos,
    "chaos-sqlite": rows_of_scale.chaos,
    "drain": rows_of_scale.drain,
    "service": rows_of_scale.service,
    "long-journals": rows_of_scale.long_journals,
    "year": rows_of_scale.year,
    "loop": rows_of_scale.loop,
    "dashboard": rows_of_scale.dashboard,
}
