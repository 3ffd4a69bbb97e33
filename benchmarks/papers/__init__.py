"""Whether it does what the papers claim."""
