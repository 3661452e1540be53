"""Label Studio's own settings and one middleware more: an expert is shown no answer but their own, and changes none.

The community edition lets every account do everything: read and change others' answers, import some in their names,
rewrite what is asked. Of its API an expert gets what the labelling page needs, and no more.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, JsonResponse

# isort: split
from core.settings.base import *  # noqa: F403  what the next line reads asks for them already
from label_studio.core.settings import label_studio as theirs

globals().update({name: value for name, value in vars(theirs).items() if name.isupper()})
MIDDLEWARE = [*theirs.MIDDLEWARE, "blind.OwnAnswersAlone"]

SUMMARY = "annotations_results"  # of all answers to a task, in the list of tasks
PREPROCESS_FIELD_NAME = "blind.unless_by_answers"
_READING = ("GET", "HEAD", "OPTIONS")
# What leads elsewhere (exports, storages, models, webhooks) or sums up all answers is left out.
_READ = re.compile(
    r"/api/(version/|users/(\d+/)?|current-user/.*|token/.*|ml/|label_links/|labels/|predictions/|templates/"
    r"|projects/(\d+/)?(next/|label-stream-history/)?|dm/(project|columns|views|actions)/.*"
    r"|tasks/(\d+/)?|tasks/\d+/(annotations/|drafts)|(annotations|drafts)/\d+/)"
)
_WRITTEN = re.compile(
    r"/api/(current-user/.*|token/.*|dm/views/.*|tasks/\d+/(annotations/|(annotations/\d+/)?drafts))"
)
_ANSWER = re.compile(r"/api/(annotations|drafts)/(\d+)/(convert-to-draft)?")


def unless_by_answers(field: str, project: Any) -> Any:
    """Refuse to filter or sort by what was answered: whoever guesses would be told by what is found."""
    from data_manager.functions import preprocess_field_name  # noqa: PLC0415 - reads the settings that this module is

    if SUMMARY in field:
        raise PermissionDenied("tasks are not looked up by their answers here")
    return preprocess_field_name(field, project)


class OwnAnswersAlone:
    """Takes others' answers out of what a page or program gets, unless it is the administrator's."""

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        return self.get_response(request)

    def process_view(
        self, request: Any, view: Any, args: list[Any], kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        """Refuse what is for the administrator alone, before it is done."""
        if not request.path.startswith(("/api/", "/tasks/", "/storage-data/")) or _is_open(request):
            return None
        found, user = _ANSWER.fullmatch(request.path), _user(request, view)
        if user and (user.is_superuser or (found and _gave(user, *found.group(1, 2)))):
            return None
        return JsonResponse({"detail": "This is for the administrator, or whose answer it is."}, status=403)

    def process_template_response(self, request: Any, response: Any) -> Any:
        """Look at what Django REST framework is about to write."""
        if hasattr(response, "data") and not request.user.is_superuser:
            response.data = next(iter(_own([response.data], request.user)), None)
        return response


def _is_open(request: Any) -> bool:
    """Say whether every account may do this."""
    if request.method in _READING:
        return _READ.fullmatch(request.path) is not None
    if request.path.startswith("/api/dm/actions"):
        return bool(request.GET.getlist("id") == ["next_task"])
    return _WRITTEN.fullmatch(request.path) is not None


def _user(request: Any, view: Any) -> Any:
    """Return who asks, by session or token, as the view will see it; None for nobody."""
    from rest_framework.exceptions import APIException  # noqa: PLC0415 - likewise

    if request.user.is_authenticated:
        return request.user
    try:
        return view.cls().initialize_request(request).user
    except (APIException, AttributeError):  # not even a view of the API
        return None


def _gave(user: Any, kind: str, identifier: str) -> bool:
    from tasks.models import Annotation, AnnotationDraft  # noqa: PLC0415 - likewise

    if kind == "drafts":
        return bool(AnnotationDraft.objects.filter(pk=identifier, user=user).exists())
    return bool(Annotation.objects.filter(pk=identifier, completed_by=user).exists())


def _own(items: list[Any], user: Any) -> list[Any]:
    return [_without_others(item, user) for item in items if _is_own(item, user)]


def _without_others(item: Any, user: Any) -> Any:
    if isinstance(item, list | tuple):
        return _own(list(item), user)
    if isinstance(item, Mapping):
        told = {name: _without_others(value, user) for name, value in item.items()}
        return told | {SUMMARY: ""} if SUMMARY in told else told
    return item


def _is_own(item: Any, user: Any) -> bool:
    """Say whether what is shown is no answer, or is this user's: a draft names its author by their address."""
    if not isinstance(item, Mapping):
        return True
    author = item.get("completed_by")
    is_by_them = (author.get("id") if isinstance(author, Mapping) else author) in (None, user.pk)
    return is_by_them and ("result" not in item or str(item.get("user", user)) == str(user))
