"""The way of the demo that this product follows: a Flask view that runs a Hugging Face pipeline on one line while its sender waits.

Two shapes. `distilbert` is the demo's own: DistilBERT by its sizes, with random weights, since only the time is of interest. `ours` is the shipped model as
Hugging Face would run it, its normalisation included. Both get the kindest settings: no padding, one thread a process, one process a core.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import flask
import torch
import transformers
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from tests.bench.places import DEMO_READY, MODEL_DIR

if TYPE_CHECKING:
    from collections.abc import Callable


class MeanPooledBert(transformers.BertPreTrainedModel):  # type: ignore[misc]  # transformers carries no types
    """The shipped model as a class of transformers: BERT, the mean of the tokens, one linear layer."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.bert = transformers.BertModel(config, add_pooling_layer=False)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> SequenceClassifierOutput:
        """Return logits (n, labels)."""
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        member = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return SequenceClassifierOutput(logits=self.classifier((hidden * member).sum(1) / member.sum(1)))


def application(shape: str, text: str = "raw") -> flask.Flask:
    """Build the application in the process that serves it. `text` says what the model reads: the `raw` line, or our `normalised` one."""
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = _distilbert() if shape == "distilbert" else _ours()
    classify = transformers.pipeline("text-classification", model=model.eval(), tokenizer=_tokenizer(), device="cpu")
    reading = _normalise() if text == "normalised" else str
    counts: dict[str, int] = {}
    app = flask.Flask(__name__)

    @app.get("/log/<path:message>")
    def log(message: str) -> dict[str, Any]:
        verdict: dict[str, Any] = classify(reading(message), truncation=True, max_length=512)[0]
        counts[verdict["label"]] = counts.get(verdict["label"], 0) + 1
        return verdict

    sys.stderr.write(f"{DEMO_READY}\n")
    return app


def _distilbert() -> Any:
    return transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(num_labels=2))


def _ours() -> Any:
    return MeanPooledBert.from_pretrained(MODEL_DIR, use_safetensors=True, dtype=torch.float32)


def _tokenizer() -> Any:
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "pad", "unk", "mask")}
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(MODEL_DIR / "tokenizer.json"), **special)


def _normalise() -> Callable[[str], str]:
    from harkline_workers.normalise import normalise

    return lambda message: normalise(message).model_input
