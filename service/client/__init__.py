"""Errata's client, with nothing but the standard library: what a host's backend needs beside its model's client."""

from .intake import Errata, IntakeError
from .signing import BadToken, sign
from .wrapping import wrap

__all__ = ["BadToken", "Errata", "IntakeError", "sign", "wrap"]
