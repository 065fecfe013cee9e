"""What Bedrock's own dialects share: refusals and cuts in AWS's error shape, and the terms of a call.

Errors as botocore's `BaseRestParser` and the AWS SDK for JavaScript read them: the status, the type in the header
`x-amzn-ErrorType`, `{"message": …}`; inside a stream, a frame whose `:message-type` is "exception".
"""

from __future__ import annotations

from llmcap_addon.usage import Terms
from llmcap_addon.wire.dialect import Meter, Refusal, Response
from llmcap_addon.wire.eventstream import FrameMeter, encode_frame
from llmcap_addon.wire.replies import encode_json, json_response
from llmcap_addon.wire.text import MAX_COUNT

_TYPES = {
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}
"""The statuses of `bedrock-runtime`'s errors; 400 stands for several."""

TIER_HEADER = "x-amzn-bedrock-service-tier"
LATENCY_HEADER = "x-amzn-bedrock-performanceconfig-latency"
"""On InvokeModel's requests what is asked for, on its responses what was applied."""

MAX_WORD_CHARS = 40


def refusal_response(refusal: Refusal, status: int) -> Response:
    """Shape a refusal as AWS's SDKs raise it: `ClientError` in boto3, an exception of that name elsewhere.

    A quota that is used up is what a full cap is most like, and no SDK repeats it; throttling, 424 and 5xx are
    repeated.
    """
    if status in _TYPES:
        kind = _TYPES[status]
    elif status >= 500:
        kind = "InternalServerException"
    else:
        kind = "ServiceQuotaExceededException" if refusal.kind in ("spent", "reserved") else "ValidationException"
    response = json_response(refusal, status, {"message": refusal.message})
    return Response(status, (*response.headers, ("x-amzn-errortype", kind)), response.body)


def cut_frame(refusal: Refusal, meter: Meter) -> bytes:
    """End a stream with an exception; an answer that is no stream, or a broken one, can only break off.

    `validationException` is in the unions of both streams (`ConverseStreamOutput`, `ResponseStream`), and the only one
    there that no SDK takes for passing.
    """
    if not isinstance(meter, FrameMeter) or meter.inside_frame:
        return b""
    headers = {
        ":exception-type": "validationException",
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return encode_frame(headers, encode_json({"message": refusal.message}))


def terms(tier: object, latency: object) -> Terms:
    """Make terms of a service tier ("default", "priority", "flex", "reserved") and a latency ("optimized")."""
    return Terms(service_tier=_word(tier), speed=_word(latency))


def header_count(value: str | None) -> int | None:
    """Read a token count from a response's header; None when it is absent or none."""
    if value is None or not value.isascii() or not value.isdigit() or len(value) > len(str(MAX_COUNT)):
        return None
    return int(value)


def _word(value: object) -> str:
    return value.lower() if isinstance(value, str) and len(value) <= MAX_WORD_CHARS else ""
