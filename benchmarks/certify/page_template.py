"""The page's HTML: nothing from elsewhere, readable on a phone, printable. Filled by `page`."""

TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --bad: #c62828; --good: #2e7d32; --open: #b26a00; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 70rem; padding: 0 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; max-width: 100%; }
.good { color: var(--good); } .bad { color: var(--bad); } .open { color: var(--open); }
.zero { opacity: .4; }
.chart { width: 100%; max-width: 44rem; height: auto; display: block; } .chart text { font-size: 12px; fill: currentColor; }
.chart .grid { stroke: var(--line); }
.gates { list-style: none; padding: 0; } .gates li { border-left: 4px solid var(--good); padding-left: .6rem; margin: .3rem 0; }
.gates li.failed { border-color: var(--bad); }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1rem; }
.examples article { border: 1px solid var(--line); border-radius: .4rem; padding: .6rem; break-inside: avoid; min-width: 0; }
.examples .pair { display: flex; gap: .6rem; } .examples figure { margin: 0; flex: 1; min-width: 0; }
.examples img { width: 100%; image-rendering: pixelated; border: 1px solid var(--line); }
.examples figcaption, small { font-size: .8rem; opacity: .75; }
.filters { display: flex; flex-wrap: wrap; gap: .5rem; margin: .5rem 0; } .filters label { display: flex; flex-direction: column; font-size: .8rem; }
.filters select, .filters input, .pager button { font: inherit; padding: .2rem .4rem; }
code { font-size: .85rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .1rem 1rem; } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { body { margin: .5rem auto; padding: 0 .6rem; } dl { grid-template-columns: 1fr; } dt { font-weight: 600; } }
@media print { .filters, .pager, .screen { display: none; } body { max-width: none; font-size: 11px; } .scroll { overflow: visible; } }
</style>
</head>
<body>
<h1>{{ title }}: {% if report.state != "complete" %}<span class="open">not finished</span>
{%- elif not report.gates %}no gates
{%- elif report.passed %}<span class="good">all gates passed</span>
{%- else %}<span class="bad">{{ failed }} of {{ report.gates|length }} gates failed</span>
{%- endif %}</h1>
<p>{{ report.samples|length }} samples{% if report.accuracy is not none %}, {{ "%.1f"|format(100 * report.accuracy) }} % classified as labelled
{%- endif %}; {{ report.queries|length }} queries. A query is <b class="good">certified</b> when an independent checker accepted a proof,
<b class="bad">falsified</b> when onnxruntime, running the model, violates the property at a counterexample,
<b class="open">unknown</b> otherwise.</p>
{% if report.stopped %}<p class="open">{{ report.stopped }}</p>{% endif %}
{% if report.gates %}<h2>Gates</h2>
<ul class="gates">{% for g in report.gates %}<li{% if not g.passed %} class="failed"{% endif %}>
<b class="{{ 'good' if g.passed else 'bad' }}">{{ "passed" if g.passed else "FAILED" }}</b>
{{ g.text }} <small>{{ g.why }}</small></li>{% endfor %}</ul>
{% endif %}
<h2>Results</h2>
{% if rows %}<div class="scroll"><table id="results"><thead><tr><th>check</th><th>radius</th><th>certified</th><th>falsified</th><th>unknown</th>
<th>misclassified</th><th>not asked</th><th>certified share</th></tr></thead><tbody>
{% for r in rows %}<tr><td>{{ r.check }}</td><td>{{ r.radius or "" }}</td>
{%- for kind, n in r.counts %}<td class="{{ kind if n else 'zero' }}">{{ n }}</td>{% endfor %}<td>{{ r.share }}</td></tr>
{% endfor %}</tbody></table></div>{% endif %}
{% for b in bisections %}<p>{{ b }}</p>{% endfor %}
{% for svg in accuracy %}{{ svg }}{% endfor %}
{% if cactus %}<h2>Time</h2>{{ cactus }}{% endif %}
{% if classes %}<h2>By class</h2>
<div class="scroll"><table id="classes"><thead><tr><th>class</th><th>samples</th><th>right</th>
{% for h in classes.headings %}<th>{{ h }}</th>{% endfor %}
</tr></thead><tbody>{% for c in classes.rows %}<tr>{% for v in c %}<td>{{ v }}</td>{% endfor %}</tr>{% endfor %}</tbody></table></div>
<p><small>Certified, falsified, unknown of the samples of each class.</small></p>{% endif %}
{% if examples %}<h2>Counterexamples</h2>
<p>{{ examples|length }} of {{ falsified }} are shown: at most one a sample and check, at the smallest radius.</p>
<div class="examples">{% for e in examples %}<article>
<p><b>{{ e.id }}</b> {{ e.check }}{% if e.radius %} within {{ e.radius }}{% endif %}<br>{{ e.text }}</p>
{% if e.pictures %}<div class="pair">{% for name, address in e.pictures %}<figure><img alt="{{ name }}" src="{{ address }}">
<figcaption>{{ name }}</figcaption></figure>{% endfor %}</div>{% endif %}
{% if e.changes %}<div class="scroll"><table><thead><tr><th>feature</th><th>sample</th><th>counterexample</th></tr></thead><tbody>
{% for name, before, after in e.changes %}<tr><td>{{ name }}</td><td>{{ before }}</td><td>{{ after }}</td></tr>{% endfor %}</tbody></table></div>
{% if e.more %}<small>and {{ e.more }} more that changed</small>{% endif %}{% endif %}
</article>{% endfor %}</div>{% endif %}
<h2 class="screen">Every query</h2>
<div class="filters"><label>Status <select id="status"><option value="">all</option></select></label>
<label>Check <select id="check"><option value="">all</option></select></label>
<label>Radius <select id="radius"><option value="">all</option></select></label>
<label>Sample or reason <input id="text" type="search"></label></div>
<p class="screen"><span id="count"></span></p>
<div class="scroll screen"><table id="queries"><thead><tr><th>sample</th><th>check</th><th>radius</th><th>status</th><th>bound</th><th>nodes</th>
<th>seconds</th><th>reason</th></tr></thead><tbody></tbody></table></div>
<p class="pager"><button id="back" type="button">earlier</button> <span id="page"></span> <button id="on" type="button">later</button></p>
<h2>What is not covered</h2>
<ul id="uncovered">{% for s in report.not_covered %}<li>{{ s }}</li>{% endfor %}</ul>
<h2>How this was made</h2>
<dl>{% for name, value in facts %}<dt>{{ name }}</dt><dd><code>{{ value }}</code></dd>{% endfor %}</dl>
<p>Check it from its files alone: <code>soundproof recheck DIR</code></p>
<script id="data" type="application/json">{{ data }}</script>
<script>
"use strict";
(() => {
  const rows = JSON.parse(document.getElementById("data").textContent), size = 100;
  const by = id => document.getElementById(id);
  let page = 0;
  for (const [id, at] of [["check", 1], ["radius", 2], ["status", 3]])
    for (const value of new Set(rows.map(r => r[at]))) if (value !== "") by(id).add(new Option(value, value));
  const show = () => {
    const wanted = ["check", "radius", "status"].map(id => by(id).value), text = by("text").value.toLowerCase();
    const found = rows.filter(r => wanted.every((w, i) => !w || r[i + 1] === w) && (!text || (r[0] + " " + r[7]).toLowerCase().includes(text)));
    page = Math.min(page, Math.max(0, Math.ceil(found.length / size) - 1));
    const body = by("queries").tBodies[0];
    body.replaceChildren(...found.slice(page * size, (page + 1) * size).map(r => {
      const line = document.createElement("tr");
      for (const [i, value] of r.entries()) {
        const cell = line.insertCell();
        cell.textContent = value;
        if (i === 3) cell.className = { certified: "good", falsified: "bad" }[value] || "open";
      }
      return line;
    }));
    by("count").textContent = found.length + " of " + rows.length + " queries";
    by("page").textContent = (page + 1) + " / " + Math.max(1, Math.ceil(found.length / size));
    by("back").disabled = page === 0;
    by("on").disabled = (page + 1) * size >= found.length;
  };
  for (const id of ["check", "radius", "status", "text"]) by(id).addEventListener("input", () => { page = 0; show(); });
  by("back").addEventListener("click", () => { page--; show(); });
  by("on").addEventListener("click", () => { page++; show(); });
  show();
})();
</script>
</body>
</html>
"""
