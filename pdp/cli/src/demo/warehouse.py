"""fakesnow on a free port of this machine. Writes the port to stdout, and ends when stdin does: it never outlives its parent."""

import os
import socket
import sys
import threading

import uvicorn
from fakesnow.server import app


def leave_with_parent():
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


threading.Thread(target=leave_with_parent, daemon=True).start()
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", 0))
listener.listen(128)
print(listener.getsockname()[1], flush=True)
# A kept connection that the server closes at the moment the proxy reuses it would look like a fault of the proxy.
config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=600)
uvicorn.Server(config).run(sockets=[listener])
