"""Runs Synapse's homeserver for as long as standard input is open; the arguments are its own."""

import os
import signal
import sys
import threading

from synapse.app import homeserver


def leave():
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


threading.Thread(target=leave, daemon=True).start()
homeserver.main()
