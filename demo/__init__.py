"""make demo: real airports through both real daemons, with crashes on the way, judged row by row."""
