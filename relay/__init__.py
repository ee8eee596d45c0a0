"""The parts of the relay. Nothing in here opens a connection or imports connection.py, listen.py or receiver.py."""

__version__ = "0.9.0"  # of the scripts, the package and the wheel; the schema counts for itself: sql/install.sql
