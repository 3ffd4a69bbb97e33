"""How it compares with peers: other tools, and methods of other tools."""
