"""Whole: what several workers have told, put together as if one process had done it all."""

from __future__ import annotations

import logging
from dataclasses import replace

from llmcap_addon.activity import Activity, CallLine
from llmcap_addon.proxy.link import Failed, Lost, Notices, Paths, Told, Up
from llmcap_addon.unclaimed import UnclaimedPath, together
from llmcap_addon.view.console import Notice, unclaimed_notice

log = logging.getLogger("llmcap")


class Whole:
    """Calls, notices and unmetered paths of all workers; numbers tell the workers apart. On the event loop only."""

    def __init__(self, activity: Activity) -> None:
        self.up: set[int] = set()
        """Workers that take connections."""
        self.failures: dict[int, Failed] = {}
        """Why a worker could not start."""
        self._activity = activity
        self._live: dict[int, dict[str, CallLine]] = {}
        """Calls that have not ended, by worker; as many as there are."""
        self._notices: dict[int, tuple[Notice, ...]] = {}
        self._paths: dict[int, tuple[UnclaimedPath, ...]] = {}
        self._past_paths: tuple[UnclaimedPath, ...] = ()
        """What workers have seen that are gone."""

    def take(self, number: int, told: Told) -> None:
        """Take what a worker says."""
        match told:
            case CallLine():
                self._activity.update(told)
                live = self._live.setdefault(number, {})
                live.pop(told.id, None)
                if not told.ended():
                    live[told.id] = told
            case Notices(notices):
                self._notices[number] = notices
            case Paths(paths):
                self._paths[number] = paths
            case Up():
                self.up.add(number)
            case Failed():
                self.failures[number] = told
            case Lost(calls):
                log.warning("llmcap: %d calls are missing in what is shown here; the ledger has them", calls)

    def notices(self) -> tuple[Notice, ...]:
        """What the workers want on top of the console, each once."""
        told = dict.fromkeys(notice for notices in self._notices.values() for notice in notices)
        return (*told, *unclaimed_notice(together((*self._paths.values(), self._past_paths))))

    def gone(self, number: int) -> int:
        """End what a worker has left behind as the ledger does: posted in full. Gives how many calls that were."""
        self.up.discard(number)
        self._notices.pop(number, None)
        self._past_paths = together((self._past_paths, self._paths.pop(number, ())))
        left = self._live.pop(number, {})
        for line in left.values():
            self._activity.update(_expired(line))
        return len(left)


def _expired(line: CallLine) -> CallLine:
    """A dead worker's call: what it had reserved is posted; one that waited had nothing, and was never sent."""
    if line.state == "waiting":
        return replace(line, state="refused", message="LLMCap: its worker ended while it waited")
    marks = line.marks | {"expired", "estimated"}
    return replace(line, state="done", cost=max(line.cost, line.reserved), reserved=0, marks=marks)
