"""A site of somebody else whose readers rate an answer: another origin, and a strict policy.

python deploy/example/server.py --errata http://127.0.0.1:8000 --secret esk_... --key epk_... --port 8001

The public key is one for this page: errata keys add PROJECT --kind public --origin http://127.0.0.1:8001
"""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

HERE = Path(__file__).parent
QUESTION = "Who sends the bill after an operation?"
ANSWER = "The cardiology ward sends it within six weeks, and your insurance pays."
POLICY = (
    "default-src 'none'; script-src {errata}; connect-src {errata}; style-src 'self'; form-action {errata}; "
    "base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


class Site(ThreadingHTTPServer):
    """The site; its secret key stays here, and its pages know the public key and the token of the answer they show."""

    def __init__(self, port: int, *, errata: str, secret: str, key: str) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.errata, self.secret, self.key = errata, secret, key

    def page(self, lang: str) -> str:
        """Return the page; the answer is logged once, and each page gets a token of its own for it."""
        said = {"messages": [{"role": "user", "content": QUESTION}], "response": ANSWER}
        logged = self.ask("/v1/responses", {**said, "external_id": "example", "subject": "visitor"})
        newest = self.ask("/widget/versions.json")["versions"][0]
        return Template((HERE / "page.html").read_text()).substitute(
            {
                "lang": lang,
                "dir": "rtl" if lang == "ar" else "ltr",
                "errata": self.errata,
                "path": newest["path"],
                "integrity": newest["integrity"],
                "question": QUESTION,
                "answer": ANSWER,
                "key": self.key,
                "token": logged["feedback_token"],
            }
        )

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask Errata, or tell it something."""
        headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body else None
        with urlopen(Request(f"{self.errata}{path}", data, headers), timeout=10) as answer:  # noqa: S310  its own service
            return json.load(answer)


class Handler(BaseHTTPRequestHandler):
    """Answers a reader's browser."""

    server: Site

    def do_GET(self) -> None:
        """Show the page, in the language that the address asks for."""
        asked = urlsplit(self.path)
        if asked.path == "/":
            lang = parse_qs(asked.query).get("lang", ["en"])[0]
            self._send("text/html", self.server.page(lang if lang.isalpha() else "en"))
        elif asked.path == "/page.css":
            self._send("text/css", (HERE / "page.css").read_text())
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the library's name
        """Say nothing: a token in an address belongs in no log."""

    def _send(self, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY.format(errata=self.server.errata))
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("errata", "secret", "key"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, default=8001)
    given = parser.parse_args()
    Site(given.port, errata=given.errata.rstrip("/"), secret=given.secret, key=given.key).serve_forever()
