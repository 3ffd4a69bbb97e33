"""What a user tells a search beside its job: higher limits."""
