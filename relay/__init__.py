"""The parts of the relay. Nothing in here opens a connection or imports connection.py, listen.py or receiver.py."""
