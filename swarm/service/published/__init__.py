"""What the service tells of its jobs: their states, and what the pages show of each."""
