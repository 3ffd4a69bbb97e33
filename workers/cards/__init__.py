"""The machine's graphics cards, and parts of them: what their drivers say, and which of them this process may use."""
