"""The receiving half: from a queue to a target."""
