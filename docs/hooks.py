"""Hooks of mkdocs: pages of the site that are made of what lies elsewhere, so that nothing is written twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from soundproof.cli import app

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {
    "reference/format.md": "verifier/checker/FORMAT.md",
    "about/architecture.md": "ARCHITECTURE.md",
    "about/contributing.md": "CONTRIBUTING.md",
    "about/changes.md": "CHANGELOG.md",
}

CODES = ("What `--help` prints, command by command. Exit codes are the same everywhere: 0 done and good, 1 done and bad, 2 usage, 3 unsupported or "
         "malformed input, 4 internal error, 5 certificate rejected, 10 `sat`, 20 `unknown`, 30 timed out.")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that have no file in docs/."""
    for uri, source in ELSEWHERE.items():
        files.append(File.generated(config, uri, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "reference/commands.md", content=commands()))
    return files


def commands() -> str:
    """Every command with its help, as the program prints it."""
    parts = ["# Commands", "", CODES, ""]
    for name, text in _helps(get_command(app), "soundproof"):
        parts += [f"## {name}", "", "```text", text.rstrip(), "```", ""]
    return "\n".join(parts)


def _helps(command: TyperCommand | TyperGroup, name: str) -> Iterator[tuple[str, str]]:
    yield name, command.get_help(command.context_class(command, info_name=name, terminal_width=110, max_content_width=110))
    for sub, found in (command.commands if isinstance(command, TyperGroup) else {}).items():
        yield from _helps(found, f"{name} {sub}")
