"""LLMCap: a fuse for LLM spend, as a mitmproxy addon."""
