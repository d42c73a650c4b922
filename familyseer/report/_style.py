"""How the page looks: one column on a phone, two on a desk, light, dark and on paper."""

STYLE = (
    """
:root { color-scheme: light dark; --page: #ffffff; --card: #f5f6f8; --ink: #1b1f24;
  --soft: #525a64; --rule: #d5d9df; --bar: #2f6fb7; --good: #17693c; --warn: #8f3d00;
  --k0: #0b5cad; --k1: #b3461e; --k2: #1a7348; --k3: #7d35a3; --k4: #7a6100; --k5: #006d7f;
  --k6: #ac2f68; --k7: #525a64; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --card: #1e2329; --ink: #e8ebef;
  --soft: #a9b2bd; --rule: #3a424c; --bar: #5b9bdf; --good: #6fd39a; --warn: #ffb27a;
  --k0: #74b4ff; --k1: #ff9c6b; --k2: #66d398; --k3: #d3a1ff; --k4: #dfc052; --k5: #55cfe0;
  --k6: #ff8fbf; --k7: #a9b2bd; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0 0; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1.05rem; line-height: 1.3; margin: 0 0 .4rem; }
section > h3 { margin-top: 1.4rem; }
p { margin: .4rem 0; max-width: 46rem; }
.soft, figcaption p, caption { color: var(--soft); font-size: .875rem; }
.headline { font-size: 1.25rem; line-height: 1.4; margin: .8rem 0; }
.headline strong { font-size: 2.2rem; line-height: 1.1; color: var(--good); }
.headline .slower { color: var(--warn); }
.wanting { border-left: .3rem solid var(--warn); padding: .2rem 0 .2rem .8rem; margin: 1rem 0; }
ul { padding-left: 1.2rem; margin: .4rem 0; }
nav ul, .legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1rem; }
a { color: var(--k0); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr));
  gap: .3rem 1.5rem; margin: .5rem 0; }
dl div { display: flex; gap: .75rem; justify-content: space-between;
  border-bottom: 1px solid var(--rule); }
dt { color: var(--soft); flex: none; max-width: 60%; }
dd { margin: 0; text-align: right; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(28rem, 100%), 1fr));
  gap: 1rem; }
figure, article { margin: 0; padding: .9rem; background: var(--card);
  border: 1px solid var(--rule); border-radius: .5rem; min-width: 0; }
article { margin-bottom: 1rem; }
figure svg { display: block; width: 100%; height: auto; max-width: 30rem; margin: 0 auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.grid { stroke: var(--rule); } .axis { stroke: var(--soft); }
.curve, .level { fill: none; stroke-width: 2; stroke-linejoin: round; }
.level { stroke-dasharray: 6 4; }
.dot { stroke: var(--card); stroke-width: 1; fill-opacity: .85; }
.bar { fill: var(--bar); }
"""
    + "\n".join(
        f"path.c{i} {{ stroke: var(--k{i}); }} circle.c{i} {{ fill: var(--k{i}); }} "
        f".swatch.c{i} {{ border-color: var(--k{i}); }}"
        for i in range(8)
    )
    + """
.legend { font-size: .875rem; }
.legend li { display: flex; align-items: center; gap: .4rem; }
.swatch { flex: none; width: 1.6rem; border-style: solid; border-width: 3px 0 0; }
.swatch.level { border-style: dashed; }
.swatch.dots { width: 10px; border-width: 5px; border-radius: 50%; }
details { margin: .5rem 0; }
summary { cursor: pointer; padding: .3rem 0; }
summary .soft { margin-left: .4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; line-height: 1.35; }
caption { text-align: left; padding: .2rem 0; max-width: 84vw; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0;
  border-bottom: 1px solid var(--rule); font-weight: normal; }
thead th { color: var(--soft); vertical-align: bottom; }
tbody th { min-width: 9rem; max-width: 16rem; }
td:not(.number) { min-width: 15rem; overflow-wrap: break-word; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
pre { overflow-x: auto; padding: .7rem; margin: .5rem 0; background: var(--page);
  border: 1px solid var(--rule); border-radius: .3rem; font-size: .8rem; line-height: 1.4; }
pre, code { font-family: ui-monospace, monospace; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--rule); }
:focus-visible { outline: 2px solid var(--k0); outline-offset: 2px; }
@media (max-width: 30rem) { body { padding: .75rem; } figure, article { padding: .6rem; } }
@media print { :root { color-scheme: light; --page: #fff; --card: #fff; --ink: #000;
  --soft: #444; --rule: #bbb; --bar: #2f6fb7; --good: #17693c; --warn: #8f3d00; --k0: #0b5cad;
  --k1: #b3461e; --k2: #1a7348; --k3: #7d35a3; --k4: #7a6100; --k5: #006d7f; --k6: #ac2f68;
  --k7: #525a64; }
  body { font-size: 10pt; padding: 0; max-width: none; }
  nav { display: none; }
  figure, tr { break-inside: avoid; } h2, h3, thead { break-after: avoid; }
  .figures { grid-template-columns: 1fr 1fr; }
  .scroll, pre { overflow: visible; } pre { white-space: pre-wrap; } }
"""
)
