"""What the master does about a request: who may ask for it, and what changes then."""
