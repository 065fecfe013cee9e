"""BatchQuote: the worst case of many requests sent as one, which is the sum of theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmcap_addon.call import Call
from llmcap_addon.errors import PriceError
from llmcap_addon.money import Nanousd
from llmcap_addon.pricing.call_quote import CallQuote
from llmcap_addon.pricing.quote import Rung

MAX_COUNTED_BYTES = 4 * 1024 * 1024
"""Text that is tokenized to bound a batch more tightly: the tokenizer takes some two seconds for it. Beyond it the
bound by bytes stands, or a batch of the largest size (256 MB) would wait for minutes."""


@dataclass(frozen=True, slots=True)
class BatchQuote:
    """What a batch may cost, as `quote.Quote` tells it: one amount, which nothing shortens."""

    total: Nanousd
    input_tokens: int = 0
    assumed: bool = False
    output_tokens: int = 0
    """None of it can be seen or stopped: it is in the amount."""
    hidden_output_tokens: int = 0
    limited: bool = True

    def least_tokens(self, counted: int) -> int:
        """Give the count as it is: no stream is ever counted."""
        return counted

    def amount(self, output_tokens: int, input_tokens: int | None = None) -> Nanousd:  # noqa: ARG002 - as a Quote's
        """Give the whole."""
        return self.total

    def affordable_output_tokens(self, amount: Nanousd) -> int:  # noqa: ARG002 - as a Quote's
        """Give none: a batch is sent whole or not at all."""
        return 0


def batch_quote(call: Call, rung: Rung, quote_one: Callable[[Call, Rung], CallQuote]) -> BatchQuote:
    """Add up what a batch's requests may cost, each with its whole answer; raises PriceError as `quote_one` does.

    A batch of what a file holds costs what was noted when the file passed; raises PriceError when nothing was.
    """
    if not call.parts:
        if call.stored_bound is None:
            raise PriceError(f"what the requests in {call.stored!r} may cost is not known")
        return BatchQuote(call.stored_bound)
    if rung == "counted" and sum(part.content.text_bytes for part in call.parts) > MAX_COUNTED_BYTES:
        rung = "bytes"
    total = input_tokens = 0
    assumed = False
    for part in call.parts:
        quote = quote_one(part, rung)
        total += quote.amount(quote.output_tokens)
        input_tokens += quote.input_tokens
        assumed = assumed or quote.assumed
    return BatchQuote(total, input_tokens, assumed)
