"""Amazon Bedrock's paths: `/model/{modelId}/{operation}`, where the model may be a name, a profile or an ARN.

Patterns as in botocore's `bedrock-runtime` model (`ConversationalModelId`, `InvokeModelIdentifier`, `InvokedModelId`).
SDKs percent-encode the whole id, so an ARN's slashes come as %2F; whoever signs a path by hand may encode it twice.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

MODEL_PATH = r"/model/(?P<model>.+)"
"""What stands before the operation; greedy, for an ARN may hold anything but the last slash."""

_ONE_MODEL = re.compile(r"(.*/model/)(.+)(/[a-z-]+)/?")
_ARN = re.compile(r"arn:aws[a-z-]*:(?:bedrock|sagemaker):[^:]*:[^:]*:(?:([a-z-]+)/)?(.+)")
_NAMING = frozenset({"foundation-model", "inference-profile"})
"""Kinds of ARNs that end in a name of the price list. Application profiles, provisioned, imported and custom models,
routers, prompts and endpoints end in an id of somebody's account, which says nothing of the model behind it."""
_PROFILE = re.compile(r"(?:us-gov|us|eu|apac|ap|jp|au|ca|sa|me|af|in|il|mx|global)\.(?=[a-z0-9-]+\.)")
"""What a cross-region inference profile puts before a model's id ("us.anthropic.claude-…")."""


def decoded(path: str) -> str:
    """Take a second layer of percent-encoding off the model in a path, if there is one; the rest stays as it is.

    `/model/` is followed by one segment only, whatever it holds, so no other operation can hide in it.
    """
    match = _ONE_MODEL.fullmatch(path)
    if match is None:
        return path
    before, model, operation = match.groups()
    return f"{before}{unquote(model, errors='replace')}{operation}"


def model_name(model_id: str) -> str:
    """Give the name that the price list knows: an ARN's tail where that is a model's or a profile's own.

    Of any other ARN the kind and the id ("application-inference-profile/abc123"), which only `hosts:` or `prices:` can
    make sense of; the account's number is left out.
    """
    arn = _ARN.fullmatch(model_id)
    if arn is None:
        return model_id
    kind, tail = arn.groups()
    if kind in _NAMING:
        return str(tail)
    return f"{kind}/{tail}" if kind else str(tail)


def base_name(model: str) -> str:
    """Give a model's id without the profile before it: "us.anthropic.claude-…" is Anthropic's model."""
    match = _PROFILE.match(model)
    return model[match.end() :] if match else model


def maker(model: str) -> str:
    """Name who made a model ("anthropic", "amazon", "meta"); empty for an id that does not say."""
    name, dot, _ = base_name(model).partition(".")
    return name if dot and "/" not in name else ""


def operation(path: str) -> str:
    """Name the operation, the last segment of a path."""
    return unquote(path.rstrip("/").rpartition("/")[2])
