"""One module a group of measures; GROUPS in their order. Each has KEYS and `measure(site)`: one round's figures."""
