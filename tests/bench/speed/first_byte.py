"""A tool that makes one call and ends: what `llmcap run` starts in the benchmark of its start.

`python -I -S first_byte.py HOST REQUEST_FILE` goes where HTTPS_PROXY says, trusts SSL_CERT_FILE, and prints when the
first byte of the answer was here, in nanoseconds of the monotonic clock.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
import time

TIMEOUT_S = 30


def main(host: str, request_file: str) -> None:
    """Make the call."""
    proxy, _, port = os.environ["HTTPS_PROXY"].removeprefix("http://").rstrip("/").rpartition(":")
    plain = socket.create_connection((proxy, int(port)), timeout=TIMEOUT_S)
    plain.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
    told = b""
    while not told.endswith(b"\r\n\r\n"):
        told += plain.recv(4096)
    secured = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"]).wrap_socket(plain, server_hostname=host)
    with open(request_file, "rb") as file:  # noqa: PTH123  to import pathlib takes longer than the rest
        secured.sendall(file.read())
    begun = secured.recv(65_536)
    now_ns = time.monotonic_ns()
    if not begun.startswith(b"HTTP/1.1 200"):
        sys.exit(f"refused: {begun!r}")
    print(now_ns)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
