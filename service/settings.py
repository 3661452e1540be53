"""The one place that reads the environment."""

import json
import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.errors import ConfigurationError

PREFIX = "ERRATA_"


def _without_credentials(url: str) -> str:
    """Refuse a URL that would put a password into Git, or into a message."""
    parts = urlsplit(url)
    if parts.password or (parts.username and parts.scheme in ("http", "https")):
        raise ValueError("holds credentials; see deploy/env.example for where they belong")
    return url


def _readable(options: SecretStr) -> SecretStr:
    """Refuse options that are no JSON object of texts, without repeating them."""
    try:
        document = json.loads(options.get_secret_value() or "{}")
    except ValueError:
        document = None
    if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
        raise ValueError('a JSON object of texts is needed, such as {"user": "…", "password": "…"}')
    return options


def _listed(given: object) -> object:
    """Read values with commas between them."""
    return given.split(",") if isinstance(given, str) else given


RestSeconds = Annotated[float, Field(ge=0, le=604_800)]


class Settings(BaseSettings):
    """Each field is set by the environment variable ERRATA_<FIELD>; `deploy/env.example` lists them all."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", allow_inf_nan=False
    )

    secrets_dir: Path | None = None
    data_dir: Path = Path("data")
    cache_dir: Path = Field(default_factory=lambda: _user_cache() / "errata")
    database_url: str = ""
    redis_url: str = ""
    artifacts_url: str = ""
    token: SecretStr = SecretStr("")
    engine: str = Field(default="local", pattern="^(local|accelerate)$")

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    public_url: str = ""
    web_threads: int = Field(default=8, ge=1)
    max_body_bytes: int = Field(default=262_144, ge=1024)
    max_feedback_bytes: int = Field(default=16_384, ge=1024)
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_listed)] = ()
    key_rate: int = Field(default=6000, ge=0)
    token_rate: int = Field(default=120, ge=0)
    subject_rate: int = Field(default=120, ge=0)
    address_rate: int = Field(default=600, ge=0)
    key_quota: int = Field(default=100_000, ge=0)
    feedback_token_days: float = Field(default=30, gt=0)
    session_hours: float = Field(default=12, gt=0)
    session_idle_minutes: float = Field(default=30, gt=0)

    label_studio: bool = True
    label_studio_url: str = ""
    label_studio_token: SecretStr = SecretStr("")
    label_studio_port: int = Field(default=0, ge=0, le=65535)
    argilla: bool = False
    argilla_url: str = ""
    argilla_api_key: SecretStr = SecretStr("")
    argilla_port: int = Field(default=0, ge=0, le=65535)
    tool_retry_seconds: float = Field(default=15, gt=0)
    tool_retry_max_seconds: float = Field(default=600, gt=0)

    data_repository: Path | None = None
    dvc_remote_url: Annotated[str, AfterValidator(_without_credentials)] = ""
    dvc_remote_options: Annotated[SecretStr, AfterValidator(_readable)] = SecretStr("")
    mlflow_url: Annotated[str, AfterValidator(_without_credentials)] = ""

    notice_seconds: int = Field(default=5, ge=1)
    notice_timeout_seconds: float = Field(default=15, gt=0, le=60)
    notice_retry_seconds: Annotated[tuple[RestSeconds, ...], NoDecode, BeforeValidator(_listed)] = (
        *(5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400),
    )
    notice_to_loopback: bool = False
    digest_seconds: int = Field(default=86_400, ge=1)

    serving_seconds: int = Field(default=10, ge=1)
    serving_timeout_seconds: float = Field(default=30, gt=0, le=600)
    serving_token: SecretStr = SecretStr("")

    lease_seconds: float = Field(default=30, gt=0)
    sweep_seconds: int = Field(default=5, ge=1)
    sync_seconds: int = Field(default=60, ge=1)
    inbox_days: float = Field(default=30, gt=0)
    triage_seconds: int = Field(default=10, ge=1)
    quality_seconds: int = Field(default=3600, ge=1)
    trigger_seconds: int = Field(default=60, ge=1)
    monitor_seconds: int = Field(default=900, ge=1)
    retry_seconds: float = Field(default=10, ge=0)
    max_attempts: int = Field(default=3, ge=1)
    light_job_seconds: int = Field(default=900, ge=1)
    heavy_job_seconds: int = Field(default=21_600, ge=1)
    responder_poll_seconds: float = Field(default=1, gt=0)
    training_threads: int = Field(default=0, ge=0)
    training_processes: int = Field(default=2, ge=1, le=64)

    @property
    def database(self) -> str:
        """The database's URL: a SQLite file in the data directory unless one is set."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'errata.db'}"

    @property
    def artifacts(self) -> str:
        """The artifact store's URL: a folder in the data directory unless one is set."""
        return self.artifacts_url or f"file://{self.data_dir.resolve() / 'artifacts'}"

    @property
    def mirror(self) -> Path:
        """The Git repository of the training sets: a folder in the data directory unless one is set."""
        return (self.data_repository or self.data_dir / "data-repository").resolve()

    @property
    def work(self) -> Path:
        """What training runs keep while they are at work, a folder each."""
        return self.data_dir.resolve() / "work"

    @property
    def scratch(self) -> Path:
        """What jobs keep for a moment."""
        return self.work / "scratch"

    @property
    def responder_socket(self) -> Path:
        """The private socket on which the champion answers the web."""
        return self.data_dir.resolve() / "run" / "responder.sock"

    @property
    def own_url(self) -> str:
        """Where browsers and annotation tools reach the web server."""
        return self.public_url.rstrip("/") or f"http://{self.host}:{self.port}"


def load() -> Settings:
    """Read the environment.

    Raises:
        ConfigurationError: a setting is unknown or wrong; the message names it.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    ours = {name.upper() for name in os.environ if name.upper().startswith(PREFIX)}
    if unknown := sorted(ours - known):
        raise ConfigurationError(f"{unknown[0]}: no such setting; see deploy/env.example")
    place = os.environ.get(f"{PREFIX}SECRETS_DIR") or None
    if place and not Path(place).is_dir():
        raise ConfigurationError(f"{PREFIX}SECRETS_DIR: {place} is no directory")
    try:
        return Settings(_secrets_dir=place)
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise ConfigurationError(f"{name}: {first['msg']}") from error


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache")
