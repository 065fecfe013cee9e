from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.usage import NO_USAGE, Usage


@pytest.mark.parametrize(
    "counts",
    [
        {"input_tokens": -1},
        {"pages": -1},
        {"input_tokens": 1, "cache_read_tokens": 2},
        {"input_tokens": 3, "cache_read_tokens": 2, "cache_write_tokens": 2},
        {"input_tokens": 9, "cache_write_tokens": 2, "cache_write_1h_tokens": 3},
        {"input_tokens": 3, "input_audio_tokens": 2, "input_image_tokens": 2},
        {"input_tokens": 9, "cache_read_tokens": 3, "cache_read_audio_tokens": 2, "cache_read_image_tokens": 2},
        {"output_tokens": 3, "output_audio_tokens": 2, "output_image_tokens": 2},
        {"output_tokens": 1, "reasoning_tokens": 2},
    ],
)
def test_a_usage_that_counts_twice_is_none(counts: dict[str, int]) -> None:
    """A part is no larger than its whole, and parts that exclude each other fit in it together."""
    with pytest.raises(ValueError, match=r"negative|exceeds?"):
        Usage(**counts)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_usages_add_up_count_by_count(tokens: int, images: int, pages: int) -> None:
    """Adding nothing changes nothing, and every count is added."""
    usage = Usage(tokens + images, input_image_tokens=images, pages=pages)
    assert usage.plus(NO_USAGE) == usage
    assert usage.plus(usage) == Usage(2 * (tokens + images), input_image_tokens=2 * images, pages=2 * pages)
