"""The picture of make bench: what build/bench/data.json has of the last run, as tests/bench/bench.svg.

    python3 tests/bench/picture.py

README shows it, on white and on black pages alike: the background is transparent, colours and text are mid-tones, and text is drawn as
outlines. The same data gives the same bytes. A run of single groups leaves the picture as it is if it has fewer than five of the rows.
"""

import json
import os
import platform
import re
import statistics
import sys
import time
from pathlib import Path

from contenders import BUILD, install
from stub import CHUNK, CHUNKS, say

MATPLOTLIB = "matplotlib==3.11.2"
DATA = BUILD / "data.json"
TARGET = Path(__file__).with_name("bench.svg")
OURS, COMPILED, SHIPPED, NODE = "#2f81f7", "#8b949e", "#b08d57", "#57a773"
TEXT = "#7d858e"  # 3.7 to 1 against white, 5 to 1 against GitHub's dark page
THIS = {"this runtime": OURS, "awslambdaric": COMPILED}
REAL = {"make dist": OURS, "awslambdaric, compiled": COMPILED, "awslambdaric, as SAM ships it": SHIPPED}
LEGEND = {"this runtime": OURS, "awslambdaric": COMPILED, "awslambdaric, packages not compiled (as SAM ships them)": SHIPPED}
MS, US, MB = (1e3, "ms"), (1e6, "µs"), (1, "MB")
ROWS = [  # what, the samples in data.json, unit, whose
    ("cold start, boto3", "boto3 to first response", MS, REAL),
    ("cold start, Powertools", "Powertools to first response", MS, REAL),
    ("cold start, FastAPI", "FastAPI to first response", MS, REAL),
    ("cold start, empty function", "cold", MS, THIS),
    ("invocation, 3 kB event", "3 kB chunk", US, THIS),
    ("processor time, small event", "warm, processor", US, THIS),
    ("memory, empty function", "warm, resident", MB, THIS),
    ("100 MB streamed", "100 MB", MS, {"this runtime": OURS, "Node.js client": NODE}),  # awslambdaric cannot
]


def rows(figures):
    """[(what, [(whose, median, its text, colour)])] of those that have been measured."""
    if "bytes per second" in figures:
        figures = {**figures, "100 MB": {name: [CHUNK * CHUNKS / rate for rate in rates] for name, rates in figures["bytes per second"].items()}}
    drawn = []
    for label, figure, (factor, unit), whose in ROWS:
        if whose.keys() <= figures.get(figure, {}).keys():
            medians = {name: statistics.median(figures[figure][name]) * factor for name in whose}
            drawn.append((label, [(name, m, f"{m:.{1 if m < 100 else 0}f} {unit}", whose[name]) for name, m in medians.items()]))
    return drawn


def draw(drawn, footer):
    import matplotlib

    matplotlib.use("svg")
    # The identifiers in the file are made from the salt, and would else be random.
    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "bench", "font.size": 9, "text.color": TEXT})
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    height = 2.4 + sum(len(bars) + 0.8 for _, bars in drawn) + 0.8  # in bars
    figure = pyplot.figure(figsize=(8, 0.155 * height))
    axes = figure.add_axes((0.005, 0, 0.99, 1))
    axes.set(xlim=(-0.46, 1.3), ylim=(height, 0))
    axes.axis("off")
    y = 2.4
    for label, bars in drawn:
        axes.text(-0.46, y + (len(bars) - 1) / 2, label, va="center")
        longest = max(median for _, median, _, _ in bars)
        for number, (_, median, text, colour) in enumerate(bars):
            axes.barh(y, median / longest, height=0.84, color=colour)
            if not number:
                other = "AWS’s Node.js client" if bars[1][0] == "Node.js client" else "awslambdaric"
                text += f"   {median / bars[1][1]:.2f} of {other}"
            axes.text(median / longest + 0.01, y, text, va="center", fontsize=8)
            y += 1
        y += 0.8
    axes.legend(
        [Patch(color=colour) for colour in LEGEND.values()], list(LEGEND), loc="upper left", bbox_to_anchor=(-0.005, 1), ncols=3,
        frameon=False, handlelength=1, handleheight=0.8, columnspacing=1.5, borderaxespad=0, fontsize=9,
    )
    axes.text(-0.46, y + 0.1, footer, va="center", fontsize=8)
    figure.savefig(TARGET, transparent=True, metadata={"Date": None, "Creator": None, "Title": "This runtime beside AWS's awslambdaric"})


def main():
    drawn = rows(json.loads(DATA.read_text())["figures"])
    if len(drawn) < 5:
        return say(f"{TARGET.name} is left as it is: that takes a run of the groups real, cold, warm, framing and stream")
    packages = BUILD / f"{MATPLOTLIB}-{sys.implementation.cache_tag}"
    if not (packages / "matplotlib").exists() and not install(packages, [MATPLOTLIB]):
        return say(f"{TARGET.name} is left as it is: {MATPLOTLIB} could not be installed for Python {platform.python_version()}")
    sys.path.insert(0, os.fspath(packages))
    machine = re.search(r"(?m)^model name\s*: (.*)", Path("/proc/cpuinfo").read_text() + "\nmodel name: unknown")[1]
    date = time.strftime("%Y-%m-%d", time.gmtime(DATA.stat().st_mtime))
    draw(drawn, f"Medians of `make bench`, {date}, CPython {platform.python_version()}, {machine}. Shorter is better.")
    say(f"drawn: {TARGET}")


if __name__ == "__main__":
    main()
