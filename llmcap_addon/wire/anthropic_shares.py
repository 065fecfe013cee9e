"""Anthropic's usage: totals, and the passes (`iterations`) that are billed one by one → Usage and shares.

Shapes as in the SDK's `Usage`, `MessageDeltaUsage` and, in the beta, `BetaIterationsUsage`. What they mean:
https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback (each attempt is billed at the rates of the
model that ran it; the totals tell the attempt that answered only), …/agents-and-tools/tool-use/advisor-tool (an
advisor's tokens are in no total) and …/build-with-claude/compaction (nor are a compaction's).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from llmcap_addon.usage import NO_TERMS, NO_USAGE, Share, Terms, Usage
from llmcap_addon.wire.counts import json_object, name, reported_count, reported_part, word
from llmcap_addon.wire.text import JsonObject

EXECUTING = frozenset({"message", "fallback_message"})
"""The passes that the totals speak of; compactions and an advisor's answers are in none."""

UNBILLED_REFUSALS = frozenset({"", "cyber", "general_harms"})
"""The categories ("" is null) whose refusals cost nothing when they come before any output; of the others, and of one
we don't know, they are billed. https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback"""

_DATE = re.compile(r"-20\d{6}")


@dataclass(frozen=True, slots=True)
class Pass:
    """One sampling of a model, as `iterations` tells it."""

    kind: str
    model: str
    """Empty where it does not say."""
    usage: Usage


class Counts:
    """The parts of a usage that are priced apart, as they come in pieces: the last number said wins.

    `input_tokens` on the wire excludes what the cache read and wrote. Writes without a lifetime are taken as an hour's
    when the request asks for an hour anywhere, which is from above.
    """

    def __init__(self, long_cache: bool) -> None:
        self._long_cache = long_cache
        self._plain = self._written = self._read = self._output = 0
        self._one_hour = self._five_minutes = 0
        self._thinking = 0

    def take(self, usage: JsonObject) -> None:
        """Take a usage object over what was said before; raises ValueError for what is no count."""
        self._plain = reported_count(usage, "input_tokens", self._plain)
        self._written = reported_count(usage, "cache_creation_input_tokens", self._written)
        self._read = reported_count(usage, "cache_read_input_tokens", self._read)
        self._output = reported_count(usage, "output_tokens", self._output)
        split = reported_part(usage, "cache_creation")
        self._one_hour = reported_count(split, "ephemeral_1h_input_tokens", self._one_hour)
        self._five_minutes = reported_count(split, "ephemeral_5m_input_tokens", self._five_minutes)
        details = reported_part(usage, "output_tokens_details")
        self._thinking = reported_count(details, "thinking_tokens", self._thinking)

    def usage(self) -> Usage:
        """Give what was said so far; where numbers contradict each other, the larger."""
        written = max(self._written, self._one_hour + self._five_minutes)
        unsplit = written - self._one_hour - self._five_minutes
        return Usage(
            input_tokens=self._plain + written + self._read,
            output_tokens=self._output,
            cache_read_tokens=self._read,
            cache_write_tokens=written,
            cache_write_1h_tokens=self._one_hour + (unsplit if self._long_cache else 0),
            # A breakdown "for observability"; output_tokens is what is billed (the SDK's OutputTokensDetails).
            reasoning_tokens=min(self._thinking, self._output),
        )


class UsageLedger:
    """A message's usage as it comes: totals from `message_start` on, cumulative, and the passes at the end."""

    def __init__(self, asked_model: str, long_cache: bool) -> None:
        self.served_model = ""
        """The model that the answer names."""
        self.declined: list[str] = []
        """Why models handed over, as `fallback` blocks tell it: the category, "" for null, "?" where none is told."""
        self.code_sessions = 0
        """Containers in which code was run; no usage tells them."""
        self._asked_model = asked_model
        self._long_cache = long_cache
        self._totals = Counts(long_cache)
        self._searches = 0
        self._passes: tuple[Pass, ...] = ()

    def take(self, usage: JsonObject) -> None:
        """Take a usage object over what was said before; raises ValueError for what is no count."""
        self._totals.take(usage)
        tools = reported_part(usage, "server_tool_use")
        self._searches = reported_count(tools, "web_search_requests", self._searches)
        if isinstance(usage.get("iterations"), list):
            self._passes = _passes(usage["iterations"], self._long_cache)

    @property
    def tells_passes(self) -> bool:
        """True once the passes are told one by one."""
        return bool(self._passes)

    @property
    def fell_back(self) -> bool:
        """True when a model other than the one asked for may have answered."""
        return bool(self.declined) or any(one.kind == "fallback_message" for one in self._passes)

    def further_models(self) -> set[str]:
        """Name the models other than the one asked for (and its answer's name) that made a pass."""
        named = {one.model for one in self._passes if one.model}
        own = {"", self._asked_model, _undated(self._asked_model)} | (set() if self.fell_back else {self.served_model})
        return {model for model in named if model not in own and _undated(model) not in own}

    def is_unclear(self) -> bool:
        """Tell whether a pass is not said to be any model's, where it may be a further one's."""
        nameless = {one.kind for one in self._passes if not one.model}
        return bool(nameless) and (self.fell_back or not nameless <= EXECUTING | {"compaction"})

    def totals(self) -> Usage:
        """Give the totals as they are said."""
        return replace(self._totals.usage(), web_search_requests=self._searches, code_sessions=self.code_sessions)

    def usage(self) -> Usage:
        """Give all that is billed so far, the passes that are in no total too."""
        parts = self._parts()
        if not parts:
            return self.totals()
        total = NO_USAGE
        for part in parts:
            total = total.plus(part.usage)
        return total

    def shares(self, named: Terms, asked_speed: str) -> tuple[Share, ...]:
        """Give the parts that are billed apart, each with its own length of prompt; empty when there is one only.

        Each pass reads a prompt of its own, so it has its own step of a price that depends on the prompt's length. A
        model that declined may have run at the speed that was asked for, whatever the one that answered ran at.
        """
        parts = self._parts()
        if len(parts) < 2 and all(not part.model for part in parts):
            return ()
        if asked_speed != "fast" or named.speed == "fast" or not self.fell_back:
            return parts
        fast = replace(named, speed="fast")
        return tuple(replace(part, terms=fast) if part.model != self.served_model else part for part in parts)

    def _parts(self) -> tuple[Share, ...]:
        """Make shares of the passes, and of what the totals hold beyond them."""
        if not self._passes:
            return ()
        shares = [Share(one.usage, self._model_of(one), NO_TERMS) for one in self._passes if not self._is_free(one)]
        executed = NO_USAGE
        for one in self._passes:
            if one.kind in EXECUTING:
                executed = executed.plus(one.usage)
        totals = self._totals.usage()
        rest = _beyond(totals, executed)
        if rest != NO_USAGE or not shares:
            shares.append(Share(rest, self.served_model if self.fell_back else ""))
        # Tools are the request's, not a pass's; and only the totals tell how much was thinking.
        last = shares[-1].usage
        thinking = min(totals.reasoning_tokens, last.output_tokens)
        last = replace(
            last,
            web_search_requests=self._searches,
            code_sessions=self.code_sessions,
            reasoning_tokens=thinking,
        )
        return (*shares[:-1], replace(shares[-1], usage=last))

    def _is_free(self, one: Pass) -> bool:
        """Tell whether a model declined before any output, for a reason that is not billed.

        Blocks tell reasons and passes tell tokens, and nothing ties one to the other: so only where no reason given is
        a billed one.
        """
        declined = one.kind == "message" and not one.usage.output_tokens and self.fell_back
        return declined and bool(self.declined) and UNBILLED_REFUSALS.issuperset(self.declined)

    def _model_of(self, one: Pass) -> str:
        """Name the model of a pass; empty for the one asked for, by whatever name the answer gives it."""
        if one.kind in EXECUTING and not self.fell_back and one.model == self.served_model:
            return ""
        own = (self._asked_model, _undated(self._asked_model))
        if one.model in own or _undated(one.model) in own:
            return self._asked_model if self.fell_back else ""
        return one.model


def _passes(iterations: object, long_cache: bool) -> tuple[Pass, ...]:
    """Read `iterations`; raises ValueError for what is no count."""
    found = []
    for item in iterations if isinstance(iterations, list) else ():
        iteration = json_object(item, "an iteration")
        counts = Counts(long_cache)
        counts.take(iteration)
        found.append(Pass(word(iteration, "type"), name(iteration, "model"), counts.usage()))
    return tuple(found)


def _beyond(totals: Usage, executed: Usage) -> Usage:
    """Give what the totals hold that no pass does, part by part: it is billed all the same."""
    written = max(0, totals.cache_write_tokens - executed.cache_write_tokens)
    read = max(0, totals.cache_read_tokens - executed.cache_read_tokens)
    plain = max(0, _plain(totals) - _plain(executed))
    return Usage(
        input_tokens=plain + written + read,
        output_tokens=max(0, totals.output_tokens - executed.output_tokens),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(written, max(0, totals.cache_write_1h_tokens - executed.cache_write_1h_tokens)),
    )


def _plain(usage: Usage) -> int:
    return usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens


def _undated(model: str) -> str:
    return _DATE.sub("", model)
