"""The score as one HTML page without anything from elsewhere: tables, and each offending counterexample. Needs jinja2 (the extra `report`)."""

from __future__ import annotations

from typing import Any

import jinja2

from benchmarks.soundness.report import HEADINGS, Report
from benchmarks.soundness.scoring import FATAL, OUTCOMES, Outcome, families, groups, operators, tally

TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Soundness: {{ "%d fatal"|format(report.fatal|length) if report.fatal else "no fatal finding" }}</title>
<style>
:root { color-scheme: light dark; --line: #8884; --bad: #c62828; --good: #2e7d32; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
h1 .bad, td.bad, .kind { color: var(--bad); } h1 .good { color: var(--good); }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
tr.total { font-weight: 600; }
article { border-left: 3px solid var(--bad); padding: .1rem 0 .1rem 1rem; margin: 1.5rem 0; }
article.note { border-color: #f9a825; }
.values { font: 13px/1.4 ui-monospace, monospace; max-height: 12rem; overflow: auto; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
td.zero { opacity: .35; }
</style>
</head>
<body>
<h1>Soundness suite: {% if report.fatal %}<span class="bad">{{ report.fatal|length }} fatal</span>
{%- else %}<span class="good">no fatal finding</span>{% endif %}</h1>
<p>Claimed semantics: {{ report.semantics }}. Limit: {{ "%g"|format(report.timeout) }} s an instance. Suite {{ report.suite[:16] }}.</p>
{% for mode in modes %}
<h2>{{ mode.name }}</h2>
<p class="values">{{ mode.verifier }}</p>
{% for table in mode.tables %}
<div class="scroll"><table>
<tr><th>{{ table.first }}</th>{% for h in table.headings %}<th>{{ h }}</th>{% endfor %}</tr>
{% for row in table.rows %}<tr{% if row.total %} class="total"{% endif %}><td>{{ row.name }}</td>
{%- for n, bad in row.cells %}<td class="{{ 'zero' if n == 0 else 'bad' if bad else '' }}">{{ n }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% endfor %}{% endfor %}
{% if findings %}<h2>Findings</h2>{% endif %}
{% for o in findings %}
<article{% if not o.fatal %} class="note"{% endif %}>
<h3>{{ o.entry.name }} <span class="kind">{{ o.kind }}</span> ({{ o.mode }})</h3>
<p>{{ o.text }}</p>
<p>Truth: {{ o.entry.real }} over the reals, {{ o.entry.float32 }} in float32, by {{ o.entry.proof }}: {{ o.entry.because }}</p>
{% if o.execution %}
<p>Replayed: {{ o.execution.text }}. Over the reals: {{ {True: "violates", False: "does not violate", None: "not known"}[o.execution.real] }}.</p>
<table><tr><th>atom (unsafe where the margin is positive)</th><th>margin, exact</th><th>margin, onnxruntime</th></tr>
{% for m in o.execution.margins %}<tr><td>{{ m.text }}</td><td>{{ m.exact }}</td><td>{{ m.runtime }}</td></tr>
{% endfor %}</table>
<p>Input</p><p class="values">{{ o.execution.x|join(" ") }}</p>
<p>Outputs, exact</p><p class="values">{{ o.execution.exact|join(" ") }}</p>
<p>Outputs, onnxruntime</p><p class="values">{{ o.execution.runtime|join(" ") }}</p>
{% endif %}
</article>
{% endfor %}
</body>
</html>
"""


def to_html(report: Report) -> str:
    """The page. Whatever comes from a verifier or a file is escaped."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    modes = [{"name": name, "verifier": verifier, "tables": _tables(report.of_mode(name))} for name, verifier in report.modes.items()]
    findings = [o for o in report.outcomes if o.fatal or o.kind == "float32-only"]
    return environment.from_string(TEMPLATE).render(report=report, modes=modes, findings=findings)


def _tables(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    by_family, by_operator = groups(outcomes, families), dict(sorted(groups(outcomes, operators).items()))
    headings = ["instances", "sat", "unsat", *(HEADINGS.get(k, k) for k in OUTCOMES if k != "solved")]
    rows = [*(_row(name, members) for name, members in by_family.items()), {**_row("total", outcomes), "total": True}]
    return [{"first": "family", "headings": headings, "rows": rows},
            {"first": "operator", "headings": headings, "rows": [_row(name, members) for name, members in by_operator.items()]}]


def _row(name: str, outcomes: list[Outcome]) -> dict[str, Any]:
    t = tally(outcomes)
    counts = [(t.kinds[k], k in FATAL) for k in OUTCOMES if k != "solved"]
    cells = [(t.instances, False), (t.sat, False), (t.solved - t.sat, False), *counts]
    return {"name": name, "cells": cells, "total": False}
