"""What can have happened to a row, or is an application's own: the words of `op`."""

OPS = ("insert", "update", "delete", "truncate", "snapshot", "message", "notify")
