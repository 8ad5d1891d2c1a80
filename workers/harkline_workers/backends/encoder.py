"""The network itself, once: trained, exported to ONNX and run by the torch backend from this one definition.

A BERT encoder (MiniLM-L6 by its sizes) over packed rows, the mean of each line's tokens, and one linear layer to the five levels. Tensor names are
those of a Hugging Face `BertForSequenceClassification` checkpoint without its pooler, so that the weights can be read by others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from harkline_workers.packing import PackedRow

# What is added to the attention between tokens of two lines. e to this power is nothing beside 1, yet no subnormal number: those make a softmax
# seven times slower.
_OTHER_LINE = -70.0


class EncoderConfig(NamedTuple):
    """The sizes that `config.json` carries, under the names that it uses."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    num_labels: int = 5
    dropout: float = 0.1

    @classmethod
    def from_json(cls, document: dict[str, Any], num_labels: int = 5) -> EncoderConfig:
        """Read a BERT `config.json`; keys we have no use for are ignored. Raises KeyError where a size is missing."""
        sizes = {name: document[name] for name in cls._fields if name not in {"num_labels", "dropout"}}
        return cls(**sizes, num_labels=num_labels)


class PackedBatch(NamedTuple):
    """Rows of equal length, ready for the encoder. Tokens that pad a row belong to a line of their own, one past the last."""

    token_ids: Tensor  # (rows, T) int64
    positions: Tensor  # (rows, T) int64
    line_of_token: Tensor  # (rows, T) int64, 0..n-1 over the whole batch, n for padding
    first_tokens: Tensor  # (n,) int64, index into the flattened rows


class PackedEncoder(nn.Module):
    """Token rows to level logits."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = nn.ModuleDict(
            {
                "embeddings": nn.ModuleDict(
                    {
                        "word_embeddings": nn.Embedding(config.vocab_size, config.hidden_size),
                        "position_embeddings": nn.Embedding(config.max_position_embeddings, config.hidden_size),
                        "token_type_embeddings": nn.Embedding(config.type_vocab_size, config.hidden_size),
                        "LayerNorm": nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps),
                    }
                ),
                "encoder": nn.ModuleDict(
                    {"layer": nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))}
                ),
            }
        )
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, token_ids: Tensor, positions: Tensor, line_of_token: Tensor, first_tokens: Tensor) -> Tensor:
        """Return logits (n, levels) for a `PackedBatch` given field by field."""
        return self.classifier(self.dropout(self.pool(token_ids, positions, line_of_token, first_tokens)))

    def pool(self, token_ids: Tensor, positions: Tensor, line_of_token: Tensor, first_tokens: Tensor) -> Tensor:
        """Return one vector a line, (n, hidden): the mean over the line's tokens."""
        embeddings: Any = self.bert["embeddings"]
        kinds = embeddings["token_type_embeddings"].weight[0]
        hidden = embeddings["word_embeddings"](token_ids) + (embeddings["position_embeddings"](positions) + kinds)
        hidden = self.dropout(embeddings["LayerNorm"](hidden))
        same_line = (line_of_token.unsqueeze(-1) == line_of_token.unsqueeze(-2)).unsqueeze(-3)
        bias = torch.zeros(same_line.shape, dtype=hidden.dtype, device=hidden.device).masked_fill(
            ~same_line, _OTHER_LINE
        )
        encoder: Any = self.bert["encoder"]
        for layer in encoder["layer"]:
            hidden = layer(hidden, bias)
        lines = torch.arange(first_tokens.shape[0], device=first_tokens.device).unsqueeze(1)
        member = (line_of_token.reshape(1, -1) == lines).to(hidden.dtype)
        return (member @ hidden.reshape(-1, self.config.hidden_size)) / member.sum(dim=1, keepdim=True)


class _Layer(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        hidden, inner, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        projections = nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in ("query", "key", "value")})
        self.heads = config.num_attention_heads
        self.attention: Any = nn.ModuleDict({"self": projections, "output": _projection(hidden, hidden, eps)})
        self.intermediate: Any = nn.ModuleDict({"dense": nn.Linear(hidden, inner)})
        self.output: Any = _projection(inner, hidden, eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        mixed = self.attention["output"]["dense"](self._attend(hidden, bias))
        hidden = self.attention["output"]["LayerNorm"](hidden + self.dropout(mixed))
        wide = functional.gelu(self.intermediate["dense"](hidden))
        return self.output["LayerNorm"](hidden + self.dropout(self.output["dense"](wide)))

    def _attend(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Return the heads' outputs side by side; query, key and value are one multiplication, which quantises and runs faster than three."""
        parts = [self.attention["self"][name] for name in ("query", "key", "value")]
        mixed = functional.linear(
            hidden, torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
        )
        rows, tokens, width = hidden.shape
        size = width // self.heads
        # (rows, tokens, 3 x width) -> three of (rows, heads, tokens, size)
        query, key, value = mixed.reshape(rows, tokens, 3, self.heads, size).permute(2, 0, 3, 1, 4).unbind(0)
        if torch.onnx.is_in_onnx_export():
            scores = (query * size**-0.5) @ key.transpose(-1, -2) + bias
            attended = torch.softmax(scores, dim=-1) @ value
        else:
            attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        return attended.transpose(1, 2).reshape(rows, tokens, width)


def _projection(inner: int, hidden: int, eps: float) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(inner, hidden), "LayerNorm": nn.LayerNorm(hidden, eps=eps)})


def batch_rows(rows: Sequence[PackedRow]) -> tuple[PackedBatch, list[int]]:
    """Stack rows into one batch; also return, for each of its n lines in order, the line's index in what was packed."""
    tokens = max(row.token_ids.size for row in rows)
    count = sum(row.lines.size for row in rows)
    token_ids = np.zeros((len(rows), tokens), dtype=np.int64)
    positions = np.zeros((len(rows), tokens), dtype=np.int64)
    line_of_token = np.full((len(rows), tokens), count, dtype=np.int64)
    first_tokens: list[np.ndarray] = []
    lines: list[int] = []
    for index, row in enumerate(rows):
        size = row.token_ids.size
        token_ids[index, :size] = row.token_ids
        positions[index, :size] = row.positions
        line_of_token[index, :size] = row.line_of_token + len(lines)
        first_tokens.append(row.first_tokens + index * tokens)
        lines.extend(row.lines.tolist())
    arrays = (token_ids, positions, line_of_token, np.concatenate(first_tokens))
    return PackedBatch(*(torch.from_numpy(array) for array in arrays)), lines
