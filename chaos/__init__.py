"""Faults by plan, and a referee: nothing here is needed to run the relay, and the referee shares no code with it."""
