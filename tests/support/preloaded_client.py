"""The process that execnet starts: it has another forked in its place, and ends with that one.

See `tests.support.preloaded`. Started without site-packages.
"""

import signal
import socket
import sys

signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other one decides what Ctrl-C does
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(f"\0{sys.argv[1]}")
    # Given away: what reads the output of the other one is to notice its end.
    socket.send_fds(connection, [b"+"], [0, 1, 2])
    connection.recv(1)
