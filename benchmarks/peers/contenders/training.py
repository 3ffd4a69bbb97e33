"""What every contender of peers.py trains: a sleep, whose length and loss are functions of the parameters.

Each training writes a line when it begins and one when it ends, so that what is counted is what was trained and not
what a tool says of itself. Only the standard library: this runs in the virtual environment of each peer.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Task:
    """One run of a contender.

    Attributes:
        folder: Where it keeps what it needs to go on, and where its trainings write.
        variant: Which of the tool's methods.
        space: Lowest and highest value by name, both integers or both floats.
        slots: Trainings at a time.
        evaluations: How many trainings to ask for.
        population: Size of a generation, for a method that has one.
        seed: Seed of the search, and of where the optimum is.
        median: Median length of a training, in seconds.
        sigma: Of the logarithm of the length.
        stragglers: Share of the trainings that take ten times as long.
        resume: Whether an earlier run in the folder was cut short and is to go on.
    """

    folder: str
    variant: str
    space: Mapping[str, tuple[float, float]]
    slots: int
    evaluations: int
    population: int
    seed: int
    median: float = 0.0
    sigma: float = 0.0
    stragglers: float = 0.0
    resume: bool = False

    @classmethod
    def called(cls) -> Task:
        """The task in the file that the command line names."""
        return cls(**json.loads(Path(sys.argv[1]).read_text()))

    @property
    def whole(self) -> bool:
        """Whether the parameters are integers."""
        return all(isinstance(low, int) for low, _ in self.space.values())

    def train(self, params: Mapping[str, float]) -> float:
        """Sleep, and return the loss."""
        kind = int if self.whole else float
        values = [kind(params[name]) for name in self.space]
        name = f"{os.getpid()}-{time.time_ns()}"
        self._write(kind="begin", id=name, pid=os.getpid(), params=values)
        if self.median:
            time.sleep(self.seconds(values))
        loss = self.loss(values)
        self._write(kind="end", id=name, loss=loss)
        return loss

    def seconds(self, values: list[float]) -> float:
        """Length of a training: log-normal, with stragglers; nobody can foresee it."""
        digest = hashlib.sha256(repr(values).encode()).digest()
        z = statistics.NormalDist().inv_cdf((int.from_bytes(digest[:6], "big") + 0.5) / 2**48)
        slow = digest[6] < 256 * self.stragglers
        return self.median * math.exp(self.sigma * z) * (10 if slow else 1)

    def loss(self, values: list[float]) -> float:
        """Squared distance to an optimum that each seed puts elsewhere, in the unit cube."""
        rng = random.Random(self.seed)
        scaled = [(value - low) / (high - low) for value, (low, high) in zip(values, self.space.values(), strict=True)]
        return sum((value - rng.uniform(0.2, 0.8)) ** 2 for value in scaled)

    def answer(self, params: Mapping[str, float], loss: float) -> None:
        """Say what was found."""
        found = {"params": [float(params[name]) for name in self.space], "loss": float(loss)}
        Path(self.folder, "answer.json").write_text(json.dumps(found))

    def _write(self, **line: object) -> None:
        text = json.dumps({"time": time.time(), **line}) + "\n"
        file = os.open(Path(self.folder, "trainings"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(file, text.encode())  # one write, so that lines of several processes do not mix
        finally:
            os.close(file)
