from __future__ import annotations

import gzip
import zlib

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.wire.encodings import UndecodableBody, decode_body, decoder

TEXT = b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\n' * 20


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


PACKED = {
    "": TEXT,
    "identity": TEXT,
    "gzip": gzip.compress(TEXT),
    "GZIP": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]),
    "deflate": zlib.compress(TEXT),
    " deflate ": raw_deflate(TEXT),
    "br": brotli.compress(TEXT),
    "zstd": zstandard.compress(TEXT[:100]) + zstandard.compress(TEXT[100:]),
    "gzip, br": brotli.compress(gzip.compress(TEXT)),
    "identity, zstd": zstandard.compress(TEXT),
}
ENCODED = {name: data for name, data in PACKED.items() if name not in ("", "identity")}


@pytest.mark.parametrize("encoding", PACKED)
def test_each_encoding_decodes_whole_and_byte_by_byte(encoding: str) -> None:
    """Every encoding that clients accept, several members or frames, and stacks of them, give the text."""
    packed = PACKED[encoding]
    assert decode_body(packed, encoding, len(TEXT)) == TEXT
    taken_off = decoder(encoding)
    pieces = [taken_off.feed(packed[place : place + 1]) for place in range(len(packed))]
    assert b"".join(pieces) + taken_off.end() == TEXT


def test_a_flush_is_decoded_at_once() -> None:
    """An event that the server flushed is there before the next one, in gzip, br and zstd."""
    gzipped = zlib.compressobj(wbits=31)
    brotlied = brotli.Compressor()
    zstandarded = zstandard.ZstdCompressor().compressobj()
    taken_off = {name: decoder(name) for name in ("gzip", "br", "zstd")}
    for number in range(5):
        event = b"data: %d\n\n" % number
        flushed = {
            "gzip": gzipped.compress(event) + gzipped.flush(zlib.Z_SYNC_FLUSH),
            "br": brotlied.process(event) + brotlied.flush(),
            "zstd": zstandarded.compress(event) + zstandarded.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK),
        }
        for name, data in flushed.items():
            assert taken_off[name].feed(data) == event


@pytest.mark.parametrize("encoding", ENCODED)
def test_a_lying_encoding_is_one_kind_of_error(encoding: str) -> None:
    """Plain text, noise and an unfinished body under an encoding's name raise UndecodableBody, nothing else."""
    for data in (b'{"model":"gpt-4o"}' * 40, b"\0\xff" * 500, PACKED[encoding][:-3]):
        with pytest.raises(UndecodableBody):
            decode_body(data, encoding, 10**6)


@pytest.mark.parametrize("encoding", ["snappy", "gzip;q=1", "a" * 5000, "gzip,gzip,gzip,gzip"])
def test_an_unknown_encoding_is_refused(encoding: str) -> None:
    """What can't be read is said, in a short message."""
    with pytest.raises(UndecodableBody) as caught:
        decoder(encoding)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, br"])
def test_a_bomb_is_stopped_at_the_bound(encoding: str) -> None:
    """Fifty megabytes of zeros never come out of a small body."""
    zeros = b"\0" * 50_000_000
    bomb = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "br": brotli.compress,
        "zstd": zstandard.compress,
        "gzip, br": lambda data: brotli.compress(gzip.compress(data)),
    }[encoding](zeros)
    with pytest.raises(UndecodableBody, match="more than 1000000 bytes"):
        decode_body(bomb, encoding, 1_000_000)


def test_an_unencoded_body_is_bounded_too() -> None:
    """The bound holds for what comes as it is."""
    with pytest.raises(UndecodableBody):
        decode_body(b"12345", "", 4)


@pytest.mark.parametrize("encoding", ENCODED)
@given(noise=st.binary(max_size=300))
def test_noise_raises_nothing_else(encoding: str, noise: bytes) -> None:
    """Any bytes either decode or raise UndecodableBody."""
    try:
        decode_body(noise, encoding, 10**6)
    except UndecodableBody:
        pass
