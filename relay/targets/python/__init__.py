"""TARGET=python: each event to a function of the user's own (docs/python.md)."""
