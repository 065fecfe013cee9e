"""Azure OpenAI and Foundry, where they differ from OpenAI: versions of the API, and errors that are billed.

The model stands in the URL or the body as the name of a deployment; `hosts:` in caps.yaml says what is behind it, and
so does the answer's `model`.
"""

from __future__ import annotations

import re

from llmcap_addon.call import Call
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.openai_common import ErrorMeter
from llmcap_addon.wire.text import JsonObject, mapping, parse_json

_DATED = re.compile(r"\d{4}-\d\d-\d\d")
_STREAM_OPTIONS_SINCE = "2024-09-01"
"""`stream_options` came with the API version 2024-09-01-preview and the stable 2024-10-21; older ones answer 400, and
so do requests with `data_sources`. Azure/azure-rest-api-specs issues 29157 and 30810, Azure/azure-sdk-for-js issue
30751. Foundry's /models stands at 2024-05-01-preview and ends its streams with a usage by itself."""

_BILLED_CODES = frozenset({"content_filter", "context_length_exceeded"})


def takes_stream_options(request: Request, target: Target, body: JsonObject) -> bool:
    """Tell whether a stream's usage can be asked for."""
    if target.provider != "azure":
        return True
    version = _DATED.match(request.query.get("api-version", ""))
    return (version is None or version[0] >= _STREAM_OPTIONS_SINCE) and not body.get("data_sources")


def error_meter(call: Call, head: ResponseHead) -> ErrorMeter:
    """Make the meter for an answer of status 400 or above."""
    return AzureErrorMeter(head.status) if call.provider == "azure" else ErrorMeter(call.provider)


class AzureErrorMeter(ErrorMeter):
    """Azure bills errors behind which it did the work: a filtered prompt, one beyond the limit, a time-out.

    "If the service performs processing, you may be charged even if the status code is not successful. For example, a
    400 error due to a content filter or input limit, or a 408 error due to a timeout"
    (https://learn.microsoft.com/azure/ai-services/openai/how-to/manage-costs); of a filtered prompt, "a charge for both
    the prompt and completion tokens will occur" (…/openai/concepts/content-filter). No usage comes with them, so they
    are posted from above.
    """

    def __init__(self, status: int) -> None:
        super().__init__("azure")
        self._status = status

    def on_body(self, body: bytes) -> None:
        """Look for a usage, or for one of those errors."""
        super().on_body(body)
        if self.reading.usage is not None:
            return
        try:
            error = mapping(mapping(parse_json(body)).get("error"))
        except ValueError:
            error = {}
        code = error.get("code")
        if self._status == 408 or (self._status == 400 and isinstance(code, str) and code in _BILLED_CODES):
            self.reading.usage = Usage()
            self.reading.unreadable = "Azure bills this error, and does not say how much"
