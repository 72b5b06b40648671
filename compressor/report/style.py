"""The style sheet of pages. Text on its ground has a contrast of 4.5 : 1 at least, in both schemes."""

CSS = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --raised: #f5f7fa; --text: #1b1f24; --quiet: #57606a; --rule: #d5dae1; --grid: #e6e9ee;
  --pass: #116329; --pass-ground: #e3f5e7; --fail: #b3161f; --fail-ground: #fdeaea;
  --inconclusive: #7d5200; --inconclusive-ground: #fff4d6;
  --series-0: #0a5fc2; --series-1: #b3470a; --series-2: #116329; --series-3: #8b1d8f; --series-4: #00707a;
  --series-5: #b3161f; --series-6: #6b5900;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ground: #14171c; --raised: #1d2229; --text: #e8eaed; --quiet: #a3acb8; --rule: #3a424d; --grid: #2a3038;
    --pass: #6fd08c; --pass-ground: #16301f; --fail: #ff8f8a; --fail-ground: #3b1a1c;
    --inconclusive: #f0c04f; --inconclusive-ground: #352a10;
    --series-0: #6cb0ff; --series-1: #ff9d5c; --series-2: #6fd08c; --series-3: #e39be6; --series-4: #5fd0d8;
    --series-5: #ff8f8a; --series-6: #d9c24a;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem; }
p { margin: .5rem 0; max-width: 60rem; overflow-wrap: anywhere; }
a { color: var(--series-0); }
.quiet { color: var(--quiet); }
.kicker { color: var(--quiet); margin: 0 0 .25rem; font-size: .87rem; }
.verdict { border-left: 5px solid; border-radius: 6px; padding: .8rem 1rem; }
.verdict p { margin: .25rem 0 0; color: var(--text); }
.verdict strong { font-size: 1.2rem; }
.verdict ul { margin: .6rem 0 0; padding-left: 1.2rem; color: var(--text); overflow-wrap: anywhere; }
.verdict.pass { background: var(--pass-ground); } .verdict.fail { background: var(--fail-ground); }
.verdict.inconclusive { background: var(--inconclusive-ground); }
.pass { color: var(--pass); } .fail { color: var(--fail); } .inconclusive { color: var(--inconclusive); }
.badge { font-weight: 600; white-space: nowrap; }
.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 6px; }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--series-0); outline-offset: 2px; }
.scroll + *, .plots + .scroll { margin-top: .75rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .86rem; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
th, td { padding: .4rem .5rem; text-align: left; vertical-align: top; border-top: 1px solid var(--rule); }
thead th { background: var(--raised); border-top: 0; white-space: nowrap; color: var(--quiet); font-weight: 600; }
tbody th { font-weight: 600; }
.number { text-align: right; white-space: nowrap; }
.run { white-space: nowrap; }
.seen { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: start; }
.seen span { flex: 1 1 12rem; overflow-wrap: anywhere; }
.seen svg { flex: none; width: 240px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 13rem), 1fr)); gap: .75rem; }
figure { margin: 0; }
figcaption { font-size: .87rem; color: var(--quiet); }
.curves figcaption { color: var(--text); font-weight: 600; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; display: block; overflow: visible; }
.plots svg { width: 100%; }
.icon { display: inline-block; width: 16px; max-width: none; height: 16px; vertical-align: -3px; margin-right: .4rem; }
svg text { fill: var(--quiet); font-size: 12px; }
svg .label { fill: var(--text); }
svg .name {
  fill: var(--text); paint-order: stroke; stroke: var(--ground); stroke-width: 3px; stroke-linejoin: round;
}
.grid { stroke: var(--grid); } .axis { stroke: var(--quiet); } .leader { stroke: var(--quiet); stroke-dasharray: 2 2; }
.front { stroke: var(--quiet); }
.marker { fill: var(--ground); } .marker.filled { fill: currentColor; }
.bars { opacity: .75; }
.curve { color: var(--series-0); }
.allowed { fill: var(--pass-ground); } .limit { stroke: var(--text); }
.series-0 { color: var(--series-0); } .series-1 { color: var(--series-1); } .series-2 { color: var(--series-2); }
.series-3 { color: var(--series-3); } .series-4 { color: var(--series-4); } .series-5 { color: var(--series-5); }
.series-6 { color: var(--series-6); }
pre {
  background: var(--raised); border: 1px solid var(--rule); border-radius: 6px; padding: .75rem; overflow-x: auto;
  font: .85rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .92em; }
summary { cursor: pointer; font-weight: 600; margin: .75rem 0; }
dl {
  display: grid; grid-template-columns: minmax(0, max-content) minmax(0, 1fr);
  gap: .15rem 1rem; margin: .5rem 0; font-size: .9rem;
}
dt { color: var(--quiet); overflow-wrap: anywhere; } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  .seen svg { width: 150px; }
  main { padding: 1rem .75rem 2rem; }
  h1 { font-size: 1.35rem; }
  th, td { padding: .35rem .4rem; }
}
@media print {
  @page { margin: 12mm; }
  :root { color-scheme: light; }
  body { font-size: 9.5pt; }
  main { max-width: none; padding: 0; }
  .scroll { overflow: visible; border: 0; }
  table { font-size: 7.6pt; } th, td { padding: 1.5pt 4pt; }
  h2 { break-after: avoid; } tr, figure, .verdict { break-inside: avoid; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  .plots { grid-template-columns: 1fr 1fr; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
