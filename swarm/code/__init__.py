"""Which code and data of the user's a training reaches: its identity, and what of it travels."""
