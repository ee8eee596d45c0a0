"""Private servers for development and tests: nothing here is needed to run the relay."""
