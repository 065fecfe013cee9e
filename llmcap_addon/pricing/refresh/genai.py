"""genai-prices: its published JSON, or the Python literals of its package, as levels and rules.

https://github.com/pydantic/genai-prices, prices/new_data/v2/data.json and its schema beside it. No code of the package
is run: its data module is read from the syntax tree and turned into the JSON's form.
"""

from __future__ import annotations

import ast
import datetime as dt
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from llmcap_addon.errors import PriceError
from llmcap_addon.pricing.refresh.levels import Levels, put
from llmcap_addon.pricing.refresh.offpeak import DAY_MINUTES, OffPeak, between, minutes

type Model = dict[str, Any]
type Clause = list[Any]
"""[kind, text], ["or", …] or ["and", …]; the form the table has."""

_PER_THOUSAND = Decimal("0.001")
_PER_MILLION = Decimal("0.000001")
_PER_HOUR = Decimal(1) / 3600

FIELDS: Mapping[str, tuple[str, Decimal]] = {
    "input_mtok": ("input", Decimal(1)),
    "cache_read_mtok": ("cached_input", Decimal(1)),
    "cache_write_mtok": ("cache_write", Decimal(1)),
    "cache_write_5m_mtok": ("cache_write", Decimal(1)),
    "cache_write_1h_mtok": ("cache_write_1h", Decimal(1)),
    "output_mtok": ("output", Decimal(1)),
    "output_reasoning_mtok": ("reasoning", Decimal(1)),
    "input_audio_mtok": ("audio_input", Decimal(1)),
    "cache_audio_read_mtok": ("cached_audio", Decimal(1)),
    "input_image_mtok": ("image_input", Decimal(1)),
    "input_video_mtok": ("video_input", Decimal(1)),
    "cache_image_read_mtok": ("cached_image", Decimal(1)),
    "output_audio_mtok": ("audio_output", Decimal(1)),
    "output_image_mtok": ("image_output", Decimal(1)),
    "output_video_mtok": ("image_output", Decimal(1)),
    "web_searches_kcount": ("web_search", Decimal(1)),
    "requests_kcount": ("web_search", Decimal(1)),  # Perplexity: each request searches, and its fee is the search's
    "storage_searches_kcount": ("file_search", Decimal(1)),
    "input_mchars": ("per_character", _PER_MILLION),
    "audio_hours": ("per_second_in", _PER_HOUR),
    "input_audio_hours": ("per_second_in", _PER_HOUR),
    "output_audio_hours": ("per_second_out", _PER_HOUR),
    "input_document_kpages": ("per_page", _PER_THOUSAND),
    "rerank_searches_kcount": ("per_query", _PER_THOUSAND),
}
"""Their field → ours, and what one of their units is in ours."""


def read_json(text: str | bytes) -> dict[str, list[Model]]:
    """Give provider id → models from the published JSON, prices as Decimal; raises PriceError."""
    try:
        providers = json.loads(text, parse_float=Decimal, parse_int=int)
        if not isinstance(providers, list):
            raise PriceError("this is not genai-prices' data: it is no list")
        return {str(one["id"]): list(one["models"]) for one in providers}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PriceError(f"this is not genai-prices' data ({type(error).__name__}: {error})") from error


def read_python(source: str) -> dict[str, list[Model]]:
    """Give provider id → models from the package's data module; raises PriceError."""
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == "providers" and statement.value:
            return {provider["id"]: provider["models"] for provider in _literal(statement.value)}
    raise PriceError("genai-prices' data has no `providers`")


_CLAUSES = {"ClauseEquals", "ClauseStartsWith", "ClauseEndsWith", "ClauseContains", "ClauseRegex"}


def _literal(node: ast.expr) -> Any:
    """Give the value of an expression of literals and constructor calls, in the published JSON's form."""
    match node:
        case ast.Constant():
            return node.value
        case ast.List() | ast.Tuple():
            return [_literal(item) for item in node.elts]
        case ast.Dict():
            return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values, strict=True) if key}
        case ast.UnaryOp(op=ast.USub()):
            return -_literal(node.operand)
        case ast.Attribute():
            return ast.unparse(node)
        case ast.Call():
            name = ast.unparse(node.func)
            values = [_literal(item) for item in node.args]
            match name:
                case "Decimal":
                    return Decimal(str(values[0]))
                case "datetime.date":
                    return dt.date(*values).isoformat()
                case "datetime.time":
                    return dt.time(*values).isoformat()
            return {(item.arg or "").removesuffix("_"): _literal(item.value) for item in node.keywords}
    raise PriceError(f"genai-prices' data has changed its form: {ast.dump(node)[:200]}")


# -- Names


def rule(clause: Mapping[str, Any]) -> Clause:
    """Write a match clause in the table's form; raises PriceError for one of another kind."""
    ((kind, value),) = clause.items()
    if kind in ("or", "and"):
        return [kind, *(rule(part) for part in value)]
    if kind not in ("equals", "starts_with", "ends_with", "contains", "regex"):
        raise PriceError(f"genai-prices has a clause of an unknown kind, {kind!r}")
    return [kind, value if kind == "regex" else value.lower()]


def matches(clause: Clause, text: str) -> bool:
    """Say whether a rule as `rule` writes it fits a name."""
    kind, *rest = clause
    match kind:
        case "or":
            return any(matches(part, text) for part in rest)
        case "and":
            return all(matches(part, text) for part in rest)
        case "regex":
            return re.search(rest[0], text) is not None
        case "equals":
            return bool(text == rest[0])
        case "starts_with":
            return text.startswith(rest[0])
        case "ends_with":
            return text.endswith(rest[0])
    return rest[0] in text


def names_in(clause: Clause) -> Iterator[str]:
    """Yield the names that a clause spells out, outside any "and"."""
    if clause[0] == "equals":
        yield clause[1]
    elif clause[0] == "or":
        for part in clause[1:]:
            yield from names_in(part)


def without_names(clause: Clause) -> Clause | None:
    """Give what is left of a clause when the names it spells out are looked up in a table instead."""
    if clause[0] == "equals":
        return None
    if clause[0] != "or":
        return clause
    parts = [part for part in map(without_names, clause[1:]) if part]
    return ["or", *parts] if len(parts) > 1 else parts[0] if parts else None


# -- Prices


def levels(model: Model, day: dt.date) -> Levels:
    """Give a model's prices on a day; of the hours and routes of that day the highest."""
    found: Levels = {}
    for item in _applying(model, day):
        _put(found, "standard", item["prices"])
    listed: Levels = {}
    for variant in model.get("price_variants") or ():
        when = variant["when"]
        if not _begun(variant.get("constraint"), day):
            continue
        tier = when.get("service_tier") or when.get("processing") or when.get("speed")
        if tier == "fast" and "service_tier" in when:
            tier = "priority"  # OpenAI answers "fast" as priority
        if tier is None:
            _put(found, "standard", variant["prices"])
        elif tier != "default":
            # The first variant that fits is the one that counts (genai_prices.types, ModelInfo.get_prices).
            fresh: Levels = {}
            _put(fresh, tier, variant["prices"])
            for above, level in fresh.items():
                for field, amount in level[tier].items():
                    listed.setdefault(above, {}).setdefault(tier, {}).setdefault(field, amount)
    for above, level in listed.items():
        found.setdefault(above, {}).update(level)
    return found


def off_peak(model: Model, day: dt.date) -> OffPeak | None:
    """Give the prices outside a model's dearer hours, where it has such hours."""
    items = _applying(model, day)
    spans: list[tuple[int, int]] = []
    for item in items[1:]:
        constraint = item.get("constraint") or {}
        if "start_time" not in constraint:
            return None
        start, end = minutes(constraint["start_time"]), minutes(constraint["end_time"])
        spans += [(start, end)] if start < end else [(start, DAY_MINUTES), (0, end)]
    if not spans:
        return None
    found: Levels = {}
    _put(found, "standard", items[0]["prices"])
    return OffPeak(between(spans), found, knows_weekdays=False)


def start_dates(model: Model) -> set[dt.date]:
    """Give the days on which any price of a model begins."""
    items = [*(model["prices"] if isinstance(model["prices"], list) else ()), *(model.get("price_variants") or ())]
    days = ((item.get("constraint") or {}).get("start_date") for item in items)
    return {dt.date.fromisoformat(day) for day in days if day}


def _applying(model: Model, day: dt.date) -> list[Mapping[str, Any]]:
    """Give the price that stands on a day, and after it those that override it at some hours."""
    prices = model["prices"]
    if not isinstance(prices, list):
        return [{"prices": prices}]
    begun = [item for item in prices if _begun(item.get("constraint"), day)]
    timeless = [i for i, item in enumerate(begun) if "start_time" not in (item.get("constraint") or {})]
    return begun[max(timeless, default=0) :]


def _begun(constraint: Mapping[str, Any] | None, day: dt.date) -> bool:
    start = (constraint or {}).get("start_date")
    return start is None or dt.date.fromisoformat(start) <= day


def _put(found: Levels, tier: str, prices: Mapping[str, Any]) -> None:
    for name, price in prices.items():
        if name not in FIELDS or price is None:
            continue
        field, times = FIELDS[name]
        for above, amount in _steps(price):
            put(found, above, tier, field, amount * times)


def _steps(price: Any) -> Iterable[tuple[int, Decimal]]:
    if isinstance(price, Mapping):
        yield 0, Decimal(price["base"])
        for step in price["tiers"]:
            yield int(step["start"]), Decimal(step["price"])
    else:
        yield 0, Decimal(price)
