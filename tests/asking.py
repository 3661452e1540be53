"""Whom the web asks, asked as the web does."""

from flask.testing import FlaskClient

from service import responder
from service.runtime import Runtime
from service.secrets import RESPONDER


def responder_of(runtime: Runtime) -> FlaskClient:
    """Return a client of a responder of this installation that shows what the web shows."""
    client = responder.create_app(runtime).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {runtime.secrets.salted(RESPONDER)}"
    return client
