"""Come back from anywhere: all it takes is the scheduler's address and the name of the job."""

import os

from swarm import Client

address = os.environ.get("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:8786")
handle = Client(address).attach("valley")
state = handle.wait(progress=True)
if state.best:
    print(state.best["fitness"], state.best["params"])
print(handle.history[["generation", "source", "fitness", "x", "y"]].tail())
