"""The browser that tests of pages drive."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parent / "clients"


def installed() -> str:
    """The path of a Chromium; skips the test where there is none, or nothing that drives it."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no browser: apt-get install chromium")
    if shutil.which("node") is None or not (CLIENTS / "node_modules" / "playwright-core").is_dir():
        pytest.skip(f"no playwright-core in {CLIENTS / 'node_modules'}: npm ci --ignore-scripts --prefix {CLIENTS}")
    return found
