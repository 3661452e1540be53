"""How views reach the runtime."""

from typing import cast

from flask import current_app

from service.runtime import Runtime


def runtime() -> Runtime:
    """Return the runtime that the application was built around."""
    return cast(Runtime, current_app.extensions["runtime"])
