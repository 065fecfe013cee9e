from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.call import Content, Media
from llmcap_addon.pricing import bounds
from llmcap_addon.pricing.bounds import Limits, input_bound, output_bound
from llmcap_addon.pricing.family import claude_version, factor
from llmcap_addon.pricing.media import media_tokens
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.pricing.tokens import SHARED
from tests.pricing.calls import call

WIDE = Limits(10_000_000, 64_000)


def bound(content: Content, limits: Limits = WIDE, rung: str = "bytes", **fields: object) -> int:
    made = call("openai", "gpt-4o", content, **fields)
    return input_bound(made, limits, "counted" if rung == "counted" else "bytes", SHARED)


def test_bytes_bound_text_and_what_wraps_it() -> None:
    """Text bytes, 16 a message, 64 a block, 64 a call of OpenAI's; tools bring a prompt and are rendered longer."""
    assert bound(Content()) == 64
    assert bound(Content(text_bytes=1000, messages=3, blocks=2)) == 1000 + 48 + 128 + 64
    assert bound(Content(text_bytes=1000, tool_bytes=401)) == 1000 + 64 + 1024 + 101
    assert bound(Content(provider_tools=2)) == 64 + 1024 + 4096


@pytest.mark.parametrize(
    ("provider", "model"), [("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-4o-search-preview"), ("x", "gpt-4o")]
)
def test_elsewhere_more_may_be_around_a_prompt(provider: str, model: str) -> None:
    """What others put around a prompt, or a model that searches gets told, is not published."""
    assert input_bound(call(provider, model, Content()), WIDE, "bytes", SHARED) == 512


def test_the_context_window_is_a_bound_too() -> None:
    """A provider refuses or truncates what is longer; embeddings have a window for each input instead."""
    assert bound(Content(text_bytes=1_000_000), Limits(128_000)) == 128_000
    assert bound(Content(text_bytes=1_000_000), Limits(8192), has_output=False) == 1_000_064


def test_what_the_body_does_not_show_is_bounded_by_the_window() -> None:
    """A file id or a stored conversation may fill it; server-side tools may read it again and again."""
    assert bound(Content(opaque=True), Limits(128_000)) == 128_000
    assert bound(Content(opaque=True, server_turns=8), Limits(128_000)) == 9 * 128_000
    assert bound(Content(text_bytes=120_000, server_turns=8), Limits(128_000)) == 9 * 128_000
    assert bound(Content(text_bytes=1_000, server_turns=2), Limits(128_000)) == 3 * (1_000 + 64) + 3 * 20_000
    assert bound(Content(opaque=True), Limits()) == bounds.DEFAULT_CONTEXT_TOKENS


def test_input_of_known_length_counts_as_such() -> None:
    """A conversation that an earlier response was billed for is as long as that, on both rungs, within the window."""
    assert bound(Content(known_tokens=5_000)) == bound(Content(known_tokens=5_000), rung="counted") == 5_000 + 64
    assert bound(Content(known_tokens=500_000), Limits(128_000)) == 128_000


def test_counting_tightens_the_bound_of_text() -> None:
    """English has about 4.5 bytes a token: the second rung is far below the first, and above the true count."""
    text = "A capped tool spends what the cap allows and not a cent more. " * 100
    content = Content(texts=(text,), text_bytes=len(text), messages=1)
    tight = bound(content, rung="counted")
    assert tight < bound(content) / 2
    assert tight >= SHARED.count(text) * 1.1 + 16 + 64


@given(text=st.text(max_size=200), model=st.sampled_from(["gpt-4o", "gpt-4", "claude-opus-4-7", "gemini-2.5-pro"]))
def test_the_counted_rung_is_never_above_the_bytes_rung(text: str, model: str) -> None:
    """The ladder only goes down."""
    content = Content(texts=(text,), text_bytes=len(text.encode()), messages=1)
    made = call("openai", model, content)
    assert input_bound(made, WIDE, "counted", SHARED) <= input_bound(made, WIDE, "bytes", SHARED)


@pytest.mark.parametrize(
    ("stated", "choices", "limits", "expected"),
    [
        (1000, 1, WIDE, 1000),
        (1000, 3, WIDE, 3000),
        (100_000, 1, WIDE, 64_000),
        (100_000, 1, Limits(), 100_000),
        (None, 1, WIDE, 64_000),
        (None, 2, WIDE, 128_000),
        (None, 1, Limits(32_000, None), 32_000),
        (None, 1, Limits(), bounds.DEFAULT_OUTPUT_TOKENS),
        (0, 1, WIDE, 0),
    ],
)
def test_output_is_bounded_by_the_request_else_the_model(
    stated: int | None, choices: int, limits: Limits, expected: int
) -> None:
    """The stated limit or the model's, times the choices; then the window; then a named default."""
    made = call("openai", "gpt-4o", max_output_tokens=stated, choices=choices)
    assert output_bound(made, limits) == expected
    assert output_bound(dataclasses.replace(made, has_output=False), limits) == 0


def test_hidden_output_is_part_of_the_whole(prices: Prices) -> None:
    """None means all of it may be hidden; a bound on reasoning counts for each choice, and never above the whole."""
    made = call("openai", "gpt-5", max_output_tokens=1000, choices=2)
    hidden = [
        prices.quote(dataclasses.replace(made, hidden_output_tokens=tokens)).hidden_output_tokens
        for tokens in (0, None, 300, 5000)
    ]
    assert hidden == [0, 2000, 600, 2000]


def test_limited_says_whether_the_request_limits_its_answer(prices: Prices) -> None:
    """Only an answer that nobody limited may be shortened by default."""
    assert prices.quote(call("openai", "gpt-4o", max_output_tokens=5)).limited
    open_ended = prices.quote(call("openai", "gpt-4o", max_output_tokens=None))
    assert not open_ended.limited
    assert open_ended.output_tokens == 16_384


def image(width: int | None, height: int | None, detail: str = "") -> Media:
    return Media("image", 1000, width, height, detail)


@pytest.mark.parametrize(
    ("provider", "model", "media", "expected"),
    [
        # Published examples: 1024 × 1024 high is 765, 2048 × 4096 is 1105, low is 85.
        # platform.openai.com/docs/guides/images-vision
        ("openai", "gpt-4o", image(1024, 1024, "high"), 765),
        ("openai", "gpt-4o", image(2048, 4096, "high"), 1105),
        ("openai", "gpt-4o", image(4096, 8192, "low"), 85),
        ("openai", "gpt-4o", image(None, None), 1445),
        ("openai", "gpt-4o-mini", image(None, None), 48_169),
        ("openai", "gpt-5", image(1024, 1024), 630),
        ("openai", "o1", image(None, None), 1275),
        # 1024 × 1024 is 1024 patches; 1.62 of them
        ("openai", "gpt-4.1-mini", image(1024, 1024), 1660),
        ("openai", "gpt-5.4", image(None, None), 12_001),
        ("openrouter", "openai/gpt-4o", image(1024, 1024), 765),
        ("anthropic", "claude-sonnet-4-5", image(200, 200), 64),
        ("anthropic", "claude-sonnet-4-5", image(9000, 9000), 1568),
        ("anthropic", "claude-opus-4-7", image(None, None), 4784),
        ("google", "gemini-2.5-flash", image(384, 384), 258),
        ("google", "gemini-2.5-flash", image(1536, 1536), 1032),
        ("google", "gemini-3-pro-preview", image(9000, 9000), 1120),
        ("google", "gemini-3-pro-preview", image(9, 9, "media_resolution_ultra_high"), 2240),
        ("google", "gemini-3-pro-preview", image(9, 9, "media_resolution_low"), 280),
        ("together", "meta-llama/llama-4-scout", image(None, None), 6404),
        ("groq", "some-vision-model", image(64, 64), 1040),
        ("groq", "some-vision-model", image(None, None), 36_000),
        ("google", "gemini-2.5-flash", Media("audio", 7500), 352),
        ("openai", "gpt-4o-audio-preview", Media("audio", 7500), 110),
        ("google", "gemini-2.5-flash", Media("video", 20_000), 3300),
        ("anthropic", "claude-sonnet-4-5", Media("document", 100), 4568),
    ],
)
def test_media_cost_what_the_provider_publishes(provider: str, model: str, media: Media, expected: int) -> None:
    """Tiles, patches, squares and seconds by each provider's own rule, its maximum where the size is unknown."""
    assert media_tokens(provider, model, media) == expected


@given(
    width=st.integers(1, 10_000),
    height=st.integers(1, 10_000),
    model=st.sampled_from(
        [("openai", "gpt-4o"), ("openai", "gpt-5.4"), ("anthropic", "claude-opus-4-7"), ("openai", "nonesuch")]
    ),
)
def test_a_known_size_never_costs_more_than_an_unknown_one(width: int, height: int, model: tuple[str, str]) -> None:
    """What is assumed for an image whose header can't be read covers every image."""
    assert 0 < media_tokens(*model, image(width, height)) <= media_tokens(*model, image(None, None))


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("claude-3-5-haiku-20241022", (3, 5)),
        ("claude-opus-4-20250514", (4, 0)),
        ("claude-opus-4-1-20250805", (4, 1)),
        ("claude-sonnet-4.5", (4, 5)),
        ("claude-opus-4-7", (4, 7)),
        ("claude-haiku-5-5", (5, 5)),
        ("claude-sonnet-5", (5, 0)),
        ("claude-mythos-preview", None),
    ],
)
def test_claude_versions_are_read_from_names(name: str, version: tuple[int, int] | None) -> None:
    """Old and new naming, dates and dots; a name without a version is unknown, and counted as the newest."""
    assert claude_version(name) == version


@pytest.mark.parametrize(
    ("provider", "model", "times"),
    [
        ("openai", "gpt-5", 110), ("openai", "gpt-4-turbo", 200), ("openai", "davinci-002", 400),
        ("anthropic", "claude-sonnet-4-5", 200), ("anthropic", "claude-opus-4-7", 300),
        ("anthropic", "claude-mythos-preview", 300), ("deepseek", "deepseek-chat", 125),
        ("groq", "llama-3.1-8b-instant", 125), ("google", "gemini-2.5-pro", 400), ("groq", "openai/gpt-oss-120b", 110),
        ("openrouter", "anthropic/claude-sonnet-4.5", 200), ("openai", "ft:gpt-4o-mini:x::y", 110),
    ],
)  # fmt: skip
def test_each_family_has_its_factor(provider: str, model: str, times: int) -> None:
    """Hundred tokens of o200k are so many of the model's, from above."""
    assert factor(provider, model).times(100) == times
