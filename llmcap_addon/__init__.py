"""LLMCap: a fuse for LLM spend, as a mitmproxy addon."""

__version__ = "0.1.0"
