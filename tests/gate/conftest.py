"""What the gate's tests share."""

from tests.gate.house import look_at_once, make_house

__all__ = ["look_at_once", "make_house"]
