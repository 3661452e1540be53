"""The job that hands what is live to what serves it, and the HTTP that it speaks."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import httpx
from standardwebhooks import Webhook

from retrain.examination import MAX_NEW_TOKENS
from retrain.types import canonical_json
from service import outgoing, tokens
from service.clock import utcnow
from service.errors import TryAgain
from service.queue import Lease
from service.runtime import Runtime
from service.stages import serving

ALREADY = "already"  # vLLM refuses to load what is loaded, and says so


def serve(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Bring each target of a project to what is live."""
    return serving.perform(runtime, lease, lease.row_id, Http(runtime))


class Http:
    """Speaks to serving engines as OpenAI's clients and vLLM's do; each request has its time."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        token = runtime.settings.serving_token.get_secret_value()
        self.headers = {"authorization": f"Bearer {token}"} if token else {}

    def load(self, url: str, name: str, path: str) -> None:
        """Have a vLLM server load an adapter from where it sees it.

        Raises:
            TryAgain: it does not answer, or refuses.
        """
        answer = self._post(f"{url}/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})
        if not answer.is_success and ALREADY not in answer.text:
            raise TryAgain(f"{url}: the adapter is not loaded: {answer.status_code}")

    def answer(self, url: str, model: str, questions: Mapping[str, list[dict[str, str]]]) -> dict[str, str]:
        """Return a server's greedy answers.

        Raises:
            TryAgain: it does not answer, refuses, or says what is no answer.
        """
        heard = {}
        for key, messages in questions.items():
            asked = {"model": model, "messages": messages, "temperature": 0}
            answer = self._post(
                f"{url}/v1/chat/completions", asked | {"max_tokens": MAX_NEW_TOKENS["contains"]}
            )
            if not answer.is_success:
                raise TryAgain(f"{url}: {model} does not answer: {answer.status_code}")
            try:
                heard[key] = str(answer.json()["choices"][0]["message"]["content"])
            except (ValueError, LookupError, TypeError) as error:
                raise TryAgain(f"{url}: what it says is no chat completion") from error
        return heard

    def announce(self, target_id: UUID, url: str, document: Mapping[str, Any]) -> None:
        """Tell a webhook what is to be live, signed as Standard Webhooks are.

        Raises:
            AddressRefused, TryAgain: it is not told.
        """
        at, body = utcnow(), canonical_json({"type": "serving.wanted", "data": dict(document)}).decode()
        secret = tokens.webhook_secret(str(target_id), self.runtime.secrets)
        message = f"{target_id}-{document['seq']}"
        headers = {
            "content-type": "application/json",
            "webhook-id": message,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(secret).sign(message, at, body),
        }
        chosen = self.runtime.settings
        status = outgoing.post(
            url,
            body.encode(),
            headers,
            seconds=chosen.notice_timeout_seconds,
            may_loop_back=chosen.notice_to_loopback,
        )
        if not 200 <= status < 300:
            raise TryAgain(f"the webhook answered {status}")

    def _post(self, url: str, body: Mapping[str, Any]) -> httpx.Response:
        seconds = self.runtime.settings.serving_timeout_seconds
        try:
            return httpx.post(url, json=body, headers=self.headers, timeout=seconds, trust_env=False)
        except httpx.HTTPError as error:
            raise TryAgain(f"{url}: {type(error).__name__}") from error
