"""Where a ledger in Redis is: `redis://` and `rediss://` URLs, read strictly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES = ("redis", "rediss")
FORMS = "redis://[USER:PASSWORD@]HOST[:PORT][/DB][?prefix=NAME], rediss://… for TLS (&ca=/absolute/path.pem)"
DEFAULT_PREFIX = "llmcap"
_DEFAULT_PORT = 6379
_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """One ledger in one Redis; as text it holds no password."""

    host: str
    port: int
    database: int
    username: str | None
    password: str | None
    tls: bool
    ca: Path | None
    """Certificates that the server's is checked against instead of the system's."""
    prefix: str
    """What all keys begin with, in braces: one slot of a cluster."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.database} ({{{self.prefix}}})"


def is_redis(url: str) -> bool:
    """Whether a store's URL means Redis, rightly or wrongly written."""
    return url.partition(":")[0] in SCHEMES


def read_redis_url(url: str) -> RedisPlace:
    """Read a URL of the `FORMS`. Raises ValueError, which says what was found and repeats nothing of a password."""
    scheme = url.partition(":")[0]
    wrong = f'"{scheme}://…" with {{}}'
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise ValueError(wrong.format("an address that can't be read")) from error
    if not host or parts.fragment or not url.startswith(f"{scheme}://"):
        raise ValueError(wrong.format("no host" if not host else "a # in it (in a password write %23)"))
    database = parts.path.removeprefix("/") or "0"
    if not re.fullmatch(r"[0-9]{1,5}", database):
        raise ValueError(wrong.format(f'"{database}" for the number of the database'))
    if unknown := options.keys() - {"prefix", "ca"}:
        raise ValueError(wrong.format(f'the option "{min(unknown)}"'))
    prefix = options.get("prefix", DEFAULT_PREFIX)
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(wrong.format(f'prefix "{prefix}" (letters, digits and . _ : - only, at most 64)'))
    ca = Path(options["ca"]) if "ca" in options else None
    if ca is not None and (scheme != "rediss" or not ca.is_absolute()):
        raise ValueError(wrong.format("ca=, which takes rediss:// and an absolute path"))
    return RedisPlace(
        host=host,
        port=port or _DEFAULT_PORT,
        database=int(database),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=scheme == "rediss",
        ca=ca,
        prefix=prefix,
    )
