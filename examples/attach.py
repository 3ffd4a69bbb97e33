"""Come back from anywhere: all it takes is the scheduler's address and the name of the job."""

from swarm import Client

handle = Client("tcp://127.0.0.1:8786").attach("valley")
state = handle.wait(progress=True)
if state.best:
    print(state.best["fitness"], state.best["params"])
print(handle.history[["generation", "source", "fitness", "x", "y"]].tail())
