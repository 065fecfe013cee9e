"""A program that runs the live console on its own terminal; tests drive it by the lines of a FIFO.

Each line is a command: "log TEXT" writes a log line, "print TEXT" prints, "state N" shows a state with N calls,
"crash" raises, "end" stops.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from llmcap_addon.activity import Counts
from llmcap_addon.view.screen import LiveConsole
from tests.view.scenes import BUSY


def main(fifo: str) -> None:
    """Do what the FIFO says until it ends."""
    screen = LiveConsole(sys.stdout)
    screen.start()
    state = replace(BUSY, logs=())
    with Path(fifo).open(encoding="utf-8") as commands:
        for command in commands:
            word, _, rest = command.rstrip("\n").partition(" ")
            if word == "log":
                print(rest, file=screen.log_stream())
            elif word == "print":
                print(rest)
            elif word == "state":
                state = replace(state, counts=Counts(calls=int(rest)))
            elif word == "crash":
                raise RuntimeError(rest)
            elif word == "end":
                break
            screen.refresh(state)
    screen.stop()


if __name__ == "__main__":
    main(sys.argv[1])
