"""The listening half: from relay.outbox to an exchange."""
