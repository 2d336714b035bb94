"""Defines the report's style sheet: one column below 760 px, two above; no fonts or images from elsewhere."""

CSS = """
:root { --ink: #1c2430; --muted: #667085; --rule: #e4e7ec; --paper: #ffffff; --ground: #f5f6f8; --accent: #2563eb; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
main, header > div, footer { max-width: 1160px; margin: 0 auto; padding: 0 20px; }
header { background: var(--paper); border-bottom: 1px solid var(--rule); padding: 28px 0 24px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 36px 0 12px; letter-spacing: -0.005em; }
h3 { font-size: 14px; margin: 0 0 8px; overflow-wrap: anywhere; }
.card > * + h3 { margin-top: 20px; }
p { margin: 0 0 8px; }
.sub { color: var(--muted); overflow-wrap: anywhere; }
.heads { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: 20px; }
.head { border: 1px solid var(--rule); border-radius: 10px; padding: 12px 14px; }
.head:first-child { border-color: var(--accent); box-shadow: inset 0 3px 0 var(--accent); }
.head b { display: block; font-size: 26px; line-height: 1.2; font-weight: 650; font-variant-numeric: tabular-nums; }
.head span { color: var(--muted); font-size: 13px; }
.grid { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; }
.card { background: var(--paper); border: 1px solid var(--rule); border-radius: 10px; padding: 16px; min-width: 0; }
.card.wide { grid-column: 1 / -1; }
.card > .bk-host { width: 100%; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
tr:last-child > td { border-bottom: 0; }
th { color: var(--muted); font-weight: 500; white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.c code { white-space: nowrap; overflow-wrap: normal; }
td.t { overflow-wrap: anywhere; min-width: 90px; }
code { font: 12.5px/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.confusion td, .confusion th { text-align: center; padding: 8px 10px; border: 2px solid var(--paper); border-radius: 4px;
  font-variant-numeric: tabular-nums; max-width: 130px; overflow-wrap: anywhere; }
.confusion th { white-space: normal; }
.confusion small { display: block; opacity: 0.75; }
.stages { display: flex; height: 30px; border-radius: 6px; overflow: hidden; background: var(--rule); }
.stages i { display: block; min-width: 1px; box-shadow: inset -1px 0 0 rgba(255, 255, 255, 0.7); }
.legend { display: grid; grid-template-columns: repeat(auto-fill, minmax(165px, 1fr)); gap: 2px 20px; margin: 12px 0 0;
  padding: 0; list-style: none; font-size: 13.5px; }
.legend li { display: flex; align-items: baseline; gap: 8px; }
.legend i { flex: none; width: 10px; height: 10px; border-radius: 3px; }
.legend span { overflow-wrap: anywhere; }
.legend b { margin-left: auto; font-weight: 500; font-variant-numeric: tabular-nums; white-space: nowrap; }
.share { display: inline-block; height: 6px; border-radius: 3px; background: #d9480f; vertical-align: middle;
  margin-right: 6px; }
ul.notes { margin: 0; padding-left: 18px; }
ul.notes li { overflow-wrap: anywhere; }
details > summary { cursor: pointer; color: var(--accent); margin: 8px 0; }
footer { color: var(--muted); font-size: 13px; padding-top: 28px; padding-bottom: 36px; overflow-wrap: anywhere; }
@media (max-width: 760px) {
  .grid { grid-template-columns: minmax(0, 1fr); }
  main, header > div, footer { padding-left: 12px; padding-right: 12px; }
  .card { padding: 12px; }
  h1 { font-size: 22px; }
  .heads { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .head:last-child:nth-child(odd) { grid-column: 1 / -1; }
}
@media print { body { background: none; } .card { break-inside: avoid; } details > * { display: block; } }
"""
