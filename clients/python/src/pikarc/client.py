"""Where the published client keeps its class. New code imports from `pikarc`."""

from pikarc._client import AsyncPikarc

__all__ = ["AsyncPikarc"]
