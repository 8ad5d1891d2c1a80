"""The measured rows as Markdown, put between markers of the documents that show them: `<!-- bench:NAME -->` to `<!-- /bench:NAME -->`."""

from __future__ import annotations

import re
import statistics
from functools import partial
from typing import TYPE_CHECKING

from tests.bench.targets import targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from tests.bench.results import Results, Row

_SUMMARY = (
    ("demo", "the demo's way: one line a request, DistilBERT in the request"),
    ("demo_ours", "the demo's way with our model"),
    ("no_cache", "ours, every line a new template, no cache"),
    ("cold", "ours, a real stream, caches empty"),
    ("warm_256", "ours, warm, other numbers in every line, requests of 256"),
    ("warm_1000", "ours, warm, other numbers in every line, requests of 1,000"),
)


_ALL = "abcdefgklmost"
# Less than this is what any machine does by itself.
_QUIET_CORES = 0.1


def sections(results: Results, letters: Iterable[str] = _ALL) -> dict[str, str]:
    """Return what stands between each pair of markers, for those that show one of these parts."""
    makers: dict[str, tuple[str, Callable[[Results], str]]] = {
        "machine": (_ALL, _machine),
        "throughput": ("abcde", lambda found: _throughput(found, "abcde")),
        "ceiling": ("f", lambda found: _throughput(found, "f")),
        "latency": ("l", lambda found: _plain(found, "l")),
        "overload": ("o", lambda found: _plain(found, "o")),
        "memory": ("m", lambda found: _plain(found, "m")),
        "growth": ("skt", lambda found: f"{_throughput(found, 's')}\n\n{_plain(found, 'kt')}"),
        "gpu": ("g", _gpu),
        "targets": (_ALL, _targets),
        "summary": ("abcde", _summary),
    }
    wanted = set(letters)
    return {name: make(results) for name, (shown, make) in makers.items() if wanted & set(shown)}


def fill(document: Path, texts: dict[str, str]) -> bool:
    """Put texts between their markers; returns whether the document has any. What has no marker is left out."""
    before = document.read_text("utf-8")
    after = before
    for name, text in texts.items():
        pattern = rf"(<!-- bench:{name} -->\n).*?(<!-- /bench:{name} -->)"
        # A plain replacement would read backslashes in the text as its own.
        after = re.sub(pattern, partial(_between, text), after, flags=re.DOTALL)
    if after != before:
        document.write_text(after, "utf-8")
    return "<!-- bench:" in before


def _between(text: str, found: re.Match[str]) -> str:
    return f"{found[1]}{text}\n{found[2]}"


def number(value: float) -> str:
    """Return a number with three figures, thousands set apart."""
    if value >= 1000:
        digits = len(str(int(value))) - 3
        return f"{round(value / 10**digits) * 10**digits:,}"
    return f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """Return the least and the most of several repeats, or nothing for a single one."""
    return f"{number(min(values))} to {number(max(values))}" if len(values) > 1 else ""


def _rows(results: Results, letters: str) -> list[Row]:
    return [row for letter in letters if letter in results.parts for row in results.parts[letter].rows]


def _machine(results: Results) -> str:
    taken = sorted(part.at for part in results.parts.values())
    when = taken[0][:16].replace("T", " ") if taken else "not yet"
    until = f" to {taken[-1][11:16]}" if len(taken) > 1 else ""
    text = f"Taken {when}{until} UTC on {results.machine}. Lines: {results.stream}. "
    busy = [
        f"{part.other_cores + part.stolen_cores:.2f} during {part.title}"
        for part in results.parts.values()
        if part.other_cores + part.stolen_cores >= _QUIET_CORES
    ]
    text += f"Cores that others kept busy meanwhile: {', '.join(busy) or f'less than {_QUIET_CORES} throughout'}."
    quick = [letter for letter, part in results.parts.items() if part.quick]
    return text + (f" **Parts {', '.join(quick)} were only tried (`--quick`).**" if quick else "")


def _throughput(results: Results, letters: str) -> str:
    demo = results.middle("demo")
    table = [
        "| | lines per CPU-second | spread | lines per second | the demo's times | |",
        "|---|---:|---|---:|---:|---|",
    ]
    for row in _rows(results, letters):
        if row.unit != "lines/CPU-s":
            continue
        wall = number(statistics.median(row.wall)) if row.wall else ""
        times = number(row.middle / demo) if demo else ""
        table.append(f"| {row.what} | {number(row.middle)} | {spread(row.values)} | {wall} | {times} | {row.note} |")
    return "\n".join(table)


def _plain(results: Results, letters: str) -> str:
    table = ["| | measured | spread | |", "|---|---:|---|---|"]
    table += [
        f"| {row.what} | {number(row.middle)} {row.unit} | {spread(row.values)} | {row.note} |"
        for row in _rows(results, letters)
    ]
    return "\n".join(table)


def _gpu(results: Results) -> str:
    return _plain(results, "g") if _rows(results, "g") else "Not measured: no GPU was at hand."


def _targets(results: Results) -> str:
    table = ["| | to reach | measured | |", "|---|---:|---:|---|"]
    for target in targets(results):
        bound = f"{'at most' if target.is_most else 'at least'} {target.wanted:,.0f} {target.unit}"
        measured = "" if target.measured is None else f"{number(target.measured)} {target.unit}"
        table.append(f"| {target.what} | {bound} | {measured} | {target.verdict} |")
    return "\n".join(table)


def _summary(results: Results) -> str:
    demo = results.middle("demo")
    table = ["| | lines per CPU-second, every process counted | the demo's times |", "|---|---:|---:|"]
    for key, what in _SUMMARY:
        if (row := results.row(key)) is not None:
            table.append(f"| {what} | {number(row.middle)} | {number(row.middle / demo) if demo else ''} |")
    return "\n".join(table)
