"""A machine's worker: its GPUs, its slots, where it listens, what is installed."""
