"""Tokens and their time: the cache, and the acquisition in flight."""
