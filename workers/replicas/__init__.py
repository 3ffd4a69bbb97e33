"""Several slots that train one network."""

from swarm.workers.replicas.data_parallel import ReplicaLost, Replicas

__all__ = ["ReplicaLost", "Replicas"]
