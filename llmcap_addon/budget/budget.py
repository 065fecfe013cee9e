"""Budget: the caps of this moment, over a ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import Balance, Charge, Entry, Reserved, Row, Settlement, Short, Store
from llmcap_addon.money import Nanousd

MAX_LABEL_CHARS = 512
"""Labels come from requests. Longer ones are cut: the longest real model id, an AWS ARN, stays far below."""

MAX_REMEMBERED = 1_000
"""Combinations of minute and labels whose charges are remembered."""
_MINUTE_MS = 60_000


class Budget:
    """May it be spent? Answers for all caps at once; every method that touches the store raises StoreError.

    `clock` gives Unix time in milliseconds. `run_id` is what caps per run count together.
    """

    def __init__(self, caps: Sequence[Cap], store: Store, clock: Callable[[], int], timezone: str, run_id: str) -> None:
        self.caps = tuple(caps)
        self.timezone = timezone
        self.store = store
        self.run_id = run_id
        self._clock = clock
        self._charges: dict[tuple[object, ...], tuple[Charge, ...]] = {}
        """What the calls begun in one minute count against, by minute and labels: no period turns within a minute, no
        timezone changes its offset in one, and each call asks several times."""

    def replace_caps(self, caps: Sequence[Cap], timezone: str) -> None:
        """Take the caps of a reloaded caps.yaml; calls in flight are held to them from their next extension on."""
        self.caps = tuple(caps)
        self.timezone = timezone
        self._charges.clear()

    def charges(self, labels: Mapping[str, str], at_ms: int) -> tuple[Charge, ...]:
        """Name every balance that a call begun at this time counts against."""
        key = (at_ms // _MINUTE_MS, *labels.items())
        known = self._charges.get(key)
        if known is None:
            clean = {label: _clean(value) for label, value in labels.items()}
            found = (cap.charge(clean, at_ms, self.timezone, self.run_id) for cap in self.caps)
            known = tuple(charge for charge in found if charge is not None)
            if len(self._charges) >= MAX_REMEMBERED:
                self._charges.clear()
            if all(len(value) <= MAX_LABEL_CHARS for value in labels.values()):
                self._charges[key] = known
        return known

    async def reserve(self, entry: Entry, labels: Mapping[str, str], amount: Nanousd) -> Reserved | Short:
        """Set an amount (> 0) aside under every cap that counts the call, or under none.

        The periods are those of `entry.started_at_ms`: a call that waited tries again with a new one.
        """
        return await self.store.reserve(self._own(entry), self.charges(labels, entry.started_at_ms), amount)

    async def reserve_anyway(self, entry: Entry, amount: Nanousd) -> None:
        """Set an amount (> 0) aside whatever the limits are, for what goes on and will be billed."""
        await self.store.reserve(self._own(entry), (), amount)

    async def extend(
        self, entry_id: str, labels: Mapping[str, str], started_at_ms: int, amount: Nanousd, at_least: Nanousd
    ) -> Nanousd:
        """Set more aside for a pending call, as `Store.extend`, under the caps of this moment."""
        return await self.store.extend(entry_id, self.charges(labels, started_at_ms), amount, at_least)

    async def settle(self, entry_id: str, settlement: Settlement) -> bool:
        """Post what a call cost, as `Store.settle`."""
        return await self.store.settle(entry_id, settlement)

    async def void(self, entry_id: str, settled_at_ms: int, status: int, note: str) -> bool:
        """Release a call that was not billed, as `Store.void`."""
        return await self.store.void(entry_id, settled_at_ms, status, note)

    async def defer(self, entry_id: str, until_ms: int) -> bool:
        """Keep a call reserved whose bill comes later, as `Store.defer`."""
        return await self.store.defer(entry_id, until_ms)

    async def remember(self, key: str, value: str, until_ms: int) -> None:
        """Keep a note, as `Store.remember`."""
        await self.store.remember(key, value, until_ms)

    async def recall(self, key: str, now_ms: int) -> str | None:
        """Read a note, as `Store.recall`."""
        return await self.store.recall(key, now_ms)

    async def post_unreserved(self, entry: Entry, labels: Mapping[str, str], settlement: Settlement) -> bool:
        """Post a call that went out without a reservation, as `Store.post`."""
        return await self.store.post(self._own(entry), self.charges(labels, entry.started_at_ms), settlement)

    async def record_refusal(self, entry: Entry, caps: Sequence[str], note: str) -> None:
        """Write the row of a call that was not forwarded; `caps` are the names of those that refused it."""
        await self.store.record_refusal(self._own(entry), caps, note)

    async def standing(self, charges: Sequence[Charge]) -> tuple[Balance, ...]:
        """Read how these balances stand."""
        return await self.store.balances(charges)

    async def balances(self) -> tuple[Balance, ...]:
        """Read how every cap stands now, in the order of caps.yaml; a cap with `each` gives one for each scope seen."""
        now_ms = self._clock()
        whole = [cap.whole(now_ms, self.timezone, self.run_id) for cap in self.caps]
        read = await self.store.balances([charge for cap, charge in zip(self.caps, whole, strict=True) if not cap.each])
        together = iter(read)
        balances: list[Balance] = []
        for cap, charge in zip(self.caps, whole, strict=True):
            if cap.each:
                seen = await self.store.seen(charge.key, charge.period)
                balances += (replace(one, charge=replace(one.charge, limit=cap.limit)) for one in seen)
            else:
                balances.append(next(together))
        return tuple(balances)

    async def rows(self, since_ms: int = 0, limit: int | None = None) -> tuple[Row, ...]:
        """Read ledger rows, as `Store.rows`."""
        return await self.store.rows(since_ms, limit)

    async def heartbeat(self) -> int:
        """Renew the lease and expire what dead processes held; call it every `HEARTBEAT_MS`."""
        return await self.store.heartbeat(self._clock())

    async def close(self) -> None:
        """Close the store."""
        await self.store.close()

    def _own(self, entry: Entry) -> Entry:
        """The entry with this run's id, and labels as the caps saw them."""
        return replace(
            entry,
            host=_clean(entry.host),
            provider=_clean(entry.provider),
            model=_clean(entry.model),
            client=_clean(entry.client),
            billing=_clean(entry.billing),
            run=self.run_id,
        )


def fits_without_others(short: Short, amount: Nanousd) -> bool:
    """Whether an amount lacks room only because of reservations, so that waiting for them may help."""
    return all(balance.posted + amount <= balance.charge.limit for balance in short.lacking)


def _clean(value: str) -> str:
    """Bound a label, and take out lone surrogates (JSON may hold them, no store can)."""
    return value[:MAX_LABEL_CHARS].encode("utf-8", "replace").decode()
