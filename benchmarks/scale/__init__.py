"""How it scales."""
