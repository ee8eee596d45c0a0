"""The page: one read-only HTML document without anything from elsewhere, that refreshes itself."""

import html
import math
import time
from collections.abc import Iterator

from relay.findings import Level
from relay.log import printable
from relay.status.charts import chart
from relay.status.history import History
from relay.status.report import Fact, Report, Table

REFRESH_SECONDS = 5

_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1a1d21;--soft:#5a6370;--line:#d5dae0;--box:#f5f7f9;--ok:#1a7f37;
--warn:#8a5a00;--bad:#b3261e;--l0:#0b62c4;--l1:#1a7f37;--l2:#8a5a00}
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e6e9ec;--soft:#a0a9b4;--line:#363c44;--box:#1d2126;
--ok:#56d364;--warn:#e3b341;--bad:#ff8f85;--l0:#79b8ff;--l1:#56d364;--l2:#e3b341}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.45 system-ui,sans-serif}
header,main,footer{max-width:76rem;margin:0 auto;padding:.75rem 1rem}h1{font-size:1.25rem;margin:0}
h2{font-size:1rem;margin:1.5rem 0 .4rem}.state{font-weight:600}.ok{color:var(--ok)}.warning{color:var(--warn)}
.failed{color:var(--bad)}dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}code,td{font-family:ui-monospace,monospace;font-size:.875rem}
#changes td:first-child{white-space:nowrap}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(17rem,100%),1fr));gap:1rem;margin-top:1rem}
figure{margin:0;background:var(--box);border:1px solid var(--line);border-radius:.4rem;padding:.6rem}
figcaption{font-size:.875rem;font-weight:600}.key{font-weight:400;margin-left:.75rem}.key.l0{color:var(--l0)}
.key.l1{color:var(--l1)}.key.l2{color:var(--l2)}svg{display:block;width:100%;height:auto}
svg path{fill:none;stroke-width:2;vector-effect:non-scaling-stroke}path.l0{stroke:var(--l0)}path.l1{stroke:var(--l1)}
path.l2{stroke:var(--l2);stroke-dasharray:6 3}svg line{stroke:var(--line)}svg text{fill:var(--soft);font-size:14px}
.scroll{overflow-x:auto}.scroll:focus-visible{outline:2px solid var(--l0)}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
th{font-size:.875rem;color:var(--soft);font-weight:600}.none,footer{color:var(--soft);font-size:.875rem}
@media(max-width:40rem){dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}}
"""

# The style goes first: its nonce is not that of the page that is there, which the browser would complain of each time.
_SCRIPT = r"""
const main=document.querySelector("main"),told=document.getElementById("told");
async function refresh(){
 if(document.hidden||String(getSelection()))return;
 try{
  const answer=await fetch(location.href,{headers:{accept:"text/html"}});
  if(!answer.ok)throw new Error(answer.status);
  const text=(await answer.text()).replace(/<style[^]*?<\/style>/,"");
  const fresh=new DOMParser().parseFromString(text,"text/html");
  const at=document.activeElement&&document.activeElement.id,top=scrollY;
  main.replaceChildren(...fresh.querySelector("main").childNodes);
  document.title=fresh.title;
  const state=fresh.querySelector("header");
  if(state.textContent!==document.querySelector("header").textContent)document.querySelector("header").replaceWith(state);
  if(at&&document.getElementById(at))document.getElementById(at).focus();
  scrollTo(0,top);told.textContent="";
 }catch(error){told.textContent="The daemon does not answer. What you see is old.";}
}
setInterval(refresh,SECONDS*1000);
""".replace("SECONDS", str(REFRESH_SECONDS))


def page(report: Report, history: History, now: float, nonce: str) -> str:
    """Render the page.

    Args:
        now: seconds of the epoch.
        nonce: lets this page's own style and script run, and no other.
    """
    level = report.level.name.lower()
    state = _text(report.state) + _worst(report)
    mark = {Level.OK: "", Level.WARNING: "! ", Level.FAILED: "!! "}[report.level]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{mark}{_text(report.title)}: {_text(report.state)}</title><link rel="icon" href="data:,">
<style nonce="{nonce}">{_STYLE}</style></head><body>
<header><h1>{_text(report.title)}: <span class="state {level}" role="status">{state}</span></h1></header>
<main>{"".join(_main(report, history, now))}</main>
<footer><p id="told" role="alert" class="failed"></p></footer>
<script nonce="{nonce}">{_SCRIPT}</script></body></html>
"""


def _main(report: Report, history: History, now: float) -> Iterator[str]:
    yield "<dl>"
    yield from map(_fact, report.facts)
    yield "</dl>"
    samples = list(history.samples)
    times = [one.at for one in samples]
    yield '<div class="charts">'
    yield chart(
        "Events a minute", times, [("in", [one.come for one in samples]), ("out", [one.gone for one in samples])]
    )
    yield chart("Waiting", times, [("events", [one.waiting for one in samples])])
    unit, seconds = _unit([one.age for one in samples])
    yield chart("Age of the oldest", times, [("age", [one.age / seconds for one in samples])], unit)
    yield "</div>"
    for at, table in enumerate(report.tables):
        yield from _table(f"t{at}", table)
    changes = [(_when(one.at, now), one.level.word, one.text) for one in reversed(history.changes)]
    yield from _table("changes", Table("Recent changes of state", ("at", "level", "what"), changes))
    yield f'<p class="none">As of {time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now))}</p>'


def _worst(report: Report) -> str:
    """What is wrong, not by colour alone."""
    names = [fact.name for fact in report.facts if fact.level is report.level]
    said = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return "" if report.level is Level.OK else f", {report.level.word}: {_text(said)}"


def _unit(ages: list[float]) -> tuple[str, float]:
    """In which these seconds are shown."""
    most = max((age for age in ages if not math.isnan(age)), default=0.0)
    units = ((" d", 86_400.0), (" h", 3_600.0), (" min", 60.0))
    return next(((name, seconds) for name, seconds in units if most >= 3 * seconds), (" s", 1.0))


def _when(at: float, now: float) -> str:
    """A time of the last hours or days; today's without the date, as a phone has little room."""
    then = time.localtime(at)
    today = then[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", then)


def _fact(fact: Fact) -> str:
    level = "" if fact.level is Level.OK else f' class="{fact.level.name.lower()}"'
    word = "" if fact.level is Level.OK else f"{fact.level.word}: "
    remedy = f" → <code>{_text(fact.remedy)}</code>" if fact.remedy else ""
    return f"<dt>{_text(fact.name)}</dt><dd{level}>{word}{_text(fact.text)}{remedy}</dd>"


def _table(key: str, table: Table) -> Iterator[str]:
    name = _text(table.name)
    yield f'<h2 id="{key}h">{name}</h2>'
    if not table.rows:
        yield '<p class="none">none</p>'
        return
    yield f'<div class="scroll" id="{key}" tabindex="0" role="region" aria-labelledby="{key}h"><table><thead><tr>'
    yield "".join(f'<th scope="col">{_text(column)}</th>' for column in table.columns)
    yield "</tr></thead><tbody>"
    for row in table.rows:
        yield "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>"
    yield "</tbody></table></div>"
    if table.left_out:
        yield f'<p class="none">and {table.left_out:,} more</p>'
    if table.remedy:
        yield f"<p><code>{_text(table.remedy)}</code></p>"


def _text(text: str) -> str:
    """Everything is foreign."""
    return html.escape(printable(text))
