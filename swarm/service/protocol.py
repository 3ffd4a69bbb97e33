"""What scheduler, master and clients must agree on."""

PROTOCOL = 1  # changed when old messages would be misread
REQUESTS = "swarm-requests"  # Dask event topics
RESULTS = "swarm-results"
SETTLED = "swarm-settled"
MASTER = "swarm-master"  # common name in the master's certificate
