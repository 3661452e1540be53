"""The picture of where an answer comes from can be read in both themes, on a narrow screen and by keyboard."""

import pytest
from playwright.sync_api import expect

from service.tables import Role
from tests.browser.test_console import in_both_themes, visitor
from tests.history import open_told

__all__ = ["visitor"]


@pytest.fixture
def why(runtime, visitor):
    """An auditor before the page that says why a model answered as it did."""
    told = open_told(runtime)
    pia = visitor("pia", Role.AUDITOR).is_signed_in()
    pia.go(f"/p/{told.slug}/lineage/why/{told.answer.id}")
    return pia, told


def test_axe_finds_nothing_serious_in_either_theme(why, axe):
    pia, _ = why
    assert in_both_themes(pia.page, axe) == []


def test_the_keyboard_reaches_a_node_and_opens_its_page(why):
    pia, told = why
    run = pia.page.locator(f"svg a[href$='/runs/{told.model.training_run_id}']")
    pia.reach(run)
    pia.press("Enter")
    expect(pia.page).to_have_url(f"{pia.site}/p/{told.slug}/runs/{told.model.training_run_id}")


def test_a_narrow_screen_scrolls_the_picture_and_not_the_page(why):
    pia, _ = why
    pia.page.set_viewport_size({"width": 360, "height": 700})
    assert pia.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert pia.page.locator(".scroll:has(svg)").evaluate("box => box.scrollWidth > box.clientWidth")
