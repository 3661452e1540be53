"""Label Studio's own settings and one middleware more: an expert is shown no answer but their own.

The community edition shows every answer to every account, and whoever has read another's judges no longer for
themselves. Limits: exports hold all answers, and an account may still change another's by the API.
"""

from collections.abc import Callable, Mapping
from typing import Any

from core.settings.base import *  # noqa: F403  what the next line reads asks for them already
from label_studio.core.settings import label_studio as theirs

globals().update({name: value for name, value in vars(theirs).items() if name.isupper()})
MIDDLEWARE = [*theirs.MIDDLEWARE, "blind.OwnAnswersAlone"]

SUMMARY = "annotations_results"  # of all answers to a task, in the list of tasks


class OwnAnswersAlone:
    """Takes others' answers out of what a page or program gets, unless it is the administrator's."""

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        return self.get_response(request)

    def process_template_response(self, request: Any, response: Any) -> Any:
        """Look at what Django REST framework is about to write."""
        if hasattr(response, "data") and not request.user.is_superuser:
            response.data = next(iter(_own([response.data], request.user)), None)
        return response


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
