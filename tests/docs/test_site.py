"""The site: it builds without a warning, and its pages say what the code says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


class Loader(yaml.SafeLoader):
    """mkdocs.yml without its own tags."""


def navigation() -> list[str]:
    """The pages that mkdocs.yml names."""
    return re.findall(r"[\w/]+\.md", str(yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)["nav"]))


def test_every_page_is_in_the_navigation() -> None:
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    named = navigation()
    made = set(re.findall(r'"((?:about|reference)/\w+\.md)"', (ROOT / "docs" / "hooks.py").read_text(encoding="utf-8")))
    assert len(named) == len(set(named)) and pages | made == set(named), (pages | made) ^ set(named)


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / "site" / page).with_suffix(".html").is_file() for page in navigation())
    commands = (tmp_path / "site" / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "soundproof bench run" in commands and "--semantics" in commands
    fetched = re.findall(r'(?:src|href)="(https?://(?!squidfunk|www\.sitemaps)[^"]+\.(?:js|css|woff2?))"', commands)
    assert not fetched, f"the pages fetch {fetched}"
