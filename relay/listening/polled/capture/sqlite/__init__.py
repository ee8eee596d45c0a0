"""Triggers of SQLite 3.38 and newer; `watch` is the way in."""
