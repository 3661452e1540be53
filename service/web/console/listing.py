"""Every list of the console: the same paging, sorting, filtering and export, whatever its rows are.

A page never scans a table: it goes along an index from a cursor, and a filter looks at `SCAN` rows before the
page says how far it looked and offers to go on.
"""

import base64
import binascii
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from flask import Response, request, stream_with_context
from sqlalchemy import tuple_

from service.errors import Invalid
from service.web.console.page import Desk
from service.web.state import runtime

PAGE, EXPORTED = 50, 1000
SCAN = 10_000
FORMULA = ("=", "+", "-", "@", "\t", "\r")
MAX_SEARCH = 200


@dataclass(frozen=True, slots=True)
class Link:
    """A cell that leads somewhere."""

    text: str
    href: str


@dataclass(frozen=True, slots=True)
class Badge:
    """A cell that names a state."""

    text: str


Cell = str | int | float | datetime | Link | Badge | None
Cells = Callable[[Desk, Sequence[Any]], list[dict[str, Cell]]]


@dataclass(frozen=True, slots=True)
class Sort:
    """An order along an index: by `column` and then by the row's id, or by the id alone."""

    title: str
    column: Any = None
    is_descending: bool = True


NEWEST = {"newest": Sort("newest first"), "oldest": Sort("oldest first", is_descending=False)}


@dataclass(frozen=True, slots=True)
class Filter:
    """One way to narrow a list: by one of `choices`, or by a text when there are none."""

    title: str
    where: Callable[[str], Any]
    choices: Callable[[Desk], Sequence[str]] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """One page of a list; `looked_at` is how many rows a filter went through when it did not fill the page."""

    rows: Sequence[Any]
    ids: Sequence[UUID]
    next_cursor: str | None
    looked_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a list shows: which rows, in which orders, narrowed by what, and how a row is told in cells."""

    title: str
    rows: Callable[[], Any]
    key: Any
    of_project: Any = None
    cells: Cells
    empty: str
    sorts: Mapping[str, Sort] = field(default_factory=lambda: NEWEST)
    filters: Mapping[str, Filter] = field(default_factory=dict)

    def answer(self, desk: Desk, template: str = "list.html", **facts: Any) -> str | Response:
        """Answer with the page that the query asks for, or with all rows as CSV or JSON.

        Raises:
            Invalid: the query names no sort, filter or choice of this list, or its cursor is damaged.
        """
        chosen = {name: text for name in self.filters if (text := request.args.get(name, "").strip())}
        self._check(desk, chosen)
        if (form := request.args.get("format")) in _EXPORTS:
            return _EXPORTS[form](self, desk, chosen)
        found = self.find(desk, chosen, cursor=request.args.get("cursor"), size=PAGE)
        choices = {name: f.choices(desk) if f.choices else None for name, f in self.filters.items()}
        return desk.show(
            template,
            listing=self,
            found=found,
            items=self.cells(desk, found.rows),
            chosen=chosen,
            choices=choices,
            sort=self._sort_name(),
            **facts,
        )

    def find(self, desk: Desk, chosen: Mapping[str, str], *, cursor: str | None, size: int) -> Found:
        """Return one page of rows."""
        sort = self.sorts[self._sort_name()]
        order = [self.key] if sort.column is None else [sort.column, self.key]
        window = self.rows().add_columns(*order)
        if self.of_project is not None:
            window = window.where(self.of_project == desk.project.id)
        window = window.order_by(*[each.desc() if sort.is_descending else each.asc() for each in order])
        if cursor:
            window = window.where(_beyond(order, _decoded(cursor, order), sort))
        rows = window
        edge = None
        if chosen:
            edge = desk.session.execute(window.with_only_columns(*order).offset(SCAN - 1).limit(1)).first()
            if edge:
                rows = rows.where(~_beyond(order, list(edge), sort))
            rows = rows.where(*[self.filters[name].where(text) for name, text in chosen.items()])
        got = desk.session.execute(rows.limit(size + 1)).all()
        shown = [row[0] if len(row) == len(order) + 1 else tuple(row[: -len(order)]) for row in got[:size]]
        ids = [row[-1] for row in got[:size]]
        if len(got) > size:
            return Found(shown, ids, _encoded(got[size - 1][-len(order) :]))
        return Found(shown, ids, _encoded(edge), SCAN) if edge else Found(shown, ids, None)

    def _sort_name(self) -> str:
        return request.args.get("sort") or next(iter(self.sorts))

    def _check(self, desk: Desk, chosen: Mapping[str, str]) -> None:
        if self._sort_name() not in self.sorts:
            raise Invalid(f"sort: one of {', '.join(self.sorts)}")
        if request.args.get("format", "csv") not in _EXPORTS:
            raise Invalid(f"format: one of {', '.join(_EXPORTS)}")
        for name, text in chosen.items():
            choices = self.filters[name].choices
            if choices and text not in choices(desk):
                raise Invalid(f"{name}: no such choice")
            if len(text) > MAX_SEARCH or "\0" in text:
                raise Invalid(f"{name}: at most {MAX_SEARCH} characters")


def plain(cell: Cell) -> Any:
    """Return a cell as programs read it."""
    if isinstance(cell, datetime):
        return cell.isoformat()
    return cell.text if isinstance(cell, Link | Badge) else cell


def _all(listing: Listing, desk: Desk, chosen: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield every row that the filters leave, a page and a short transaction at a time."""
    cursor = None
    while True:
        with runtime().db.reading() as session:
            here = replace(desk, session=session)
            found = listing.find(here, chosen, cursor=cursor, size=EXPORTED)
            items = listing.cells(here, found.rows)
        for row_id, item in zip(found.ids, items, strict=True):
            yield {"id": str(row_id)} | {name: plain(cell) for name, cell in item.items()}
        cursor = found.next_cursor
        if cursor is None:
            return


def _csv(listing: Listing, desk: Desk, chosen: Mapping[str, str]) -> Response:
    def lines() -> Iterator[str]:
        for number, item in enumerate(_all(listing, desk, chosen)):
            out = io.StringIO()
            writer = csv.writer(out)
            if number == 0:
                writer.writerow(item)
            writer.writerow([_harmless(value) for value in item.values()])
            yield out.getvalue()

    return _download(lines(), listing, "csv", "text/csv; charset=utf-8")


def _json(listing: Listing, desk: Desk, chosen: Mapping[str, str]) -> Response:
    def parts() -> Iterator[str]:
        yield '{"items":['
        for number, item in enumerate(_all(listing, desk, chosen)):
            yield (",\n" if number else "") + json.dumps(item, ensure_ascii=False)
        yield '],"next_cursor":null}\n'

    return _download(parts(), listing, "json", "application/json")


_EXPORTS = {"csv": _csv, "json": _json}


def _download(parts: Iterator[str], listing: Listing, ending: str, media_type: str) -> Response:
    response = Response(stream_with_context(parts), content_type=media_type)
    name = listing.title.lower().replace(" ", "-")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.{ending}"'
    return response


def _harmless(value: Any) -> Any:
    """Keep spreadsheets from taking a user's text for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _beyond(order: Sequence[Any], at: Sequence[Any], sort: Sort) -> Any:
    here = tuple_(*order) if len(order) > 1 else order[0]
    there = tuple_(*at) if len(order) > 1 else at[0]
    return here < there if sort.is_descending else here > there


def _encoded(values: Sequence[Any]) -> str:
    text = json.dumps([v if isinstance(v, int | float) else str(v) for v in values])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(cursor: str, order: Sequence[Any]) -> list[Any]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        values = json.loads(text)
        if len(values) != len(order):
            raise ValueError(len(values))  # noqa: TRY301
        return [_READ[each.type.python_type](value) for each, value in zip(order, values, strict=True)]
    except (ValueError, TypeError, AttributeError, KeyError, binascii.Error) as error:
        raise Invalid("cursor: damaged; start from the first page") from error


_READ: dict[type, Callable[[Any], Any]] = {UUID: UUID, float: float, int: int, str: str}
