"""Public architectures for sequences and tokens, written from their papers: recurrent classifiers and transformers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Recurrent(nn.Module):
    """Two layers of LSTM or GRU (the first in both directions) over eight steps; the last state is classified."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], inputs: int = 8, hidden: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.both = kind(inputs, hidden, batch_first=True, bidirectional=True)
        self.one = kind(2 * hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.one(self.both(x)[0])[0][:, -1])


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017): written out, or PyTorch's fused function; `causal` masks later tokens."""

    def __init__(self, size: int, heads: int, *, fused: bool = False, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.fused, self.causal = heads, fused, causal
        self.project, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, size = x.shape
        q, k, v = self.project(x).reshape(batch, tokens, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            scores = q @ k.transpose(-2, -1) / (size // self.heads) ** 0.5
            if self.causal:
                scores = scores.masked_fill(torch.ones(tokens, tokens).triu(1).bool(), float("-inf"))
            mixed = torch.softmax(scores, -1) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, size))


class Block(nn.Module):
    """A transformer block: normalisation before each part (`early`, GPT and ViT) or after it (BERT)."""

    def __init__(self, size: int, heads: int, *, early: bool, fused: bool = False, causal: bool = False, tanh: bool = False) -> None:
        super().__init__()
        self.early = early
        self.attention = Attention(size, heads, fused=fused, causal=causal)
        self.first, self.second = nn.LayerNorm(size), nn.LayerNorm(size)
        self.dense = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(approximate="tanh" if tanh else "none"), nn.Linear(4 * size, size))

    def forward(self, x: Tensor) -> Tensor:
        if self.early:
            x = x + self.attention(self.first(x))
            return x + self.dense(self.second(x))
        x = self.first(x + self.attention(x))
        return self.second(x + self.dense(x))


class ViT(nn.Module):
    """A vision transformer (Dosovitskiy et al. 2021) of ViT-tiny's width (192, 3 heads); `depth` of its 12 blocks, on 32x32 in patches of 8."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 192, 8, 8)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, 192) * 0.02), nn.Parameter(torch.randn(1, 17, 192) * 0.02)
        self.blocks = nn.Sequential(*(Block(192, 3, early=True, fused=True) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(192), nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1) + self.place
        return self.head(self.norm(self.blocks(tokens))[:, 0])


class Bert(nn.Module):
    """The encoder of BERT-tiny (Turc et al. 2019: two blocks, 128 wide, two heads) from embeddings of eight tokens, with its pooler."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(128)
        self.blocks = nn.Sequential(Block(128, 2, early=False), Block(128, 2, early=False))
        self.pool, self.head = nn.Linear(128, 128), nn.Linear(128, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.pool(self.blocks(self.norm(x))[:, 0])))


class Gpt(nn.Module):
    """One block of GPT-2 (Radford et al. 2019), 64 wide with four heads, causal, from embeddings of eight tokens; logits of 16 words."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block(64, 4, early=True, causal=True, tanh=True)
        self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.block(x)))[:, -1]
