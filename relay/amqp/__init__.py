"""Talking to RabbitMQ: what both halves share."""
