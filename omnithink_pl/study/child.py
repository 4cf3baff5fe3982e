"""Run a command that gets SIGTERM when the process that started it dies, even of SIGKILL.

    python child.py <number of that process> <program> <arguments>...

Called by path and with ``-I -S``, so that it costs 20 ms; imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2), Linux


def main() -> None:
    """Ask the kernel for a SIGTERM on the parent's death, then become the command."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(sys.argv[1]):  # the parent died before the kernel was asked
            sys.exit(1)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
