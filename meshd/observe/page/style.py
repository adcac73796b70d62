"""The page's one style sheet: light and dark, wide and narrow, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

STYLE: Final = """
:root { color-scheme: light dark;
  --paper: #fff; --ink: #1b1f24; --faint: #57606a; --line: #d0d7de; --band: #f6f8fa;
  --good: #1a7f37; --fair: #7d5a00; --poor: #b35900; --bad: #cf222e; --link: #0550ae; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #0d1117; --ink: #e6edf3; --faint: #9aa4ae; --line: #30363d; --band: #161b22;
  --good: #4ac26b; --fair: #d4a72c; --poor: #f0883e; --bad: #ff7b72; --link: #79c0ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 82rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
a { color: var(--link); } a:focus-visible, summary:focus-visible, .wide:focus-visible {
  outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; align-items: baseline; }
h1 { font-size: 1.35rem; margin: .25rem 0; } h2 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
.faint, footer { color: var(--faint); } .good { color: var(--good); } .fair { color: var(--fair); }
.poor { color: var(--poor); } .bad { color: var(--bad); font-weight: 600; }
.verdict { font-size: 1.1rem; padding: .6rem .9rem; border-left: .4rem solid; background: var(--band);
  margin: .75rem 0; }
ul.conditions { list-style: none; padding: 0; margin: 0; }
ul.conditions li { border: 1px solid var(--line); border-left: .4rem solid var(--fair); padding: .5rem .75rem;
  margin: 0 0 .5rem; overflow-wrap: anywhere; }
ul.conditions li.critical { border-left-color: var(--bad); }
ul.conditions p { margin: .25rem 0 0; }
.wide { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { color: var(--faint); font-weight: 600; font-size: .85rem; white-space: nowrap; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
thead th.number { text-align: right; }
td.mono, code, dd.mono { font-family: ui-monospace, monospace; font-size: .87em; overflow-wrap: anywhere; }
table.heat { width: auto; } table.heat td, table.heat th { padding: .25rem .45rem; white-space: nowrap; }
table.heat th[scope=row] { position: sticky; left: 0; background: var(--paper); }
table.heat thead th.to { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; }
td.cell { text-align: right; font-variant-numeric: tabular-nums; min-width: 1.6rem;
  background: color-mix(in srgb, currentColor 18%, transparent); }
td.relayed { outline: 2px dashed currentColor; outline-offset: -3px; }
td.none { color: var(--faint); text-align: center; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
svg { display: block; max-width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 12px; }
svg .axis { stroke: var(--line); }
svg text.faint { fill: var(--faint); paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
svg .good { stroke: var(--good); } svg .fair { stroke: var(--fair); } svg .poor { stroke: var(--poor); }
svg .bad { stroke: var(--bad); } svg text.good, svg text.fair, svg text.poor, svg text.bad { stroke: none; }
svg circle.good { fill: var(--good); } svg circle.fair { fill: var(--fair); }
svg circle.poor { fill: var(--poor); } svg circle.bad { fill: var(--bad); }
svg circle.own { fill: var(--link); stroke: var(--link); }
svg .rtt { stroke: var(--link); fill: none; stroke-width: 1.5; } svg .loss { fill: var(--bad); stroke: none;
  shape-rendering: crispEdges; }
.columns { display: grid; gap: 0 2rem; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
figure { margin: 0; }
@media (max-width: 60rem) { .columns { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 44rem) {
  main { display: flex; flex-direction: column; } main > .columns { order: 1; }
  table.cards thead { position: absolute; left: -99rem; }
  table.cards tr { display: block; border: 1px solid var(--line); margin-bottom: .6rem; padding: .3rem; }
  table.cards td, table.cards th { display: flex; justify-content: space-between; gap: 1rem; border: 0;
    text-align: right; }
  table.cards td::before { content: attr(data-label); color: var(--faint); text-align: left; }
  table.cards td:empty, table.cards td.minor { display: none; }
  figure svg text { font-size: 21px; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media (prefers-reduced-motion: no-preference) { a { transition: color .1s; } }
"""

_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_POLICY: Final = (
    "default-src 'none'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    f"style-src 'sha256-{_STYLE_HASH}'",
)
SECURITY_HEADERS: Final = (
    ("Content-Security-Policy", "; ".join(_POLICY)),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
"""What even an error in the page could not do: run a script, load from elsewhere, be framed."""
