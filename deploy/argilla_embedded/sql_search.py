"""A search engine for Argilla's server that keeps no index: it answers from the server's own SQLite database.

Argilla writes everything to its database first and mirrors it to Elasticsearch only to search. Without a mirror
nothing can go stale, and the server's jobs, which run elsewhere, need no memory in common with it.

A record's time of change is that of its newest answer, unless the record itself changed later: so whoever follows
what people answer need not read all of it. Argilla's own is the record's alone.

Limits: SQLite alone; every search reads the data set's records (good to some 100,000); a text query finds whole
words, without stemming or relevance (every score is 1); no search by vectors.
"""

import re
from typing import Any

from argilla_server.database import AsyncSessionLocal
from argilla_server.enums import MetadataPropertyType, SortOrder
from argilla_server.models import Dataset, MetadataProperty, Question, Record, Response, Suggestion, User
from argilla_server.search_engine import base
from sqlalchemy import ColumnElement, Select, String, and_, cast, exists, func, not_, or_, select, true

CLOSED = "errata_closed"  # in the metadata of a record that is settled: nobody is asked it any more
_TERM = re.compile(r'(-?)(?:"([^"]*)"|(\S+))')


@base.SearchEngine.register("sql")
class SqlSearchEngine(base.SearchEngine):
    """Argilla's `SearchEngine`; what would keep a mirror up to date does nothing."""

    @classmethod
    async def new_instance(cls) -> "SqlSearchEngine":
        return cls()

    async def close(self) -> None:
        """Hold nothing, so that there is nothing to close."""

    async def ping(self) -> bool:
        return True

    async def info(self) -> dict[str, Any]:
        return {"name": "sql", "version": {"number": "1"}, "dated_by_answers": True}

    async def _nothing(self, *_: Any, **__: Any) -> None:
        """Keep no mirror."""

    create_index = delete_index = configure_metadata_property = configure_index_vectors = _nothing
    index_records = partial_record_update = delete_records = _nothing
    update_record_response = delete_record_response = _nothing
    update_record_suggestion = delete_record_suggestion = _nothing

    async def get_dataset_progress(self, dataset: Dataset) -> dict[str, int]:
        """Count records by status."""
        counted = select(Record.status, func.count()).where(Record.dataset_id == dataset.id)
        return await _counts(dataset, counted.group_by(Record.status))

    async def get_dataset_user_progress(self, dataset: Dataset, user: User) -> dict[str, int]:
        """Count this user's responses by status."""
        counted = select(Response.status, func.count()).join(Record).where(Record.dataset_id == dataset.id)
        return await _counts(dataset, counted.where(Response.user_id == user.id).group_by(Response.status))

    async def search(  # noqa: PLR0917  Argilla's own signature
        self,
        dataset: Dataset,
        query: Any = None,
        filter: Any = None,  # noqa: A002
        sort: Any = None,
        offset: int = 0,
        limit: int = 100,
        user_id: Any = None,
    ) -> base.SearchResponses:
        """Return a page of records; without a wish in the order in which they were sent, the most urgent first."""
        found = select(Record.id).where(Record.dataset_id == dataset.id)
        if query is not None:
            found = found.where(_says(query))
        if filter is not None:
            found = found.where(_passes(filter))
        orders = [_order(each) for each in sort or []]
        page = found.order_by(*orders, Record.inserted_at, Record.id).offset(offset).limit(limit)
        [[total]] = await _rows(select(func.count()).select_from(found.subquery()))
        items = [base.SearchResponseItem(record_id=row_id, score=1.0) for (row_id,) in await _rows(page)]
        return base.SearchResponses(items=items, total=total)

    async def compute_metrics_for(self, metadata_property: MetadataProperty) -> base.MetadataMetrics:
        """Return what a metadata filter offers: terms with their counts, or the range of numbers."""
        each = _values(Record.metadata_, metadata_property.name)
        counted = select(each.c.value, func.count()).select_from(Record).join(each, true())
        counted = counted.where(Record.dataset_id == metadata_property.dataset_id).group_by(each.c.value)
        rows = await _rows(counted.order_by(func.count().desc()))
        if metadata_property.type == MetadataPropertyType.terms:
            terms = [base.TermsMetrics.TermCount(term=str(value), count=count) for value, count in rows]
            return base.TermsMetrics(total=sum(term.count for term in terms), values=terms)
        numbers = [value for value, _ in rows if value is not None]
        is_whole = metadata_property.type == MetadataPropertyType.integer
        kind = base.IntegerMetadataMetrics if is_whole else base.FloatMetadataMetrics
        return kind(min=min(numbers, default=None), max=max(numbers, default=None))

    async def similarity_search(self, *_: Any, **__: Any) -> base.SearchResponses:
        """Refuse: no vectors are kept."""
        raise NotImplementedError("this search engine has no vectors")


async def _rows(query: Select[Any]) -> list[Any]:
    async with AsyncSessionLocal() as session:
        return list((await session.execute(query)).all())


async def _counts(dataset: Dataset, counted: Select[Any]) -> dict[str, int]:
    if dataset.is_draft:
        return {}
    counts = {str(status): count for status, count in await _rows(counted)}
    return {"total": sum(counts.values()), **counts}


def _values(column: Any, *keys: str) -> Any:
    """Return a row per JSON value at a path: one of a scalar, one per item of a list, none of nothing."""
    return func.json_each(column, _path(*keys)).table_valued("value")


def _path(*keys: str) -> str:
    return "$" + "".join('."{}"'.format(key.replace('"', "")) for key in keys)


def _passes(wanted: Any) -> ColumnElement[bool]:
    if isinstance(wanted, base.AndFilter):
        return and_(true(), *(_passes(each) for each in wanted.filters))
    scope = wanted.scope
    if isinstance(scope, base.RecordFilterScope):
        return _is_in(_record_column(scope.property), wanted)
    if isinstance(scope, base.MetadataFilterScope):
        each = _values(Record.metadata_, scope.metadata_property)
        return exists(select(1).select_from(each).where(_is_in(each.c.value, wanted)))
    if isinstance(scope, base.SuggestionFilterScope):
        return _suggestion_passes(scope, wanted)
    return _response_passes(scope, wanted)


def _record_column(name: str) -> Any:
    """Return a column in the form that a filter's values have: ids without dashes, times as ISO 8601."""
    column = _changed_at() if name == "updated_at" else getattr(Record, str(name))
    if name == "id":
        return cast(column, String)
    return func.replace(column, " ", "T") if str(name).endswith("_at") else column


def _changed_at() -> Any:
    newest = select(func.max(Response.updated_at)).where(Response.record_id == Record.id).scalar_subquery()
    return func.max(Record.updated_at, func.coalesce(newest, Record.updated_at))


def _suggestion_passes(scope: Any, wanted: Any) -> ColumnElement[bool]:
    of_record = select(1).select_from(Suggestion).join(Question, Question.id == Suggestion.question_id)
    of_record = of_record.where(Suggestion.record_id == Record.id, Question.name == scope.question)
    if scope.property != "value":
        return exists(of_record.where(_is_in(getattr(Suggestion, scope.property), wanted)))
    each = _values(Suggestion.value)
    return exists(of_record.join(each, true()).where(_is_in(each.c.value, wanted)))


def _response_passes(scope: Any, wanted: Any) -> ColumnElement[bool]:
    """Look at responses, of one user if there is one; a record without any is pending, until it is closed."""
    mine = _responses_of(scope)
    if scope.question:
        each = _values(Response.values, scope.question, "value")
        given = select(1).select_from(Response).join(each, true())
        return exists(given.where(*mine, _is_in(each.c.value, wanted)))
    statuses = [str(value) for value in wanted.values]
    given = [value for value in statuses if value != "pending"]
    passing = (
        [exists(select(1).select_from(Response).where(*mine, Response.status.in_(given)))] if given else []
    )
    if "pending" in statuses:
        is_closed = func.json_extract(Record.metadata_, _path(CLOSED)).is_not(None)
        passing.append(not_(or_(exists(select(1).select_from(Response).where(*mine)), is_closed)))
    return or_(*passing)


def _responses_of(scope: Any) -> list[ColumnElement[bool]]:
    return [Response.record_id == Record.id, *([Response.user_id == scope.user.id] if scope.user else [])]


def _is_in(column: Any, wanted: Any) -> ColumnElement[bool]:
    if isinstance(wanted, base.TermsFilter):
        values = [str(value) for value in wanted.values]
        if getattr(wanted.scope, "property", "") == "id":
            values = [value.replace("-", "") for value in values]
        return cast(column, String).in_(values)
    bounds = [column >= wanted.ge] if wanted.ge is not None else []
    return and_(true(), *bounds, *([column <= wanted.le] if wanted.le is not None else []))


def _order(wanted: Any) -> Any:
    scope = wanted.scope
    if isinstance(scope, base.RecordFilterScope):
        column = _changed_at() if scope.property == "updated_at" else getattr(Record, str(scope.property))
    elif isinstance(scope, base.MetadataFilterScope):
        column = func.json_extract(Record.metadata_, _path(scope.metadata_property))
    elif isinstance(scope, base.SuggestionFilterScope):
        is_value = scope.property == "value"
        what = func.json_extract(Suggestion.value, "$") if is_value else getattr(Suggestion, scope.property)
        found = select(what).join(Question, Question.id == Suggestion.question_id)
        found = found.where(Suggestion.record_id == Record.id, Question.name == scope.question)
        column = found.limit(1).scalar_subquery()
    else:
        given = func.json_extract(Response.values, _path(scope.question or "", "value"))
        what = func.avg(given) if scope.question else Response.status
        column = select(what).where(*_responses_of(scope)).limit(1).scalar_subquery()
    return (column.asc() if wanted.order == SortOrder.asc else column.desc()).nulls_last()


def _says(query: Any) -> ColumnElement[bool]:
    """Every word stands in a field, in any case; "several words" are one, word* begins one, -word must be absent."""
    text, name = (query, None) if isinstance(query, str) else (query.q, query.field)
    each = func.json_each(Record.fields).table_valued("key", "value")
    says = []
    for minus, phrase, word in _TERM.findall(text):
        term = phrase or word
        end = "" if term.endswith("*") else r"\b"
        matches = cast(each.c.value, String).regexp_match(rf"(?i)\b{re.escape(term.rstrip('*'))}{end}")
        found = exists(select(1).select_from(each).where(matches, *([each.c.key == name] if name else [])))
        says.append(not_(found) if minus else found)
    return and_(true(), *says)
