"""An endpoint of one's own, for packaging/try.sh: prints what it gets, says 200."""

import http.server
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    """POST only."""

    def do_POST(self) -> None:
        """Print the body on one line, answer 200."""
        sys.stdout.write(self.rfile.read(int(self.headers["Content-Length"])).decode() + "\n")
        sys.stdout.flush()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing of it."""


http.server.ThreadingHTTPServer(("127.0.0.1", 8069), Handler).serve_forever()
