"""Whoever flagged reads what became of it in both themes and on a phone, and takes it back there."""

import pytest
from playwright.sync_api import Page, expect

from service import tokens
from tests import builders
from tests.browser.test_console import in_both_themes
from tests.history import open_told


@pytest.fixture
def status(runtime, site, page) -> Page:
    """The page of a flag that came all the way."""
    told = open_told(runtime)
    with runtime.db.transaction() as session:
        builders.add_recheck(session, told.settlement, told.model.id)
    page.goto(
        f"{site}/v1/feedback/{told.flag.id}/status/{tokens.sign_status(str(told.flag.id), runtime.secrets)}"
    )
    return page


def test_the_way_of_a_flag_bars_nobody_fits_a_phone_and_ends_with_its_withdrawal(status, axe):
    expect(status.get_by_role("listitem")).to_have_count(6)
    assert in_both_themes(status, axe) == []
    status.set_viewport_size({"width": 360, "height": 700})
    assert status.evaluate("document.documentElement.scrollWidth <= innerWidth")
    status.get_by_role("button", name="Withdraw and delete…").click()
    assert in_both_themes(status, axe) == []
    status.get_by_role("button", name="Withdraw and delete", exact=True).click()
    expect(status.get_by_text("You have taken it back.")).to_be_visible()
