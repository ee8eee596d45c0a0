"""What the relay costs and how fast it is, beside its limit and its peers: `make bench`, docs/performance.md."""
