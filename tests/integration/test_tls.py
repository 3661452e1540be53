"""What we say to PostgreSQL and Redis is said in TLS where the setting says so, and only to whom it names.

Neither bundled server speaks TLS, so the proxy ends it, as a sidecar or a cloud's front does.
"""

import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from redis.exceptions import ConnectionError as RedisIsDown
from sqlalchemy import make_url

from service.runtime import Runtime, build
from tests.certificates import make_certificate
from tests.fault_proxy import RunningProxy, in_between
from tests.flagging import Flagging


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder)
    return folder


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Path:
    """The certificate of somebody else."""
    folder = tmp_path_factory.mktemp("stranger")
    make_certificate(folder)
    return folder


def server_side(folder: Path, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


@pytest.fixture
def redis(valkey_url, certificate) -> Iterator[RunningProxy]:
    with in_between(Path(urlsplit(valkey_url).path), server_side(certificate)) as proxy:
        yield proxy


@pytest.fixture
def postgresql(postgres, certificate) -> Iterator[RunningProxy]:
    socket = Path(str(postgres.url.query["host"])) / ".s.PGSQL.5432"
    with in_between(socket, server_side(certificate, "postgresql")) as proxy:
        yield proxy


def at_redis(runtime: Runtime, proxy: RunningProxy, authority: Path, scheme: str = "rediss") -> Runtime:
    url = f"{scheme}://127.0.0.1:{proxy.port}/0" + (
        f"?ssl_ca_certs={quote(str(authority / 'tls.crt'))}" if scheme == "rediss" else ""
    )
    return build(runtime.settings.model_copy(update={"redis_url": url}))


def test_redis_is_spoken_to_in_tls(runtime, redis, certificate):
    made = at_redis(runtime, redis, certificate)
    assert made.queue.redis.ping()
    made.queue.redis.close()


@pytest.mark.parametrize("scheme", ["rediss", "redis"])
def test_a_redis_of_somebody_else_hears_nothing_and_without_tls_nobody_answers(
    runtime, redis, stranger, scheme
):
    made = at_redis(runtime, redis, stranger, scheme)
    with pytest.raises(RedisIsDown):
        made.queue.redis.ping()
    made.queue.redis.close()


def at_postgresql(settings, direct: str, proxy: RunningProxy, **query: str) -> Runtime:
    url = make_url(direct).difference_update_query(["host"])
    url = url.set(host="127.0.0.1", port=proxy.port).update_query_dict({"sslnegotiation": "direct", **query})
    return build(settings.model_copy(update={"database_url": url.render_as_string(hide_password=False)}))


@pytest.fixture
def direct(postgres, migrated_postgres) -> Iterator[str]:
    url = postgres.database(template=migrated_postgres)
    yield url
    postgres.drop(url)


def test_postgresql_is_spoken_to_in_tls(settings, direct, postgresql, certificate):
    root = str(certificate / "tls.crt")
    made = at_postgresql(settings, direct, postgresql, sslmode="verify-full", sslrootcert=root)
    assert Flagging(made).flag().status_code == 201
    made.db.close()
    made.queue.redis.close()


def test_a_postgresql_of_somebody_else_is_refused_before_a_word_is_said(
    settings, direct, postgresql, certificate, stranger
):
    root = str(stranger / "tls.crt")
    made = at_postgresql(settings, direct, postgresql, sslmode="verify-full", sslrootcert=root)
    with pytest.raises(Exception, match="certificate verify failed"), made.db.reading() as session:
        session.connection()
    made.db.close()
    made.queue.redis.close()
