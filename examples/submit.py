"""Hand a job to the service and leave: this script ends, the job goes on."""

import os

from swarm import PSO, Client, Integer, Job, Real


def train(params, ctx):
    """The Rosenbrock function stands for a training; its fitness is a loss here."""
    x, y = params["x"], params["y"] / 100
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


space = {"x": Real(-2, 2, digits=3), "y": Integer(-100, 300)}
job = Job(name="valley", problem=train, space=space, optimizer=PSO(particles=8, generations=20), direction="minimize")
address = os.environ.get("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:8786")
handle = Client(address).submit(job)
print(handle.name, handle.status)
