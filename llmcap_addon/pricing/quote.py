"""Quote: the most a call may cost, which is what is reserved for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from llmcap_addon.call import Call
from llmcap_addon.money import Nanousd
from llmcap_addon.usage import Share, Terms, Usage

type Rung = Literal["bytes", "counted"]
"""A step of the ladder of input bounds: bytes at once, or the tokenizer's count (slow: call it in a thread)."""


@dataclass(frozen=True, slots=True)
class Priced:
    """A cost, and where its price is from."""

    amount: Nanousd
    assumed: bool = False
    own: bool = False
    """True when the price is the user's own, which comes before what the provider says it billed."""


class Quote(Protocol):
    """The worst case of one call: token bounds, priced at the dearest terms that could apply to it."""

    @property
    def input_tokens(self) -> int:
        """Upper bound on billed input, server-side tool passes included."""
        ...

    @property
    def output_tokens(self) -> int:
        """Upper bound on the whole answer, all choices together; 0 without output."""
        ...

    @property
    def hidden_output_tokens(self) -> int:
        """The part of `output_tokens` that a stream may bill without showing it."""
        ...

    @property
    def assumed(self) -> bool:
        """True when the model has no price and another's was taken."""
        ...

    @property
    def limited(self) -> bool:
        """True when the request itself limits its answer."""
        ...

    def least_tokens(self, counted: int) -> int:
        """The tokens that output counted from above surely has: our tokenizer's own count, without the factor on it."""
        ...

    def amount(self, output_tokens: int, input_tokens: int | None = None) -> Nanousd:
        """What the input bound (or so many input tokens) and so many output tokens cost at most, fees included."""
        ...

    def affordable_output_tokens(self, amount: Nanousd) -> int:
        """The most output tokens (all choices together) whose `amount` is not above this; 0 if the input isn't."""
        ...


class Pricing(Protocol):
    """What a call costs, before and after."""

    def quote(self, call: Call, rung: Rung = "bytes") -> Quote:
        """Bound a call; raises PriceError when the model has no price and unknown prices are to be refused.

        A batch's bound is the sum of its requests', or what was noted of its file; a large one's is slow.
        """
        ...

    def cost(
        self,
        call: Call,
        usage: Usage,
        terms: Terms,
        model: str = "",
        *,
        shares: Sequence[Share] = (),
        at_ms: int | None = None,
    ) -> Priced:
        """Price a usage at the terms the response named; `model` is the response's, used when it has a price.

        Terms the response did not name are taken as the dearest the request allowed. With `shares`, which `usage` is
        the sum of, each is priced by itself and the whole is rounded up once. `at_ms` is when the call began, for
        prices that depend on it; None is now. Where a price depends on the hour, it is the dearer of that moment's and
        now's, because providers don't say which end of a call decides.
        """
        ...

    @property
    def ready(self) -> bool:
        """True once counting has loaded what it takes; until then output is counted in bytes."""
        ...

    def load_tokenizer(self) -> None:
        """Load what counting takes, and return when it is there; slow, call it in a thread."""
        ...

    def warm(self) -> None:
        """Load in a thread what counting takes; until it is there, output is counted in bytes."""
        ...

    def count_output(self, call: Call, text: str) -> int:
        """Count the tokens of one piece of output, from above, for the call's model; fast enough for each delta."""
        ...
