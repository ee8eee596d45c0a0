"""Triggers of MariaDB 10.6 and newer, and of MySQL 8.0.13 and newer; `watch` is the way in."""
