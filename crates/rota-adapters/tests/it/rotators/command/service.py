"""An application that keeps its users in an SQLite file: HTTP Basic, one connection a login.

Prints its port, serves until its standard input ends.
"""

import base64
import http.server
import sqlite3
import sys
import threading


def digest(salt, password):
    import hashlib

    return hashlib.sha256(f"{salt}:{password}".encode()).hexdigest()


class Login(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        user, _, password = base64.b64decode(token).decode().partition(":")
        file = sqlite3.connect(sys.argv[1], timeout=10)
        row = file.execute("SELECT salt, hash FROM users WHERE name = ? AND enabled = 1", (user,)).fetchone()
        file.close()
        accepted = kind == "Basic" and row is not None and row[1] and digest(row[0], password) == row[1]
        self.send_response(200 if accepted else 401)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Login)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
# What tests do by hand: statements, one a line, each answered with its rows.
for line in sys.stdin:
    file = sqlite3.connect(sys.argv[1], timeout=10)
    rows = file.execute(line).fetchall()
    file.commit()
    file.close()
    print(";".join(",".join(map(str, row)) for row in rows), flush=True)
