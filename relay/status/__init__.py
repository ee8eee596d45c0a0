"""What a daemon says of itself: for people on a terminal or a page, for programs, for Prometheus."""
