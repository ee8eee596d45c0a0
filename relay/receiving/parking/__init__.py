"""The parked queue: what a person must decide, and what waits behind it."""
