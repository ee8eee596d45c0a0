"""The one error of the demo."""


class Failed(Exception):
    """The demo cannot end well; the text is what stands after `demo FAILED:`, on one line."""
