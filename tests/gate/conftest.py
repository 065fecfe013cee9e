"""What the gate's tests share."""

from tests.gate.house import make_house

__all__ = ["make_house"]
