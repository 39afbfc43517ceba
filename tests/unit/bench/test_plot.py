"""How cost grows, as a picture."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from boxwood.bench import frame
from tests.bench import plot
from tests.support.paths import ROOT

SVG = "{http://www.w3.org/2000/svg}"
PICTURE = ROOT / "docs/layers-growth.svg"


async def _report(scenarios: dict[str, float]) -> frame.Report:
    run = frame.Run("layers", 1, 1, list[str]().append)
    for name, seconds in scenarios.items():

        async def measure(seconds: float = seconds) -> float:
            return seconds

        await run.measure([frame.Case(frame.Scenario(name, name), "Boxwood", measure)])
    return run.report()


async def test_lines_and_axes() -> None:
    report = await _report(
        {"grow-tar-1000-tmpfs": 0.01, "grow-tar-10000-tmpfs": 0.1, "grow-tar-1000-ext4": 0.02}
        | {"deep-10-tmpfs": 0.001, "deep-500-tmpfs": 0.02, "memory-32": 5.0}
    )
    drawn = plot.lines(report, "grow-")
    assert drawn[("tar", "tmpfs")] == ((1000.0, 0.01), (10000.0, 0.1))
    assert set(drawn) == {("tar", "tmpfs"), ("tar", "ext4")}
    assert plot.lines(report, "deep-") == {("", "tmpfs"): ((10.0, 0.001), (500.0, 0.02))}
    tree = ET.fromstring(plot.render(report))
    shown = {element.text for element in tree.iter(f"{SVG}text")}
    assert {"tar", "tmpfs", "10 ms", "100 ms", "1,000", "10,000"} <= shown
    (line,) = [
        [float(number) for number in re.findall(r"[\d.]+", path.get("d", ""))]
        for path in tree.iter(f"{SVG}path")
        if path.get("class") == "c0 " and path.get("d", "").startswith("M62.0 ")
    ][:1]
    left, low, right, high = line
    assert left < right
    assert low > high, "more is further up"


def test_the_picture_of_the_page() -> None:
    """It is legible anywhere, and the page shows it."""
    found = PICTURE.read_text()
    tree = ET.fromstring(found)
    assert tree.find(f"{SVG}title") is not None
    assert "prefers-color-scheme: dark" in found
    assert "var(" not in found
    assert f"]({PICTURE.name})" in (ROOT / "docs/performance.md").read_text()
