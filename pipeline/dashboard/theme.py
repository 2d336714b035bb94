"""Styles the pages: colours, text, tables, figures; in light and dark mode, at any width.

Text is HTML in a `Div`, every string in it escaped.  The drawing area follows the reader's colour scheme through CSS
variables that Bokeh reads (`--bk-...`).  The colours are those of Okabe and Ito ("Color Universal Design", 2008), which
colour-blind people can distinguish.
"""

from bokeh.themes import Theme

BLUE, SKY, GREEN, ORANGE, VERMILION, PURPLE, GREY = (
    "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#8A919C",
)  # fmt: skip

# Inside Dask's pages, which are light only, the frame needs the dark colours too.  Dask's navigation bar floats above
# the page and would hide its top if its links need more than one line.
FRAME = """
:root { color-scheme: light dark; --ink: #1c2430; --muted: #5b6472; --rule: #d9dde3; --card: #ffffff; --ground: #fafafa;
  --bk-major-label-text-color: #5b6472; --bk-axis-label-text-color: #5b6472; --bk-axis-line-color: #b4bac4;
  --bk-major-tick-line-color: #b4bac4; --bk-grid-line-color: #e4e7ec; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --muted: #a3acb9; --rule: #3a414c; --card: #1e232b; --ground: #14181e;
    --bk-major-label-text-color: #a3acb9; --bk-axis-label-text-color: #a3acb9; --bk-axis-line-color: #56606e;
    --bk-major-tick-line-color: #56606e; --bk-grid-line-color: #2b323c; }
  html, body { background: var(--ground) !important; color: var(--ink); }
  .navbar ul, .dropdown-content { background-color: #262c35 !important; }
  .navbar li a { color: #e6e9ee !important; }
  #navbar-toggle-icon img { filter: invert(1); }
  .navbar li.active { background-color: #7a5427 !important; }
}
html, body { background: var(--ground); overflow-x: clip; }
#connection-lost { position: fixed; z-index: 9; left: 0; right: 0; bottom: 0; padding: 9px 16px; background: #D55E00; color: #ffffff;
  font: 14px/1.4 Helvetica, Arial, sans-serif; }
#connection-lost.over { background: #4a525e; }
body:has(.navbar) { padding-top: 0; } .navbar ~ .content { height: auto; min-height: 0; } .navbar { position: sticky; margin: 0 -10px 6px; }
"""
TEXT = """
:host { color: var(--ink, #1c2430); font: 14px/1.45 Helvetica, Arial, sans-serif; }
.bk-clearfix { width: 100%; }
* { box-sizing: border-box; }
h2 { font-size: 17px; margin: 2px 0 2px; overflow-wrap: anywhere; } h3 { font-size: 14px; margin: 12px 0 4px; overflow-wrap: anywhere; }
p { margin: 2px 0 6px; overflow-wrap: anywhere; } .sub { color: var(--muted); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(168px, 1fr)); gap: 8px; margin: 8px 0; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 6px; padding: 8px 12px; min-width: 0; }
.card span { color: var(--muted); font-size: 12.5px; display: block; }
.card b { font-size: 21px; line-height: 1.25; font-weight: 600; display: block; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.card small { color: var(--muted); font-size: 12.5px; line-height: 1.35; display: block; overflow-wrap: anywhere; }
.card.bad { box-shadow: inset 4px 0 0 #D55E00; } .card.warn { box-shadow: inset 4px 0 0 #E69F00; } .card.good { box-shadow: inset 4px 0 0 #009E73; }
.bar { height: 6px; border-radius: 3px; background: var(--rule); margin: 5px 0 3px; overflow: hidden; }
.bar i { display: block; height: 100%; background: #0072B2; }
.strip { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 6px; margin: 4px 0 8px; }
.stage { min-width: 0; border: 1px solid var(--rule); border-radius: 6px; background: var(--card); padding: 5px 9px 4px; }
.stage b { display: block; font-size: 13px; } .stage em { color: var(--muted); font-size: 12px; font-style: normal; display: block; }
.stage small { font-size: 12px; font-variant-numeric: tabular-nums; display: block; }
.stage.now { border-color: #0072B2; box-shadow: inset 0 2px 0 #0072B2; } .stage.later { opacity: .6; }
.stage.done .bar i { background: #009E73; }
.scroll { overflow-x: auto; max-width: 100%; max-height: 460px; overflow-y: auto; }
table { border-collapse: collapse; font-size: 13px; width: 100%; }
th { text-align: left; font-weight: 600; color: var(--muted); white-space: nowrap; }
th, td { padding: 3px 12px 3px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
td { overflow-wrap: break-word; } .n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.facts td { overflow-wrap: anywhere; } .facts td:first-child { white-space: nowrap; }
.two { padding-top: 12px; } .two h3 { margin-top: 0; }
.two { columns: 380px; column-gap: 28px; } .two > div { break-inside: avoid; padding-bottom: 8px; }
.when td:first-child { white-space: nowrap; width: 1%; }
.key { display: inline-flex; align-items: center; vertical-align: middle; height: 16px; gap: 5px; margin-right: 14px; white-space: nowrap; font-size: 13px; }
.key i { width: 12px; height: 12px; border-radius: 2px; display: inline-block; } .key i.line { height: 3px; } .key i.tick { width: 3px; height: 14px; } .key b { font-size: 14px; line-height: 1; }
.lost, .alarm { color: #D55E00; font-weight: 600; } p.alarm { border-left: 4px solid #D55E00; padding-left: 8px; }
.cards.six { grid-template-columns: repeat(6, minmax(0, 1fr)); }
@media (max-width: 1150px) { .cards.six { grid-template-columns: repeat(3, minmax(0, 1fr)); } }
@media (max-width: 480px) { .cards.six { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 700px) { .wide { display: none; } .when td:first-child { padding-right: 8px; } .card b { font-size: 18px; } .cards:not(.six) { grid-template-columns: repeat(auto-fit, minmax(126px, 1fr)); } }
"""
SELECT = """
:host { color: var(--ink); } .bk-input { background-color: var(--card); color: var(--ink); border-color: var(--rule); }
select:not([multiple]).bk-input, select:not([size]).bk-input { appearance: auto; background-image: none; padding-right: 6px; }
"""
THEME = Theme(
    json={
        "attrs": {
            "Plot": {"background_fill_color": None, "border_fill_color": None, "outline_line_color": None},
            "Toolbar": {"logo": None, "autohide": True},
            "Axis": {
                "axis_label_text_font_style": "normal", "axis_label_text_font_size": "12px",
                "major_label_text_font_size": "12px", "minor_tick_line_color": None,
            },
        }
    }
)  # fmt: skip
