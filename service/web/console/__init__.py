"""The operator's pages: plain HTML with forms, which htmx refreshes where something goes on."""

from service.web.console import (
    annotators,
    audits,
    corpora,
    evaluations,
    feedback,
    jobs,
    models,
    overview,
    people,
    playground,
    runs,
    sets,
    settings,
)
from service.web.console.page import bp

__all__ = [
    "annotators",
    "audits",
    "bp",
    "corpora",
    "evaluations",
    "feedback",
    "jobs",
    "models",
    "overview",
    "people",
    "playground",
    "runs",
    "sets",
    "settings",
]
