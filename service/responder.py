"""One process on a private socket that holds base models and champions, and answers for the web.

A reference responder for the demo and for trying models out, not a serving engine.
"""

import threading
import time
from dataclasses import dataclass, field
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
from service.tables import Document, DocumentKind, ModelState, ModelVersion, Project, ProjectKind

MAX_NEW_TOKENS = 128


class Question(BaseModel):
    """A conversation, and the project whose champion answers it."""

    project: str
    messages: list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Champion:
    """Who answers for a project now, and how."""

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
    _champions: dict[str, tuple[float, Champion]] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, question: Question) -> tuple[Champion, str]:
        """Return who answered and what.

        Raises:
            NotFound: there is no such project.
            UnknownBaseModel: the project's base model does not load.
        """
        champion = self._champion(question.project)
        messages = [Message(**message) for message in question.messages]
        if messages[0].role != "system":
            messages.insert(0, Message("system", champion.system_prompt))
        with self._turn:
            model = self._model(champion)
            with model.using(champion.adapter):
                if champion.labels:
                    return champion, model.classify([messages], champion.labels)[0]
                return champion, model.answer([messages], max_new_tokens=MAX_NEW_TOKENS)[0]

    def _model(self, champion: Champion) -> LanguageModel:
        model = self._models.get(champion.base_model)
        if model is None:
            base = locate(champion.base_model, self.runtime.settings.cache_dir / "models")
            model = LanguageModel.load(base.directory, system_prompt="")
            self._models[champion.base_model] = model
        if champion.adapter and (champion.base_model, champion.adapter) not in self._adapters:
            with TemporaryDirectory() as folder:
                self.runtime.artifacts.fetch_directory(champion.adapter, Path(folder) / "adapter")
                model.add_adapter(champion.adapter, Path(folder) / "adapter")
            self._adapters.add((champion.base_model, champion.adapter))
        return model

    def _champion(self, slug: str) -> Champion:
        """Look the champion up again once what is known is older than the polling interval."""
        known = self._champions.get(slug)
        if known and time.monotonic() - known[0] < self.runtime.settings.responder_poll_seconds:
            return known[1]
        with self.runtime.db.reading() as session:
            found = session.exec(
                select(Project, ModelVersion, Document)
                .where(ModelVersion.project_id == Project.id, Document.project_id == Project.id)
                .where(Project.slug == slug, ModelVersion.state == ModelState.CHAMPION)
                .where(Document.kind == DocumentKind.LABEL_SCHEMA)
                .order_by(col(Document.version).desc())
            ).first()
        if found is None:
            raise NotFound(f"no project {slug!r}")
        project, version, schema = found
        labels = schema.content["labels"] if project.kind is ProjectKind.CLASSIFICATION else ()
        champion = Champion(
            version_id=str(version.id),
            number=version.number,
            base_model=project.base_model,
            adapter=version.adapter_sha256,
            system_prompt=project.system_prompt,
            labels=tuple(labels),
        )
        self._champions[slug] = time.monotonic(), champion
        return champion


def create_app(runtime: Runtime) -> Flask:
    """Build the responder's private application; only the web on this machine can reach its socket."""
    app = Flask(__name__)
    responder = Responder(runtime)

    @app.post("/answer")
    def answer() -> Any:
        try:
            champion, text = responder.answer(Question.model_validate_json(request.get_data()))
        except NotFound as error:
            return Response(str(error), 404)
        return {"text": text, "model_version_id": champion.version_id, "model_version": f"v{champion.number}"}

    return app


def from_environment_app() -> Flask:
    """Build the responder of this process's environment; the server calls it."""
    logs.configure()
    return create_app(from_environment())
