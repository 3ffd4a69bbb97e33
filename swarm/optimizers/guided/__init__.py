"""What guides a swarm: a Gaussian process of all that is known, candidates, and what a candidate is worth."""
