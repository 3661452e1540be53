"""One process on a private socket that holds base models and champions, and answers for the web.

A reference responder for the demo and for trying models out, not a serving engine.
"""

import threading
import time
from dataclasses import dataclass, field
from hmac import compare_digest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flask import Flask, Response, request
from pydantic import BaseModel
from sqlmodel import col, select

from retrain.base_models import locate
from retrain.generate import LanguageModel
from retrain.types import Message
from service import logs
from service.errors import NotFound
from service.runtime import Runtime, from_environment
from service.secrets import RESPONDER
from service.tables import Document, DocumentKind, ModelState, ModelVersion, Project, ProjectKind

MAX_NEW_TOKENS = 128


class Question(BaseModel):
    """A conversation, and the project whose champion, or version `number`, answers it."""

    project: str
    number: int | None = None
    messages: list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Version:
    """A model version that answers for a project, and how."""

    version_id: str
    number: int
    base_model: str
    adapter: str | None
    system_prompt: str
    labels: tuple[str, ...]


@dataclass(slots=True)
class Responder:
    """Answers one question at a time.

    Not in batches: bfloat16 rounds by the shape of a batch, and an answer must not hang on who else asks just now.
    """

    runtime: Runtime
    _models: dict[str, LanguageModel] = field(default_factory=dict)
    _adapters: set[tuple[str, str]] = field(default_factory=set)
    _versions: dict[tuple[str, int | None], tuple[float, Version]] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, question: Question) -> tuple[Version, str]:
        """Return who answered and what.

        Raises:
            NotFound: there is no such project or version.
            UnknownBaseModel: the project's base model does not load.
        """
        version = self._version(question.project, question.number)
        messages = [Message(**message) for message in question.messages]
        if messages[0].role != "system":
            messages.insert(0, Message("system", version.system_prompt))
        with self._turn:
            model = self._model(version)
            with model.using(version.adapter):
                if version.labels:
                    return version, model.classify([messages], version.labels)[0]
                return version, model.answer([messages], max_new_tokens=MAX_NEW_TOKENS)[0]

    def _model(self, version: Version) -> LanguageModel:
        model = self._models.get(version.base_model)
        if model is None:
            base = locate(version.base_model, self.runtime.settings.cache_dir / "models")
            model = LanguageModel.load(base.directory, system_prompt="")
            self._models[version.base_model] = model
        if version.adapter and (version.base_model, version.adapter) not in self._adapters:
            with TemporaryDirectory() as folder:
                self.runtime.artifacts.fetch_directory(version.adapter, Path(folder) / "adapter")
                model.add_adapter(version.adapter, Path(folder) / "adapter")
            self._adapters.add((version.base_model, version.adapter))
        return model

    def _version(self, slug: str, number: int | None) -> Version:
        """Look a version up again once what is known is older than the polling interval."""
        known = self._versions.get((slug, number))
        if known and time.monotonic() - known[0] < self.runtime.settings.responder_poll_seconds:
            return known[1]
        is_meant = (
            ModelVersion.state == ModelState.CHAMPION if number is None else ModelVersion.number == number
        )
        with self.runtime.db.reading() as session:
            found = session.exec(
                select(Project, ModelVersion, Document)
                .where(ModelVersion.project_id == Project.id, Document.project_id == Project.id)
                .where(Project.slug == slug, is_meant)
                .where(Document.kind == DocumentKind.LABEL_SCHEMA)
                .order_by(col(Document.version).desc())
            ).first()
        if found is None:
            raise NotFound(
                f"no project {slug!r}" if number is None else f"project {slug} has no version {number}"
            )
        project, model, schema = found
        is_chosen = project.kind is ProjectKind.CLASSIFICATION and not schema.content.get("is_multi_label")
        labels = schema.content["labels"] if is_chosen else ()
        version = Version(
            version_id=str(model.id),
            number=model.number,
            base_model=project.base_model,
            adapter=model.adapter_sha256,
            system_prompt=project.system_prompt,
            labels=tuple(labels),
        )
        self._versions[slug, number] = time.monotonic(), version
        return version


def create_app(runtime: Runtime) -> Flask:
    """Build the responder's private application, for whoever holds this installation's secrets."""
    app = Flask(__name__)
    responder, ours = Responder(runtime), f"Bearer {runtime.secrets.salted(RESPONDER)}"

    @app.get("/livez")
    def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/answer")
    def answer() -> Any:
        if not compare_digest(request.headers.get("Authorization", "").encode(), ours.encode()):
            return Response("not the web", 401)
        try:
            version, text = responder.answer(Question.model_validate_json(request.get_data()))
        except NotFound as error:
            return Response(str(error), 404)
        return {"text": text, "model_version_id": version.version_id, "model_version": f"v{version.number}"}

    return app


def from_environment_app() -> Flask:
    """Build the responder of this process's environment; the server calls it."""
    logs.configure()
    return create_app(from_environment())
