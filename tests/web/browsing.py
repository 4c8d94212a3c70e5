"""What the tests of the page share: screen sizes, and what axe finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import axe_playwright_python
from playwright.sync_api import Page

SIZES = {"phone": (390, 844), "tablet": (820, 1180), "desk": (1440, 900)}
Serve = Callable[..., str]
"""The fixture `serve`."""
Visit = Callable[..., Page]
"""The fixture `visit`."""

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text("utf-8")


def violations(page: Page) -> list[str]:
    """What axe finds that is serious or critical."""
    if page.evaluate("!window.axe"):
        page.evaluate(AXE)  # by the debugger: the page's own policy lets no foreign script in
    found = page.evaluate("axe.run({resultTypes: ['violations']}).then((found) => found.violations)")
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
