"""The benchmark of speed, reduced: ratios of processor time on one machine, with wide margins, and never a time."""

from __future__ import annotations

import pytest

from tests.bench.speed.figures import Figure, table
from tests.bench.speed.run import gross, short


def test_nothing_is_grossly_slower_than_bare_mitmproxy() -> None:
    """A request and a stream's event take no more than a few times what they take bare mitmproxy; none is merged."""
    figures = short()
    assert gross(figures) == [], table(figures)


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure("less", (0.5, 0.7, 0.9), 0.75), "met"),
        (Figure("less", (0.5, 0.9, 1.1), 0.75), "missed by 0.15 (20%)"),
        (Figure("more", (1.7, 1.8, 1.9), 1.8, at_least=True), "met"),
        (Figure("more", (4.0,), 8, at_least=True), "missed by 4.00 (50%)"),
        (Figure("none", (3.0,), 0, unit="ms"), "missed by 3.00 ms"),
        (Figure("told only", (3.0,)), ""),
        (Figure("not there", (), 2), "not measured"),
    ],
)
def test_a_figure_is_held_against_its_target(figure: Figure, verdict: str) -> None:
    """The median decides, in the direction that the figure is better in."""
    assert figure.verdict() == verdict
    assert verdict in table([figure])
