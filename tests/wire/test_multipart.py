from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.multipart import MAX_PARTS, read_form, text_of

TYPE = "multipart/form-data; boundary=b"


def form(*parts: tuple[str, bytes]) -> bytes:
    body = b"".join(b"--b\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return body + b"--b--\r\n"


def field(name: str, value: bytes) -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"', value


def test_fields_and_files_are_told_apart() -> None:
    """Names come without the brackets of lists, files by their name, and bytes stand where they stood."""
    head = 'Content-Disposition: form-data; filename="a;name=x.wav"; name="file[]"\r\nContent-Type: audio/wav'
    body = form(field("model", b"whisper-1"), (head, b"\r\n--x\r\nRIFF"))
    model, file = read_form(body, 'multipart/form-data; charset=utf-8; boundary="b"')
    assert (model.name, bytes(model.data), model.is_file) == ("model", b"whisper-1", False)
    assert (file.name, bytes(file.data), file.is_file) == ("file", b"\r\n--x\r\nRIFF", True)
    assert file.data.obj is body
    assert (text_of((model, file), "model"), text_of((model, file), "prompt")) == ("whisper-1", "")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{}", "application/json"),
        (b"{}", "multipart/form-data"),
        (b"{}", TYPE),
        (b"--b", TYPE),
        (b"--b\r\n", TYPE),
        (form(field("a", b""))[:-5], TYPE),
        (b"x" + form(field("a", b"")), TYPE),
        (form(field("a", b"")).replace(b"\r\n", b"\n"), TYPE),
        (form(("Content-Type: text/plain", b"")), TYPE),
        (form(("Content-Disposition: form-data; name=a; name=b", b"")), TYPE),
        (form((field("a", b"")[0] + "\r\n" + field("b", b"")[0], b"")), TYPE),
        (form(("X: " + "y" * 9_000 + "\r\n" + field("a", b"")[0], b"")), TYPE),
        (form(*[field("a", b"")] * (MAX_PARTS + 1)), TYPE),
        (form(field("a", b"")), "multipart/form-data; boundary=" + "b" * 71),
    ],
)
def test_what_two_readers_could_take_differently_is_unreadable(body: bytes, content_type: str) -> None:
    """Without its boundary, its end or a name there is no form."""
    with pytest.raises(UnreadableRequest):
        read_form(body, content_type)


def test_a_field_that_is_there_twice_is_unreadable() -> None:
    """Servers differ on which of two models counts; and a file, or bytes that are no UTF-8, name none."""
    for body in (
        form(field("model", b"a"), field("model", b"b")),
        form(("Content-Disposition: form-data; name=model; filename=x", b"a")),
        form(field("model", b"\xff")),
    ):
        with pytest.raises(UnreadableRequest):
            text_of(read_form(body, TYPE), "model")


@given(st.binary(max_size=300), st.text(max_size=40))
def test_no_body_raises_anything_but_unreadable(body: bytes, content_type: str) -> None:
    """Whatever stands where, it is a form or UnreadableRequest."""
    for kind in (TYPE, content_type, "multipart/form-data; boundary=" + content_type):
        for data in (body, form(field("a", body)), b"--b\r\n" + body + b"\r\n--b--"):
            try:
                read_form(data, kind)
            except UnreadableRequest:
                pass
