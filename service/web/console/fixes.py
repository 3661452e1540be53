"""What came of what was learned: whether fixes worked, and whether they were worth their cost."""

from service.answers.fixes import PROMOTIONS, fixes_of
from service.answers.worth import worth_of
from service.clock import utcnow
from service.web.auth import Access
from service.web.console.page import Desk, bp, page


@bp.get("/p/<slug>/fixes")
@page(Access.READER)
def fixes(desk: Desk) -> str:
    """Show how often users flag with each reason before and after a version that was taught about it went live."""
    found = fixes_of(desk.session, desk.project)
    highest = max((each.high for fix in found for each in (fix.before, fix.after) if each), default=1.0)
    return desk.show("fixes.html", fixes=found, highest=highest, promotions=PROMOTIONS)


@bp.get("/p/<slug>/worth")
@page(Access.READER)
def worth(desk: Desk) -> str:
    """Show whoever pays what each promotion cost and what came of it, as far as that is known."""
    rates, found = worth_of(desk.session, desk.project, now=utcnow())
    return desk.show("worth.html", rates=rates, promotions=found)
