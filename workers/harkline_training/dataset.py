"""Turn the corpus into training and evaluation examples: checked, rendered as raw lines, normalised as in serving, split by system.

The model is fed exactly what `normalise` makes of a rendered line, so that nothing it learns from can differ from what it will read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from harkline.errors import HarklineError
from harkline_training.slots import ENVELOPE_SLOTS, SLOTS, SlotError, fill, klog_time, slots_of
from harkline_workers.normalise import LEVELS, canonical_level, normalise

CORPUS_DIR = Path(__file__).parent / "corpus"
_CATEGORY_WORDS = """
    kernel storage memory hardware network security database queue cache web kubernetes container runtime
    app business batch backup tls dns mail config deploy auth cloud iot client
"""
CATEGORIES = frozenset(_CATEGORY_WORDS.split())
CONTRASTS = frozenset({"negation", "recovery", "drill", "threshold", "scary", "quiet", "lie"})

_REQUIRED = {"template", "logged", "level", "category", "reason"}
_OPTIONAL = {"raw", "contrast"}
_POSITIVE = ("error", "critical")
_ROUTINE = ("debug", "info")

# How a training line shows its level: as logged, taken away, or replaced by one drawn at random. A level must stay a hint and never become the answer.
_AS_LOGGED, _REMOVED = 0.40, 0.44
_BARE_SHARE = 0.4


class CorpusError(HarklineError):
    """The corpus does not keep its own rules. `problems` holds one sentence for each, with file and row."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Template:
    """One message of one system, with typed slots, and what a person on call would make of it."""

    system: str
    text: str
    raw: bool
    logged: str | None
    level: str
    category: str
    reason: str
    contrast: str | None

    @property
    def label(self) -> int:
        """The level's place in `LEVELS`."""
        return LEVELS.index(self.level)

    @property
    def critical(self) -> bool:
        """Whether a person on call would want to be told."""
        return self.level in _POSITIVE

    @property
    def routine(self) -> bool:
        """Whether it is everyday operation, and not written to teach a distinction."""
        return self.level in _ROUTINE and self.contrast is None


@dataclass(frozen=True, slots=True)
class System:
    """One system: the ways it wraps a message, and its messages."""

    name: str
    domain: str
    envelopes: tuple[str, ...]
    templates: tuple[Template, ...]


class Example(NamedTuple):
    """One line as the model reads it."""

    model_input: str
    template: Template


class Split(NamedTuple):
    """Systems to learn from, and systems to judge by. No system is in both."""

    train: list[System]
    held_out: list[System]


def load_corpus(directory: Path = CORPUS_DIR) -> list[System]:
    """Read every `*.jsonl` of the corpus, in order of names. Raises CorpusError with all problems at once."""
    problems: list[str] = []
    systems = [_read_system(path, problems) for path in sorted(directory.glob("*.jsonl"))]
    seen: dict[str, Template] = {}
    for template in (template for system in systems for template in system.templates):
        first = seen.setdefault(template.text, template)
        if first is not template and (first.system == template.system or first.critical != template.critical):
            problems.append(
                f"{template.system} says {template.level}, {first.system} said {first.level} before: {template.text!r}"
            )
    if not systems:
        problems.append(f"no *.jsonl in {directory}")
    if problems:
        raise CorpusError(problems)
    return systems


def _read_system(path: Path, problems: list[str]) -> System:
    rows: list[tuple[int, dict[str, Any]]] = []
    for number, text in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if text.strip():
            try:
                rows.append((number, json.loads(text)))
            except ValueError as error:
                problems.append(f"{path.name}:{number}: no JSON ({error})")
    if not rows or set(rows[0][1]) != {"system", "domain", "envelopes"}:
        problems.append(f"{path.name}:1: the first row must hold system, domain and envelopes, and nothing else")
        return System(path.stem, "", (), ())
    head = rows[0][1]
    if head["system"] != path.stem:
        problems.append(f"{path.name}:1: describes {head['system']!r}; the file must be named for its system")
    for envelope in head["envelopes"]:
        problems.extend(f"{path.name}:1: {problem}" for problem in _envelope_problems(envelope))
    templates: list[Template] = []
    for number, row in rows[1:]:
        faults = _row_problems(row)
        problems.extend(f"{path.name}:{number}: {fault}" for fault in faults)
        if not faults:
            templates.append(_template(path.stem, row))
    return System(path.stem, head["domain"], tuple(head["envelopes"]), tuple(templates))


def _template(system: str, row: dict[str, Any]) -> Template:
    values = {name: row[name] for name in ("logged", "level", "category", "reason")}
    return Template(
        system=system, text=row["template"], raw=bool(row.get("raw")), contrast=row.get("contrast"), **values
    )


def _row_problems(row: dict[str, Any]) -> list[str]:
    if missing := _REQUIRED - set(row):
        return [f"lacks {', '.join(sorted(missing))}"]
    faults = [f"unknown field {name!r}" for name in sorted(set(row) - _REQUIRED - _OPTIONAL)]
    for name, allowed in (("level", LEVELS), ("category", CATEGORIES), ("contrast", CONTRASTS | {None})):
        if row.get(name) not in allowed:
            faults.append(f"{name} is {row.get(name)!r}, which is none of {', '.join(sorted(map(str, allowed)))}")
    try:
        faults += [
            f"unknown slot {{{slot}}} in {row['template']!r}" for slot in slots_of(row["template"]) if slot not in SLOTS
        ]
    except SlotError as error:
        faults.append(str(error))
    return faults


def _envelope_problems(envelope: str) -> list[str]:
    try:
        names = slots_of(envelope)
    except SlotError as error:
        return [str(error)]
    faults = [
        f"unknown slot {{{name}}} in envelope {envelope!r}"
        for name in names
        if name not in SLOTS and name not in ENVELOPE_SLOTS
    ]
    return faults if names.count("message") == 1 else [*faults, f"envelope {envelope!r} must hold {{message}} once"]


def fingerprint(systems: Sequence[System]) -> str:
    """Return a short digest of everything the corpus says, to name in the model card what a model was trained on."""
    return hashlib.sha256(repr(systems).encode()).hexdigest()[:12]


def split_systems(systems: Sequence[System], folds: int = 3, fold: int = 0, seed: int = 0) -> Split:
    """Hold out every system of one fold. A system's fold follows from its name and the seed alone, so that a corpus that grows keeps old systems in place."""
    split = Split([], [])
    for system in systems:
        place = int(hashlib.sha256(f"{seed}:{system.name}".encode()).hexdigest()[:8], 16) % folds
        (split.held_out if place == fold else split.train).append(system)
    return split


def render(template: Template, system: System, rng: Random, *, show_level: bool, bare: bool = False) -> str:
    """Return one raw line. Without `show_level` no envelope with a level is taken; a raw template stays as it is written."""
    message = fill(template.text, rng)
    if template.raw or bare:
        return message
    shown = show_level and template.logged is not None
    envelopes = [envelope for envelope in system.envelopes if shown or "{level}" not in envelope]
    if not envelopes:
        return message
    envelope = rng.choice(envelopes)
    given = {"message": message, "level": template.logged or ""}
    if "{level}{ts}" in envelope:
        given["ts"] = klog_time(rng)
    return fill(envelope, rng, given)


def training_examples(systems: Sequence[System], renderings: int, seed: int) -> list[Example]:
    """Render every template `renderings` times, in envelopes and bare, with its level as logged, taken away or replaced."""
    rng = Random(f"train:{seed}")
    return [
        _training_example(template, system, rng)
        for system in systems
        for template in system.templates
        for _ in range(renderings)
    ]


def _training_example(template: Template, system: System, rng: Random) -> Example:
    draw = rng.random()
    bare = rng.random() < _BARE_SHARE
    if draw < _AS_LOGGED:
        line = render(template, system, rng, show_level=True, bare=bare)
        # A level beside the message, as shippers with fields send it, where the line itself shows none.
        field = template.logged if bare and template.logged and canonical_level(template.logged) else ""
        return Example(normalise(line, field).model_input, template)
    if draw < _AS_LOGGED + _REMOVED:
        return Example(without_level(render(template, system, rng, show_level=False, bare=bare)), template)
    return Example(
        normalise(render(template, system, rng, show_level=False, bare=bare), rng.choice(LEVELS)).model_input, template
    )


def evaluation_examples(systems: Sequence[System], renderings: int = 2, seed: int = 0) -> list[Example]:
    """Render every template with its level taken away: what evaluation is about, because a truthful level makes the task trivial."""
    rng = Random(f"evaluate:{seed}")
    return [
        Example(without_level(render(template, system, rng, show_level=False, bare=index % 2 == 0)), template)
        for system in systems
        for template in system.templates
        for index in range(renderings)
    ]


def without_level(line: str) -> str:
    """Return the model's input for a line whose level, if it shows one, has been taken out."""
    normalised = normalise(line)
    return f"none | {normalised.template}"
