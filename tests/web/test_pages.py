"""Every page, in a real browser: readable at three widths, by keyboard, without a complaint of the console."""

from __future__ import annotations

import pytest
from browsing import SIZES, Serve, Visit, violations

PAGES = ("live", "datasets", "annotate", "runs")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_for_everybody(serve: Serve, visit: Visit, scheme: str) -> None:
    page = visit(serve(), color_scheme=scheme)
    for name in PAGES:
        page.evaluate(f"location.hash = '#/{name}'")
        page.get_by_role("main").get_by_role("heading", level=1).wait_for()
        for width, height in SIZES.values():
            page.set_viewport_size({"width": width, "height": height})
            assert violations(page) == [], (name, width)
            too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert too_wide <= 0, (name, width)


def test_navigation_by_keyboard_and_the_address(serve: Serve, visit: Visit) -> None:
    page = visit(serve())
    page.get_by_role("link", name="Live", exact=True).wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the page"
    page.get_by_role("link", name="Datasets").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Datasets").wait_for()
    assert page.url.endswith("#/datasets")
    assert page.evaluate("document.activeElement.id") == "main"
    page.go_back()
    page.get_by_role("heading", name="Live").wait_for()
