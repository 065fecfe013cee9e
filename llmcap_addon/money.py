"""Money: integers of nano-dollars, and the one place that rounds."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation

type Nanousd = int
"""An amount of money in nano-dollars (10⁻⁹ US dollars)."""

NANOUSD_PER_USD = 1_000_000_000


def nanousd(amount_usd: Decimal | int | str) -> Nanousd:
    """Convert dollars to nano-dollars, rounding a remainder up.

    Floats are not taken: `Decimal(repr(x))` says what was meant. Raises ValueError for what is no finite number.
    """
    try:
        exact = Decimal(amount_usd) * NANOUSD_PER_USD
        return int(exact.to_integral_value(rounding=ROUND_CEILING))
    except (InvalidOperation, OverflowError, ValueError) as error:
        raise ValueError(f"{amount_usd!r} is not an amount of dollars") from error


def ceil_div(numerator: int, denominator: int) -> int:
    """Divide two integers and round up; the only rounding a cost ever sees."""
    return -(-numerator // denominator)


def decimal_usd(amount: Nanousd) -> str:
    """Write an amount as an exact decimal string of dollars ("0.0123"), as `report --json` does."""
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), NANOUSD_PER_USD)
    digits = f"{rest:09d}".rstrip("0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def format_usd(amount: Nanousd) -> str:
    """Write an amount for people: "$12.34", and under one dollar as many digits as tell something ("$0.0123")."""
    sign = "-" if amount < 0 else ""
    size = abs(amount)
    if size == 0:
        return "$0.00"
    if size >= NANOUSD_PER_USD // 10:
        places = 2
    elif size >= NANOUSD_PER_USD // 10_000:
        places = 4
    else:
        places = 6
    if size < 1000:
        return f"{sign}<$0.000001"
    return f"{sign}${Decimal(size) / NANOUSD_PER_USD:.{places}f}"
