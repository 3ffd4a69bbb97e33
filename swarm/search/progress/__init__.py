"""The parts of what is known of a search, each of which owns its own; :mod:`swarm.search.state` joins them."""
