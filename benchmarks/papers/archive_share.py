"""How much the archive answers over the paper's 100 generations: the swarm and the spaces are real, the losses made up.

    python benchmarks/papers/archive_share.py [--quick] [--seeds 30]

Whole runs of 100 generations take GPUs. What the archive answers depends on the space, on the swarm's constants and on
how soon all particles agree; networks come in by their losses alone. So the paper's swarm (PSO.paper, six particles)
searches the spaces of SimpleNet-1 and LeNet-4 for a configuration that the seed hides, by the squared distance to it
in the unit cube, with and without noise that belongs to a configuration as the luck of a training does: of standard
deviation 0, 0.1 and 0.3, where the distances of random configurations differ by 0.2 (SimpleNet-1) to 0.3 (LeNet-4).
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.numbers import quartiles
from benchmarks.shared.pictures import panels, write
from benchmarks.shared.saving import positive, save
from benchmarks.shared.tables import print_table
from swarm import PSO, Space
from swarm.plain import canonical
from swarm.plots.charts import CYCLE
from swarm.workers.models import lenet4, simplenet1

PARTICLES, GENERATIONS = 6, 100
LOOKS = (12, 30, 100)  # generations: those of benchmarks/papers/parallel_pso.py, and the paper's
SPACES = {"SimpleNet-1": simplenet1.SPACE, "LeNet-4": lenet4.SPACE}
NOISES = (0.0, 0.1, 0.3)


def swarmed(space: Space, seed: int, noise: float, generations: int) -> tuple[np.ndarray[Any, Any], int]:
    """Share of all trials so far that the archive answers, by generation; and the last that trains anything."""
    hidden = np.random.default_rng(seed).random(len(space.names))
    swarm = PSO.paper(particles=PARTICLES, generations=generations).start(space, seed=seed)
    known: dict[str, float] = {}
    answered, last = np.zeros(generations + 1), 0
    while not swarm.done:
        trial = swarm.ask()
        assert trial is not None
        key = str(canonical(trial.params))
        if key in known:
            answered[trial.generation] += 1
        else:
            luck = int(hashlib.sha256(f"{seed} {key}".encode()).hexdigest()[:16], 16)
            distance = float(((space.encode(trial.params) - hidden) ** 2).sum())
            known[key] = distance + noise * np.random.default_rng(luck).standard_normal()
            last = trial.generation
        swarm.tell(trial, known[key])
    return np.cumsum(answered) / (PARTICLES * np.arange(1, generations + 2)), last


def measure(seeds: int, generations: int) -> list[dict[str, Any]]:
    rows = []
    for network, parameters in SPACES.items():
        space = Space.parse(parameters)
        for noise in NOISES:
            found = [swarmed(space, seed, noise, generations) for seed in range(seeds)]
            middle, low, high = quartiles([shares for shares, _ in found])
            rows.append({
                "network": network, "noise": noise, "low": low.tolist(), "median": middle.tolist(),
                "high": high.tolist(), "last": [last for _, last in found],
            })  # fmt: skip
    return rows


def show(rows: list[dict[str, Any]], generations: int) -> None:
    looks = [look for look in LOOKS if look <= generations]
    print_table(
        "share of the archive's answers by generation (medians), and the last generation with a training",
        ("network", "noise", *(f"after {look}" for look in looks), "last training"),
        (
            (row["network"], row["noise"], *(f"{100 * row['median'][look]:.0f} %" for look in looks),
             f"{np.median(row['last']):.0f}")
            for row in rows
        ),
    )  # fmt: skip


def draw(rows: list[dict[str, Any]]) -> None:
    figure, axes = panels(11, 4, columns=len(SPACES), sharey=True)
    for panel, network in zip(axes, SPACES, strict=True):
        for color, row in zip(CYCLE, (row for row in rows if row["network"] == network), strict=False):
            generations = range(len(row["median"]))
            percent = [100 * np.array(row[name]) for name in ("low", "median", "high")]
            panel.plot(generations, percent[1], color=color, label=f"noise {row['noise']:g}")
            panel.fill_between(generations, percent[0], percent[2], color=color, alpha=0.15, lw=0)
        panel.set(xlabel="generation", title=network, ylim=(0, 100))
        panel.legend(frameon=False, loc="lower right")
    axes[0].set_ylabel("trials that the archive has answered so far (%)")
    write(figure, "archive-share", "archive-share.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 seeds")
    parser.add_argument("--seeds", type=positive, default=30)
    options = parser.parse_args()
    rows = measure(3 if options.quick else options.seeds, GENERATIONS)
    show(rows, GENERATIONS)
    save("archive-share", {"quick": options.quick, "rows": rows})
    draw(rows)


if __name__ == "__main__":
    main()
