"""Checkpoints of others: served where their labels mean something, and refused in words where they do not, or could do harm."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from harkline import contract
from harkline.contract import LogBatch, LogLine
from harkline.errors import ModelError, SettingsError
from harkline.ledger import Appending, Ledger, connect
from harkline.settings import Settings, load_settings, process_environment
from harkline_workers.checkpoint import LONGEST_TOKENS, CheckpointRefused, examine, read_checkpoint
from harkline_workers.model import Model, load_model
from harkline_workers.normalise import LEVELS
from harkline_workers.packing import shorten
from harkline_workers.source import ModelSource
from tests.support.polling import wait_for
from tests.support.redis_server import RedisServer
from tests.support.servers import free_port, running
from tests.workers.checkpoints import LINES, SPECIAL, WORDS, distilbert, make_checkpoint, roberta
from tests.workers.hub import COMMIT, hub
from tests.workers.models import make_model

needs_torch = pytest.mark.skipif(
    find_spec("torch") is None or find_spec("transformers") is None,
    reason="torch and transformers are not installed; the `train` extra brings them, and CI installs it",
)
HARKLINE = str(Path(sys.executable).parent / "harkline")
TWO_WAY = {"LABEL_0": "not_critical", "LABEL_1": "critical"}


def bare(folder: Path, **config: Any) -> Path:
    """Make a folder that looks like a checkpoint as far as it is looked at without loading it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "distilbert", **config}), "utf-8")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    return folder


@pytest.mark.parametrize(
    ("labels", "words", "levels"),
    [
        (None, {"LABEL_0": "info", "LABEL_1": "error"}, ["info", "error"]),
        ({"0": "not critical", "1": "Critical"}, {}, ["info", "critical"]),
        (
            {"0": "DEBUG", "1": "INFO", "2": "WARN", "3": "ERROR"},
            {"WARN": "warning"},
            ["debug", "info", "warning", "error"],
        ),
        (
            {"1": "bad", "0": "fine", "2": "worse"},
            {"fine": "info", "bad": "error", "worse": "error"},
            ["info", "error", "error"],
        ),
    ],
    ids=["named by transformers", "a severity in words", "some of ours", "in the order of their numbers"],
)
def test_labels_get_the_meaning_they_are_given(
    tmp_path: Path, labels: dict[str, str] | None, words: dict[str, str], levels: list[str]
) -> None:
    """Ours by their name in any case, others by HARKLINE_MODEL_LABELS; not_critical is info."""
    folder = bare(tmp_path / "model", **({"id2label": labels} if labels else {}))
    assert [LEVELS[column] for column in examine(folder, words)] == levels


@pytest.mark.parametrize(
    ("config", "words", "message"),
    [
        (
            {},
            {},
            "labels of .* are LABEL_0, LABEL_1; LABEL_0, LABEL_1 have no meaning here: set HARKLINE_MODEL_LABELS=",
        ),
        ({}, {"LABEL_0": "info"}, "LABEL_1 has no meaning here: set HARKLINE_MODEL_LABELS=LABEL_0=info,LABEL_1="),
        (
            {"id2label": {"0": "NEGATIVE", "1": "POSITIVE"}},
            TWO_WAY,
            "NEGATIVE, POSITIVE have no .*LABEL_0, LABEL_1 of HARKLINE_MODEL_LABELS are not among",
        ),
        ({}, {"LABEL_0": "error", "LABEL_1": "critical"}, "every label of .* means error or critical"),
        ({}, {"LABEL_0": "info", "LABEL_1": "debug"}, "every label of .* means below error"),
        ({"id2label": {"0": "score"}}, {"score": "critical"}, "chooses one of several labels"),
        ({"problem_type": "multi_label_classification"}, TWO_WAY, "problem_type 'multi_label_classification'"),
    ],
    ids=[
        "unmapped",
        "half mapped",
        "mapped by other names",
        "all critical",
        "none critical",
        "regression",
        "multi-label",
    ],
)
def test_labels_of_unknown_meaning_are_refused(
    tmp_path: Path, config: dict[str, Any], words: dict[str, str], message: str
) -> None:
    """The sentence names the labels and the setting; nothing is guessed."""
    with pytest.raises(CheckpointRefused, match=message):
        examine(bare(tmp_path / "model", **config), words)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    """A checkpoint with nothing but a .bin is refused for good; one whose weights are not there (yet) is only not served."""
    folder = bare(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointRefused, match=r"pickled only \(pytorch_model\.bin\).*save them as safetensors"):
        examine(folder, TWO_WAY)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match=r"holds no model\.safetensors") as error:
        examine(folder, TWO_WAY)
    assert not isinstance(error.value, CheckpointRefused)


def test_the_version_follows_all_that_decides_a_verdict(tmp_path: Path) -> None:
    """Other weights, another meaning or another threshold is another version; a read-me is not, and an equal copy elsewhere is the same."""
    folder = bare(tmp_path / "model")
    versions = [
        read_checkpoint(folder, TWO_WAY).version,
        read_checkpoint(folder, TWO_WAY, 0.3).version,
        read_checkpoint(folder, {"LABEL_0": "critical", "LABEL_1": "info"}).version,
    ]
    (folder / "README.md").write_text("no matter")
    assert read_checkpoint(folder, TWO_WAY).version == versions[0]
    assert read_checkpoint(bare(tmp_path / "copy"), TWO_WAY, 0.5).version == versions[0]
    (folder / "model.safetensors").write_bytes(b"others")
    versions.append(read_checkpoint(folder, TWO_WAY).version)
    assert len(set(versions)) == len(versions)


def test_settings_of_a_checkpoint_are_told_when_they_are_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A word that is none of ours, a threshold out of range and two models at once are three sentences at once; empty variables are not set."""
    for name, value in {
        "MODEL": "a/b",
        "MODEL_DIR": "c",
        "MODEL_LABELS": "LABEL_0=bad",
        "MODEL_THRESHOLD": "1.5",
    }.items():
        monkeypatch.setenv(f"HARKLINE_{name}", value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert len(error.value.problems) == 3
    for name in ("MODEL", "MODEL_DIR", "MODEL_LABELS", "MODEL_THRESHOLD"):
        monkeypatch.setenv(f"HARKLINE_{name}", "")
    settings = load_settings(data_dir=tmp_path)
    assert (settings.model_dir, settings.model_threshold, settings.label_words) == (None, None, {})


def test_settings_of_a_checkpoint_do_not_pass_in_silence_on_ours(tmp_path: Path) -> None:
    """Our models carry labels and threshold: setting them beside one is refused, not ignored."""
    make_model(tmp_path / "ours")
    settings = Settings(data_dir=tmp_path, model=str(tmp_path / "ours"), model_threshold=0.3)
    with pytest.raises(CheckpointRefused, match="which carries both: unset them"):
        ModelSource(settings).prepare()


@pytest.fixture(scope="module")
def two_way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return distilbert(tmp_path_factory.mktemp("distilbert"))


def expected(folder: Path, texts: list[str], longest: int) -> np.ndarray:
    """Return the probabilities of the labels as transformers alone gives them, a line at a time."""
    import torch
    import transformers
    from tokenizers import Tokenizer

    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    chances = []
    for text in texts:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([list(shorten(tokenizer.encode(text).ids, longest))])).logits
        chances.append(torch.softmax(logits, -1)[0].numpy())
    return np.stack(chances)


@pytest.mark.torch
@needs_torch
def test_a_score_is_the_probability_of_the_critical_labels(two_way: Path) -> None:
    """A two-way DistilBERT: the same probabilities as transformers gives, at `info` and `critical`, for odd lines too, in any order."""
    model = load_model(two_way, words=TWO_WAY, threshold=0.4)
    chances = model.predict(LINES)
    np.testing.assert_allclose(
        chances[:, [LEVELS.index("info"), LEVELS.index("critical")]],
        expected(two_way, LINES, LONGEST_TOKENS),
        atol=1e-5,
    )
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(model.predict(LINES[::-1]), chances[::-1], atol=1e-5)
    assert chances[:, LEVELS.index("critical")].std() > 0.01
    assert (model.threshold, model.backend, model.predict([]).shape) == (0.4, "transformers", (0, 5))
    model.close()


@pytest.mark.torch
@needs_torch
def test_labels_of_one_level_are_added_up(tmp_path: Path) -> None:
    """A RoBERTa of four labels, two of which mean error: their probabilities add up, and lines keep within its few positions."""
    folder = roberta(tmp_path, num_labels=4)
    words = {"LABEL_0": "error", "LABEL_1": "info", "LABEL_2": "error", "LABEL_3": "critical"}
    chances = load_model(folder, words=words).predict(LINES)
    truth = expected(folder, LINES, 40)
    np.testing.assert_allclose(chances[:, LEVELS.index("error")], truth[:, 0] + truth[:, 2], atol=1e-5)
    np.testing.assert_allclose(chances[:, LEVELS.index("critical")], truth[:, 3], atol=1e-5)
    assert not chances[:, LEVELS.index("debug")].any()


@pytest.mark.torch
@needs_torch
@pytest.mark.parametrize(
    ("kind", "sizes", "pads"),
    [
        ("GPT2", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 300}, "never"),
        ("GPT2", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 300, "pad_token_id": 0}, "right"),
        ("XLNet", {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32}, "left"),
        (
            "Electra",
            {"hidden_size": 16, "embedding_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
            "right",
        ),
    ],
    ids=["without a padding token", "decoder", "last token", "encoder"],
)
def test_company_moves_no_score(tmp_path: Path, kind: str, sizes: dict[str, Any], pads: str) -> None:
    """Whatever an architecture makes of padding: where it would change a score, it is put on the other side, or left out."""
    model = load_model(make_checkpoint(tmp_path, kind, **sizes), words=TWO_WAY)
    together = model.predict(LINES)
    alone = np.concatenate([model.predict([line]) for line in LINES])
    np.testing.assert_allclose(together, alone, atol=1e-3)
    assert model._backend._pads == pads  # type: ignore[attr-defined]


@pytest.mark.torch
@needs_torch
def test_a_checkpoint_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    """transformers would fill in random weights, and every verdict would be a coin's."""
    import transformers

    config = transformers.DistilBertConfig(vocab_size=32, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    transformers.DistilBertModel(config).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"lacks trained weights \(classifier\.bias, classifier\.weight"):
        load_model(tmp_path, words=TWO_WAY)


@pytest.mark.torch
@needs_torch
def test_nothing_that_comes_with_a_checkpoint_is_run(two_way: Path, tmp_path: Path) -> None:
    """Neither its code nor a pickle beside the safetensors."""
    trace = tmp_path / "was-run"
    folder = distilbert(tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Opener(str(trace))))
    load_model(folder, words=TWO_WAY)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "mine",
        "auto_map": {"AutoModelForSequenceClassification": "mine.Model", "AutoConfig": "mine.Config"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(trace)!r}, 'w')")
    with pytest.raises(ModelError, match="transformers cannot load"):
        load_model(folder, words=TWO_WAY)
    assert not trace.exists()


class Opener:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


@pytest.mark.torch
@needs_torch
def test_a_checkpoint_with_a_vocabulary_only_is_served(tmp_path: Path) -> None:
    """Older ones have a vocab.txt and no tokenizer.json; the tokenizer is made from it."""
    folder = distilbert(tmp_path)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(SPECIAL + WORDS))
    model = load_model(folder, words=TWO_WAY)
    encoding = model._tokenizer.encode("Disk failed")
    assert encoding.tokens == ["[CLS]", "disk", "failed", "[SEP]"]
    np.testing.assert_allclose(model.predict(["Disk failed"]), model.predict(["disk failed"]))


@pytest.mark.torch
@needs_torch
def test_more_classes_than_labels_are_refused(tmp_path: Path) -> None:
    """BART assumes three labels where its configuration names none, others two: what is assumed must not be what is judged by."""
    folder = distilbert(tmp_path, num_labels=3)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "LABEL_0", "1": "LABEL_1"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"lacks trained weights|scores 3 classes"):
        load_model(folder, words=TWO_WAY)


def resolve(model: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Look a model up in a process of its own: the hub's client reads its environment when it is imported."""
    code = (
        "import sys; from harkline.settings import load_settings; from harkline_workers import store\n"
        "from harkline.errors import ModelError\n"
        "try: print(store.resolve(load_settings()))\n"
        "except ModelError as error: print(error)"
    )
    environment = {
        "HF_HOME": str(folder / "home"),
        "HARKLINE_DATA_DIR": str(folder),
        "HARKLINE_MODEL": model,
    } | environment
    return subprocess.run(
        [sys.executable, "-c", code],
        env=process_environment(**environment),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


@needs_torch
def test_a_hub_id_is_fetched_once_and_without_pickles(tmp_path: Path) -> None:
    """Only what is served is downloaded, into the data folder; afterwards no hub is needed."""
    published = bare(tmp_path / "published")
    (published / "pytorch_model.bin").write_bytes(b"a pickle")
    (published / "modeling.py").write_text("code")
    home = f"{tmp_path}/models/hub/models--org--name/snapshots/{COMMIT}\n"
    with hub("org/name", published) as online:
        assert resolve("org/name@main", tmp_path, HF_ENDPOINT=online.url).stdout == home
        assert sorted(online.fetched) == ["config.json", "model.safetensors", "tokenizer.json"]
        unknown = resolve("org/other", tmp_path, HF_ENDPOINT=online.url).stdout
        assert unknown.startswith("the checkpoint org/other is not on the hub, or private")
    assert resolve("org/name", tmp_path, HF_ENDPOINT=online.url).stdout == home


@needs_torch
def test_a_hub_id_without_a_network_is_one_sentence(tmp_path: Path) -> None:
    """It says that the checkpoint is not here, why it cannot be fetched, and what to set instead."""
    said = resolve("org/name", tmp_path, HF_HUB_OFFLINE="1").stdout
    assert said.startswith("the checkpoint org/name is not on this machine, and the hub cannot be reached (")
    assert said.endswith("HARKLINE_MODEL may name a local folder instead\n")
    assert said.count("\n") == 1


@needs_torch
def test_a_hub_id_with_pickled_weights_only_is_refused(tmp_path: Path) -> None:
    """They are not even downloaded."""
    published = bare(tmp_path / "published")
    (published / "model.safetensors").rename(published / "pytorch_model.bin")
    with hub("org/name", published) as online:
        said = resolve("org/name", tmp_path, HF_ENDPOINT=online.url).stdout
        assert "has no model.safetensors (pickled weights are never loaded" in said
        assert "pytorch_model.bin" not in online.fetched


def worker_settings(empty_redis: RedisServer, tmp_path: Path, **settings: Any) -> Settings:
    return Settings(
        redis_url=SecretStr(empty_redis.url),
        data_dir=tmp_path / "data",
        metrics_port=free_port(),
        worker_processes=1,
        log_format="json",
        **settings,
    )


@needs_torch
def test_a_worker_does_not_start_with_labels_of_unknown_meaning(empty_redis: RedisServer, tmp_path: Path) -> None:
    """It ends with a status other than 0 before it has a pool, and its last words name the labels and the setting."""
    settings = worker_settings(empty_redis, tmp_path, model=str(bare(tmp_path / "model")))
    ended = subprocess.run(
        [HARKLINE, "worker"],
        env=process_environment(**settings.environment()),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    last = json.loads(ended.stderr.strip().splitlines()[-1])
    assert last["event"] == "model_refused"
    assert "LABEL_0, LABEL_1 have no meaning here: set HARKLINE_MODEL_LABELS=" in last["why"]
    assert "worker-child" not in ended.stderr


@pytest.mark.system
@pytest.mark.torch
@needs_torch
def test_a_worker_serves_a_checkpoint(empty_redis: RedisServer, two_way: Path, tmp_path: Path) -> None:
    """A real worker judges by it: verdicts carry its version and its score."""
    settings = worker_settings(
        empty_redis, tmp_path, model=str(two_way), model_labels="LABEL_0=not_critical,LABEL_1=critical"
    )
    ledger = Ledger(connect(settings), settings)
    ledger.open()
    command = ["env", *(f"{name}={value}" for name, value in settings.environment().items()), HARKLINE, "worker"]
    with running(command, tmp_path / "log"):
        [state] = wait_for(lambda: list(ledger.workers().values()), 120, "the worker to report")
        lines = [LogLine("disk failed"), LogLine("backup finished")]
        batch = ledger.append([Appending(contract.encode_batch(LogBatch(lines, True)), 2)], 10**6)[0][0].batch
        verdicts = wait_for(lambda: ledger.verdicts(batch), 60, "verdicts")
    own: Model = load_model(two_way, words=TWO_WAY)
    assert state.model == own.version
    scores = own.predict(["none | disk failed", "none | backup finished"])[:, LEVELS.index("critical")]
    for verdict, score in zip(verdicts, scores.tolist(), strict=True):
        assert (verdict.model, verdict.source, verdict.degraded) == (own.version, "model", False)
        assert verdict.score == pytest.approx(score, abs=1e-3)
        assert verdict.severity == ("critical" if score >= 0.5 else "not_critical")
