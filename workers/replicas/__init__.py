"""Several slots that train one network."""

from workers.replicas.data_parallel import ReplicaLost, Replicas

__all__ = ["ReplicaLost", "Replicas"]
