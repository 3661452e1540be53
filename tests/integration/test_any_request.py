"""Whatever fits or almost fits the description of the API is answered, and never by a failure of ours."""

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.tables import Role
from service.web.app import create_app
from tests import builders

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
FORMATS = {"uuid": st.uuids().map(str), "date": st.dates().map(str), "date-time": st.datetimes().map(str)}


def values(schema: Any, document: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What a JSON schema describes, more or less: one in ten is anything."""
    described = _described(schema if isinstance(schema, dict) else {}, document)
    return st.integers(0, 9).flatmap(lambda dice: ANYTHING if dice == 0 else described)


def _described(schema: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return st.deferred(lambda: _described(document["components"]["schemas"][name], document))
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return st.one_of([_described(each, document) for each in schema[several]])
    kind = schema.get("type")
    if kind == "object":
        named, needed = schema.get("properties", {}), set(schema.get("required", ()))
        parts = {name: values(each, document) for name, each in named.items()}
        return st.fixed_dictionaries(
            {name: each for name, each in parts.items() if name in needed},
            optional={name: each for name, each in parts.items() if name not in needed},
        )
    if kind == "array":
        return st.lists(values(schema.get("items"), document), min_size=schema.get("minItems", 0), max_size=3)
    simple = {
        "string": FORMATS.get(schema.get("format", ""), TEXTS),
        "integer": st.integers(-1000, 1000),
        "number": st.floats(allow_nan=False, allow_infinity=False),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return simple.get(kind, ANYTHING)


@pytest.mark.parametrize("who", ["person", "key"])
def test_no_request_makes_the_service_fail(runtime, who):
    client = create_app(runtime).test_client()
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        _, person = builders.add_person(session, Role.ADMIN)
        bearer = {"person": person, "key": builders.add_key(session, project)}[who]
        ids = [str(builders.add_response(session, project).id), str(uuid4())]
    document = client.get("/openapi.json").json
    headers, taken = {"Authorization": f"Bearer {bearer}"}, set()
    calls = [
        (path, method.upper(), operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]

    def ask(data: st.DataObject, path: str, method: str, operation: dict[str, Any]) -> None:
        query = {}
        for each in operation["parameters"]:
            if each["in"] == "path":
                path = path.replace(f"{{{each['name']}}}", data.draw(st.sampled_from(ids)))
            else:
                query[each["name"]] = str(data.draw(values(each["schema"], document)))
        if "project" in query:
            query["project"] = project.slug
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        sent = data.draw(values(body, document)) if body else None
        if isinstance(sent, dict) and "project" in sent:
            sent["project"] = project.slug
        more = {"data": json.dumps(sent), "content_type": "application/json"} if body else {}
        answer = client.open(path, method=method, query_string=query, headers=headers, **more)
        is_ours = answer.status_code >= 500 and answer.json["code"] != "responder_unavailable"
        assert not is_ours, (method, path, query, sent)
        taken.add(answer.status_code)

    @settings(max_examples=2, deadline=None, derandomize=True, database=None)
    @given(st.data())
    def ask_everything(data):
        for call in data.draw(st.lists(st.sampled_from(calls), min_size=20, max_size=20)):
            ask(data, *call)

    ask_everything()
    assert 422 in taken and len(taken) > 2
