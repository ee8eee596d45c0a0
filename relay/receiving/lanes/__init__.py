"""Several receivers of one target, each with a queue of its own; the order of a row is kept."""
