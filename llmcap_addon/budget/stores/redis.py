"""The store for several machines: one Redis, one Lua script an operation, one round trip each.

A script runs alone in Redis, so it is the transaction. Leases go by the clock of Redis, for those of several machines
differ. A store belongs to the event loop that first uses it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import redis
import redis.asyncio
from redis.exceptions import NoScriptError, RedisError, ResponseError

from llmcap_addon.budget.ledger import (
    LEASE_MS,
    MAX_AMOUNT,
    MAX_NOTES,
    Balance,
    Charge,
    Entry,
    Reserved,
    Row,
    Settlement,
    Short,
)
from llmcap_addon.budget.stores import redis_scripts as scripts
from llmcap_addon.budget.stores.redis_errors import OPERATION_S, evicts, explain
from llmcap_addon.budget.stores.redis_open import connection_options, find_ledger, half_moved, newer
from llmcap_addon.budget.stores.redis_url import RedisPlace
from llmcap_addon.budget.stores.text import check_note, text
from llmcap_addon.errors import StoreError
from llmcap_addon.money import Nanousd
from llmcap_addon.usage import Usage

MAX_CONNECTIONS = 32
"""One serves thousands of operations a second; more are for a Redis that is far away."""
MAX_WAITING = 2_000
"""Admissions and extensions under way or waiting for a connection. More means that Redis is stuck, and they are
refused; settlements always wait their turn, there are never more of them than calls in flight."""
MAX_DOUBTFUL = 10_000
"""Reservations without an answer that are remembered to be undone: `MAX_WAITING` every `OPERATION_S` between two
heartbeats. What is forgotten stays reserved until this process ends."""
PAGE_ROWS = 500
"""Rows read in one script: under 5 ms, in which nobody else is served."""
LOOK_S = 1.0
"""How often admissions have Redis look whether it evicts keys: that takes 20 µs of its time, a quarter of what a
reservation does. What is thrown away in between is found missing by the scripts."""


class RedisStore:
    """A `Store` in the Redis at `place`; see there for what each method does."""

    def __init__(self, place: RedisPlace, owner: str, clock: Callable[[], int]) -> None:
        """Find or begin the ledger, and expire what dead processes hold in it. Blocks; raises StoreError."""
        self._place = place
        self._clock = clock
        self._owner = owner
        self._meta = f"{{{place.prefix}}}:meta"
        self._client: redis.asyncio.Redis | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiting = 0
        self._doubtful: dict[str, None] = {}
        self._closed = False
        self._looks_at_s = 0.0
        """When an admission has Redis look next, by the clock of the event loop."""
        self._is_evicting = False
        """What the last look of all showed; then every admission looks."""
        self._ledger = ""
        self._open()

    async def reserve(self, entry: Entry, charges: Sequence[Charge], amount: Nanousd) -> Reserved | Short:
        """Set an amount aside under all charges, or change nothing."""
        if not 0 < amount <= MAX_AMOUNT:
            raise ValueError(f"a reservation of {amount} n$ is not between 1 and {MAX_AMOUNT}")
        asked = self._ask(
            "reserve",
            entry=scripts.write_entry(entry),
            charges=scripts.write_charges(charges),
            amount=f'"{amount}"',
            look=self._look(),
        )
        try:
            state, found, *lacking = await self._admit(asked)
        except StoreError as error:
            if error.__cause__ is not None and not isinstance(error.__cause__, ResponseError):
                self._doubt(entry.id)  # no answer is neither yes nor no
            raise
        except asyncio.CancelledError:
            # It may have been made: wait for that (a bounded time) and undo it. Nothing was sent yet.
            self._doubt(entry.id)
            with suppress(StoreError):
                await self._whole(self._undo_doubtful())
            raise
        if state == b"ended":
            raise ValueError(f"call {entry.id} has ended before: {found.decode()}")
        balances = scripts.read_balances(charges, found)
        return Reserved(balances) if state == b"reserved" else Short(balances, tuple(balances[at] for at in lacking[0]))

    async def extend(self, entry_id: str, charges: Sequence[Charge], amount: Nanousd, at_least: Nanousd) -> Nanousd:
        """Set more aside for a pending call."""
        if not 0 < at_least <= amount <= MAX_AMOUNT:
            raise ValueError(f"an extension by {amount} n$, at least {at_least}, is not between 1 and {MAX_AMOUNT}")
        found = await self._admit(
            self._ask(
                "extend",
                id=_json(entry_id),
                charges=scripts.write_charges(charges),
                amount=f'"{amount}"',
                at_least=f'"{at_least}"',
                look=self._look(),
            )
        )
        return int(found[1])

    async def settle(self, entry_id: str, settlement: Settlement) -> bool:
        """Post what a call cost and release the rest."""
        _check(settlement)
        written = scripts.write_settlement(settlement)
        return bool((await self._whole(self._ask("settle", id=_json(entry_id), settlement=written)))[1])

    async def post(self, entry: Entry, charges: Sequence[Charge], settlement: Settlement) -> bool:
        """Post a call that was never reserved."""
        _check(settlement)
        found = await self._whole(
            self._ask(
                "post",
                entry=scripts.write_entry(entry),
                charges=scripts.write_charges(charges),
                settlement=scripts.write_settlement(settlement),
            )
        )
        return bool(found[1])

    async def void(self, entry_id: str, settled_at_ms: int, status: int, note: str) -> bool:
        """Release a call that was not billed."""
        ended = scripts.write_settlement(Settlement(0, Usage(), settled_at_ms, status=status, note=note))
        return bool((await self._whole(self._ask("void", id=_json(entry_id), settlement=ended)))[1])

    async def defer(self, entry_id: str, until_ms: int) -> bool:
        """Keep a call reserved until a time, whatever becomes of this process."""
        return bool((await self._whole(self._ask("defer", id=_json(entry_id), until=f'"{until_ms}"')))[1])

    async def remember(self, key: str, value: str, until_ms: int) -> None:
        """Keep a note; how long Redis itself keeps it goes by its own clock."""
        check_note(key, value)
        lasts_ms = until_ms - self._clock()
        times = {"until": f'"{until_ms}"', "lasts_ms": f'"{lasts_ms}"'}
        await self._whole(self._ask("remember", key=_json(key), value=_json(value), **times))

    async def recall(self, key: str, now_ms: int) -> str | None:
        """Read a note."""
        value = (await self._whole(self._ask("recall", key=_json(key), now=f'"{now_ms}"')))[1]
        return None if value is None else str(value.decode())

    async def record_refusal(self, entry: Entry, caps: Sequence[str], note: str) -> None:
        """Write the row of a call that was not forwarded."""
        if entry.id in self._doubtful:
            await self._whole(self._undo(entry.id))
        await self._admit(
            self._ask(
                "record_refusal",
                entry=scripts.write_entry(entry),
                caps=json.dumps([text(cap) for cap in caps]),
                note=_json(note),
            )
        )

    async def balances(self, charges: Sequence[Charge]) -> tuple[Balance, ...]:
        """Read how balances stand."""
        found = await self._whole(self._ask("balances", charges=scripts.write_charges(charges)))
        return scripts.read_balances(charges, found[1])

    async def seen(self, key: str, period: str) -> tuple[Balance, ...]:
        """Read all scopes of a cap in a period."""
        found = await self._whole(self._ask("seen", period_id=_json(scripts.period_id(key, period))))
        return scripts.read_seen(found[1])

    async def rows(self, since_ms: int = 0, limit: int | None = None) -> tuple[Row, ...]:
        """Read ledger rows, oldest first; in pages, so rows that change meanwhile may be of different moments."""
        rows: dict[str, Row] = {}
        after, after_start, more = "", "", True
        while more:
            _, page, more = await self._whole(
                self._ask(
                    "rows",
                    since=f'"{since_ms}"',
                    limit=f'"{"" if limit is None else limit}"',
                    page=f'"{PAGE_ROWS}"',
                    after=_json(after),
                    after_start=_json(after_start),
                )
            )
            for member, row in scripts.read_page(page):
                rows[row.entry.id] = row
                after, after_start = member, str(row.entry.started_at_ms)
        return tuple(rows.values())

    async def heartbeat(self, now_ms: int) -> int:
        """Renew the lease, expire what dead processes hold and what is due, and undo reservations without an answer."""
        if self._tasks:  # what was begun before is done before
            await asyncio.wait(self._tasks)
        found = await self._whole(self._beat(now_ms))
        if self._doubtful:
            await self._whole(self._undo_doubtful())
        self._is_evicting = False
        if found[2]:
            raise self._evicts(found[2])
        return int(found[1])

    async def close(self) -> None:
        """Expire what is still pending, give up the lease and the connections; a second time nothing."""
        if self._closed:
            return
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks)
        try:
            with suppress(StoreError):  # then they are posted in full with the rest
                await self._undo_doubtful()
            await self._ask("close", settled=f'"{self._clock()}"')
        finally:
            if self._client is not None:
                with suppress(RedisError, OSError):
                    await self._client.aclose()

    # ── one operation ──

    def _look(self) -> str:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._looks_at_s and not self._is_evicting:
            return "false"
        self._looks_at_s = now_s + LOOK_S
        return "true"

    def _evicts(self, policy: bytes) -> StoreError:
        self._is_evicting = True
        return evicts(policy.decode(), self._place)

    async def _admit(self, work: Coroutine[Any, Any, Any]) -> Any:
        if self._waiting >= MAX_WAITING:
            work.close()
            raise StoreError(f"ledger {self._place}: {MAX_WAITING} calls wait for it; it is stuck or slow")
        self._waiting += 1
        return await self._whole(work, self._leave)

    def _leave(self, _: asyncio.Task[Any]) -> None:
        self._waiting -= 1

    async def _whole(
        self, work: Coroutine[Any, Any, Any], then: Callable[[asyncio.Task[Any]], None] | None = None
    ) -> Any:
        """Do it to its end, also when the caller is cancelled; within `OPERATION_S`."""
        if self._closed:
            work.close()
            if then is not None:
                self._waiting -= 1
            raise StoreError(f"ledger {self._place}: it is closed")
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        if then is not None:
            task.add_done_callback(then)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left to be told

    async def _ask(self, name: str, **members: str) -> Any:
        """Run a script; `members` are written as JSON. Raises StoreError."""
        script = scripts.script(name)
        wanted = self._request(**members)
        client = self._connected()
        try:
            async with asyncio.timeout(OPERATION_S):
                try:
                    found = await client.evalsha(script.sha, 1, self._meta, wanted)
                except NoScriptError:  # Redis was restarted, or has never seen it
                    found = await client.eval(script.body, 1, self._meta, wanted)
        except (RedisError, OSError) as error:
            raise explain(error, self._place) from error
        return self._checked(found)

    def _request(self, **members: str) -> str:
        own = {"ledger": _json(self._ledger), "owner": _json(self._owner), "lease_ms": str(LEASE_MS)}
        return "{" + ",".join(f'"{name}":{value}' for name, value in (own | members).items()) + "}"

    def _checked(self, found: Any) -> Any:
        if found[0] == b"replaced":
            # Redis was emptied, or came back without its data: to begin anew would allow every cap a second time.
            raise StoreError(
                f"ledger {self._place}: it was emptied or replaced while in use; restore it, or start LLMCap again"
            )
        if found[0] == b"evicts":
            raise self._evicts(found[1])
        if found[0] == b"schema":
            raise newer(found[1].decode(), self._place)
        if found[0] == b"moving":
            raise half_moved(self._place)
        return found

    # ── reservations without an answer ──

    def _doubt(self, entry_id: str) -> None:
        if len(self._doubtful) < MAX_DOUBTFUL:
            self._doubtful[entry_id] = None

    async def _undo_doubtful(self) -> None:
        for entry_id in tuple(self._doubtful):
            await self._undo(entry_id)

    async def _undo(self, entry_id: str) -> None:
        await self._ask("undo", id=_json(entry_id), keep_ms=f'"{scripts.UNDONE_MS}"')
        self._doubtful.pop(entry_id, None)

    # ── opening ──

    async def _beat(self, now_ms: int) -> Any:
        return await self._ask("heartbeat", settled=f'"{now_ms}"', max_notes=str(MAX_NOTES), look="true")

    def _open(self) -> None:
        client = redis.Redis(**connection_options(self._place), connection_pool=None)
        try:
            self._ledger = find_ledger(client, self._place, self._meta)
            wanted = self._request(settled=f'"{self._clock()}"', max_notes=str(MAX_NOTES), is_first="true")
            found = self._checked(client.eval(scripts.script("heartbeat").body, 1, self._meta, wanted))
            if found[0] == b"taken":
                raise StoreError(f"ledger {self._place}: the owner's name {self._owner} is in use")
        except (RedisError, OSError) as error:
            raise explain(error, self._place) from error
        finally:
            client.close()

    def _connected(self) -> redis.asyncio.Redis:
        if self._client is None:
            kind = redis.asyncio.SSLConnection if self._place.tls else redis.asyncio.Connection
            options = connection_options(self._place)
            options.pop("ssl", None)
            self._client = redis.asyncio.Redis(
                connection_pool=redis.asyncio.BlockingConnectionPool(
                    max_connections=MAX_CONNECTIONS, timeout=OPERATION_S, connection_class=kind, **options
                )
            )
        return self._client


def _check(settlement: Settlement) -> None:
    if settlement.cost < 0:
        raise ValueError(f"a cost of {settlement.cost} n$ is negative")


def _json(value: str) -> str:
    return json.dumps(text(value))
