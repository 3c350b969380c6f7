"""Pages in Chromium: at the width of a desk, a phone and a sheet of paper, light and dark, on screen and printed."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bimixjax._base import provenance
from bimixjax.loop.decision import Decision
from bimixjax.reports.html import decision

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")

DARK = "(prefers-color-scheme: dark)"
# Width and height of a window; and what holds there of the two media queries. The last is A4 without its margins.
VIEWS = {
    "desk": (1280, 900, "not all", "print"),
    "phone": (390, 844, "not all", "print"),
    "phone, dark": (390, 844, "all", "print"),
    "paper": (680, 1000, "not all", "all"),
}
# Ratios of luminance that the Web Content Accessibility Guidelines 2.2 ask for: text 4.5 (1.4.3), marks 3 (1.4.11).
TEXT, MARKS = 4.5, 3.0

# Written into a copy of the page: what a reader would stumble over, by kind.
MEASURE = """
const faults = [], wide = document.scrollingElement.scrollWidth, room = window.innerWidth;
const words = element => (element.textContent || element.tagName).trim().slice(0, 60);
const fault = (kind, element) => faults.push(kind + ': ' + words(element));
const box = element => element.getBoundingClientRect();
// Lines of one label may share the room that fonts keep above and below their letters.
const crossed = (a, b, share) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
  && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1 + share * Math.min(a.height, b.height);
const over = (boxes, share) => boxes.forEach((one, i) => boxes.slice(i + 1).forEach(two => {
  if (crossed(box(one), box(two), share)) fault('over', two); }));
if (wide > room) faults.push('scrolls: ' + wide + ' of ' + room);
for (const element of document.querySelectorAll('main *')) {
  const scroller = element.closest('.scroll'), edge = box(element);
  if (scroller && getComputedStyle(scroller).overflowX === 'auto') continue;
  if (edge.width && (edge.right > room + 1 || edge.left < -1)) fault('outside', element);
  if (!element.closest('svg') && element.scrollWidth > element.clientWidth + 1
      && getComputedStyle(element).display !== 'inline') fault('cut', element);
}
const boxes = 'main, header, section, figure, .pair, .tables, .several, .framed, dl';
for (const parent of document.querySelectorAll(boxes)) over([...parent.children].filter(child => box(child).height), 0);
const drawings = [...document.querySelectorAll('svg')];
for (const svg of drawings) {
  const texts = [...svg.querySelectorAll('text')], whole = box(svg);
  if (whole.width < 150 || whole.height < 40 || !texts.length) fault('empty', svg);
  for (const text of texts) {
    const edge = box(text);
    if (edge.left < whole.left - 2 || edge.right > whole.right + 2
        || edge.top < whole.top - 2 || edge.bottom > whole.bottom + 2) fault('out of its figure', text);
    if (parseFloat(getComputedStyle(text).fontSize) * whole.width / svg.viewBox.baseVal.width < 8) fault('tiny', text);
  }
  over(texts, 0.35);
}
const light = color => { const [r, g, b] = color.match(/[\\d.]+/g).map(x => x / 255)
  .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const paper = light(getComputedStyle(document.body).backgroundColor);
const contrast = color => { const it = light(color);
  return (Math.max(it, paper) + 0.05) / (Math.min(it, paper) + 0.05); };
const inks = ['p', 'h1', 'td', '.gloss', 'figcaption', 'a']
  .map(name => getComputedStyle(document.querySelector(name)).color);
inks.push(...[...document.querySelectorAll('svg text')].map(text => getComputedStyle(text).fill));
const marks = [...document.querySelectorAll('svg use')].map(use => getComputedStyle(use).fill)
  .filter(fill => fill.startsWith('rgb('));
parent.postMessage({view: NAME, faults: [...new Set(faults)], figures: drawings.length, dark: paper < 0.2,
  text: Math.min(...inks.map(contrast)), marks: Math.min(...marks.map(contrast)),
  requests: performance.getEntriesByType('resource').length}, '*');
"""
HARNESS = """<!DOCTYPE html><meta charset="utf-8"><body><script>
const found = []; onmessage = event => { found.push(event.data);
document.body.dataset.found = JSON.stringify(found); };
</script>%s</body>"""


def chromium(folder: Path, *arguments: str) -> str:
    """Run Chromium without a window and without a network; return what it prints."""
    quiet = ["first-run", "component-update", "background-networking", "sync", "gpu", "quic"]
    flags = ["--headless", "--no-sandbox", "--no-first-run", f"--user-data-dir={folder / 'profile'}"]
    flags += [f"--disable-{name}" for name in quiet[1:]]
    # Any host but this file would be a request that leaves the page.
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=20000"]
    command = [str(CHROMIUM), *flags, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=240).stdout


def measured(page: str, folder: Path) -> dict[str, dict]:
    """Lay a page out in every view, in one run of the browser, and return what was measured in each."""
    frames = []
    for name, (width, height, dark, printed) in VIEWS.items():
        copy = page.replace(DARK, dark).replace("@media print", f"@media {printed}")
        script = MEASURE.replace("NAME", json.dumps(name))
        copy = copy.replace("</body>", f"<script>onload = () => {{{script}}};</script></body>")
        size = f'style="border:0;width:{width}px;height:{height}px"'
        frames.append(f'<iframe srcdoc="{html.escape(copy)}" {size}></iframe>')
    whole = folder / "views.html"
    whole.write_text(HARNESS % "".join(frames), encoding="utf-8")
    printed = chromium(folder, "--window-size=1400,1000", "--dump-dom", whole.as_uri())
    found = re.search(r'data-found="([^"]*)"', printed)
    assert found, printed[:2000]
    return {each["view"]: each for each in json.loads(html.unescape(found[1]))}


def test_a_page_is_readable_wherever_it_is_read(odd_decision: Decision, tmp_path: Path) -> None:
    page = decision.text(odd_decision, provenance.of("report.html"), settings={"volume": "64k"})
    found = measured(page, tmp_path)
    assert set(found) == set(VIEWS)
    for name, view in found.items():
        assert view["faults"] == [], name
        assert view["figures"] == page.count("<svg")
        assert view["requests"] == 0
        assert view["dark"] == ("dark" in name)
        assert view["text"] >= TEXT, name
        assert view["marks"] >= MARKS, name


def test_faults_are_seen(tmp_path: Path) -> None:
    """The test above would pass on a page that nobody measures."""
    wrong = '<p>a</p><h1>b</h1><table><td class="gloss">c</td></table><figcaption><a>d</a></figcaption><section>'
    wrong += '<div style="width:3000px">wide</div><div style="margin-top:-30px">over</div></section>'
    wrong += '<svg viewBox="0 0 99 99" style="width:99px;color:#eee"><text x="90" y="9">out of it</text></svg>'
    style = "<style>@media (prefers-color-scheme: dark) {} @media print {}</style>"
    found = measured(f"<!DOCTYPE html>{style}<body><main>{wrong}</main></body>", tmp_path)["phone"]
    kinds = {fault.partition(":")[0] for fault in found["faults"]}
    assert {"scrolls", "outside", "over", "empty", "out of its figure"} <= kinds


def test_a_page_prints_on_a_few_sheets(odd_decision: Decision, tmp_path: Path) -> None:
    page, printed = tmp_path / "report.html", tmp_path / "report.pdf"
    decision.write(odd_decision, page)
    chromium(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={printed}", page.as_uri())
    content = printed.read_bytes()
    assert content.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 9
