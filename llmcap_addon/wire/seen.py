"""Seen: how long the conversations behind earlier responses are, for requests that only name them.

`previous_response_id` stands for input that no body shows. Bounded by the model's whole context window, each turn of an
agent that sends only what is new would reserve dollars; what the provider billed for the response that it names bounds
it too. Kept in memory only, and no text of it.
"""

from __future__ import annotations

from threading import Lock

MAX_SEEN = 10_000
"""Responses remembered: the last turns of more conversations than one machine holds, in a few megabytes. The oldest is
forgotten first, and a conversation goes on from its newest."""
MAX_ID_CHARS = 200
"""OpenAI's are about 55 characters."""
TOKENS_PER_ITEM = 64
"""What may wrap an item of output when it is read again as input."""


class Seen:
    """Response → the tokens of the conversation that ends with it, from above."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[str, int]] = {}
        self._lock = Lock()
        """Large answers are read in threads."""

    def note(self, host: str, response_id: object, model: str, tokens: int, items: int) -> None:
        """Remember a response that was billed for so many tokens, input and output, with so many items of output.

        One that was billed for nothing tells nothing about its length.
        """
        if isinstance(response_id, str) and 0 < len(response_id) <= MAX_ID_CHARS and tokens > 0:
            self._keep(host, response_id, model, tokens + TOKENS_PER_ITEM * (items + 1))

    def expect(self, host: str, response_id: object, model: str) -> None:
        """Remember whose response it is that has only begun; `note` comes with a later answer."""
        if isinstance(response_id, str) and 0 < len(response_id) <= MAX_ID_CHARS:
            self._keep(host, response_id, model, 0)

    def model(self, host: str, response_id: object) -> str:
        """Name the model that was asked for a response; empty when nobody has seen it."""
        return self._known.get((host, response_id), ("", 0))[0] if isinstance(response_id, str) else ""

    def tokens(self, host: str, response_id: object, model: str) -> int | None:
        """Say how much input a response stands for; None when nobody has seen it, or another model counted it."""
        if not isinstance(response_id, str):
            return None
        known_model, tokens = self._known.get((host, response_id), ("", 0))
        return tokens if tokens and known_model == model else None

    def _keep(self, host: str, response_id: str, model: str, tokens: int) -> None:
        with self._lock:
            self._known.pop((host, response_id), None)
            self._known[host, response_id] = (model, tokens)
            if len(self._known) > MAX_SEEN:
                del self._known[next(iter(self._known))]
