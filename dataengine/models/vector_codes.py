"""Codebooks: each token of a latent is one of K vectors of its own book, learned as running means (`vq`) or by gradient through noise (`nsvq`).

Both start with k-means over the encoder's outputs of the first batch after a warm-up in which the latent passes as it is, and codes that nothing uses any more are put where
current encoder outputs are. L books of K codes hold L log2 K bits.
"""

from __future__ import annotations

import math

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

from dataengine.models.bottleneck import Passed, Standardiser


def nearest_codes(x: Tensor, codes: Tensor) -> Tensor:
    """Return the code nearest to each token, ties to the lower: x (B, L, D), codes (L, K, D) → (B, L) int64."""
    distances = codes.square().sum(-1) - 2 * torch.einsum("bld,lkd->blk", x, codes)  # without |x|², which is the same for all codes
    return distances.argmin(-1)


def looked_up(codes: Tensor, chosen: Tensor) -> Tensor:
    """Return the vectors of chosen codes: codes (L, K, D), chosen (B, L) → (B, L, D)."""
    return codes[torch.arange(codes.shape[0], device=codes.device), chosen]


def k_means(x: Tensor, size: int, generator: torch.Generator, rounds: int = 10) -> Tensor:
    """Return the means of `size` clusters of rows: x (N, D) → (size, D).

    Each first centre is the row farthest from the centres so far, after a random one, so that no two coincide while there are different rows (Gonzalez 1985).
    """
    first = int(torch.randint(len(x), (1,), generator=generator, device=x.device))
    centres = [x[first]]
    far = (x - centres[0]).square().sum(-1)
    while len(centres) < size:
        centres.append(x[int(far.argmax())])
        far = torch.minimum(far, (x - centres[-1]).square().sum(-1))
    means = torch.stack(centres)
    for _ in range(rounds):
        chosen = nearest_codes(x[:, None], means[None])[:, 0]
        member = F.one_hot(chosen, size).to(x)  # (N, K)
        counts = member.sum(0)
        means = torch.where(counts[:, None] > 0, member.T @ x / counts.clamp(min=1)[:, None], means)
    return means


class _Codebooks(nn.Module):
    """What both have: a warm-up, a start from k-means, and how long each code has not been used."""

    codes: Tensor
    started: Tensor
    steps: Tensor
    use: Tensor

    def __init__(self, tokens: int, dimension: int, size: int, warmup: int, patience: int) -> None:
        super().__init__()
        self.inputs, self.size, self.warmup, self.patience = dimension, size, warmup, patience
        self.standardise = Standardiser((tokens, dimension))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("use", torch.zeros(tokens, size))  # running share of the tokens that each code stands for

    def _starts(self, x: Tensor, generator: torch.Generator) -> Tensor | None:
        """Return the codebooks (L, K, D) to begin with, None where it is not yet time or has been done."""
        self.steps += 1
        if bool(self.started) or int(self.steps) <= self.warmup:
            return None
        self.started.fill_(True)
        self.use.fill_(1 / self.use.shape[1])
        return torch.stack([k_means(x[:, token], self.use.shape[1], generator) for token in range(x.shape[1])])

    def _dead(self, chosen: Tensor) -> Tensor:
        """Note which codes were chosen (B, L) and return those (L, K) that have long stood for less than a twentieth of their share."""
        size = self.use.shape[1]
        share = F.one_hot(chosen, size).to(self.use).mean(0)
        self.use.lerp_(share, 1 / self.patience)
        return self.use < 0.05 / size

    def _revive(self, dead: Tensor, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return the places (token, code) of dead codes and the encoder outputs (n, D) that they become: different rows of x (B, L, D) while there are as many."""
        token, code = torch.nonzero(dead, as_tuple=True)
        rows = torch.randperm(len(x), generator=generator, device=x.device)[torch.arange(len(token), device=x.device) % len(x)]
        self.use[token, code] = 1 / self.use.shape[1]
        return token, code, x[rows, token]

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        x = self.standardise(x)
        if not bool(self.started):
            return x, nearest_codes(x, self.codes)
        chosen = nearest_codes(x, self.codes)
        return looked_up(self.codes, chosen), chosen

    def bits(self) -> float:
        return self.use.shape[0] * math.log2(self.use.shape[1])


def perplexity(chosen: Tensor, size: int) -> Tensor:
    """Return exp of the entropy of the codes of a batch (B, L), the mean over the tokens."""
    share = F.one_hot(chosen, size).to(torch.float32).mean(0)  # (L, K)
    return torch.exp(-(share * torch.log(share.clamp(min=1e-12))).sum(-1)).mean()


class Vq(_Codebooks):
    """Codes that are running means of the tokens they stand for (van den Oord et al. 2017, appendix A.1).

    n ← γn + (1 - γ) Σ 1[code], m ← γm + (1 - γ) Σ x, code = m / n. Gradients pass straight through; the encoder is drawn to its code by β ‖x - code‖².
    """

    def __init__(self, tokens: int, dimension: int, size: int = 16, decay: float = 0.98, commitment: float = 0.25, warmup: int = 0, patience: int = 50) -> None:
        super().__init__(tokens, dimension, size, warmup, patience)
        self.decay, self.commitment = decay, commitment
        self.register_buffer("codes", torch.zeros(tokens, size, dimension))
        self.register_buffer("counts", torch.zeros(tokens, size))
        self.register_buffer("sums", torch.zeros(tokens, size, dimension))

    counts: Tensor
    sums: Tensor

    def forward(self, x: Tensor, generator: torch.Generator) -> Passed:
        x = self.standardise(x.float())
        seen = x.detach()
        begin = self._starts(seen, generator)
        if begin is not None:
            self.codes.copy_(begin)
            self.counts.fill_(len(x) / self.size)
            self.sums.copy_(begin * self.counts[..., None])
        if not bool(self.started):
            return Passed(x, None, x.new_zeros(()), {"perplexity": x.new_zeros(())})
        chosen = nearest_codes(seen, self.codes)
        quantised = looked_up(self.codes, chosen)
        loss = self.commitment * (x - quantised).square().sum(-1).mean()
        if self.training:
            self._update(seen, chosen, generator)
        return Passed(x + (quantised - x).detach(), chosen, loss, {"perplexity": perplexity(chosen, self.size)})

    def _update(self, x: Tensor, chosen: Tensor, generator: torch.Generator) -> None:
        member = F.one_hot(chosen, self.size).to(x)  # (B, L, K)
        self.counts.lerp_(member.sum(0), 1 - self.decay)
        self.sums.lerp_(torch.einsum("blk,bld->lkd", member, x), 1 - self.decay)
        self.codes.copy_(torch.where(self.counts[..., None] > 1e-3, self.sums / self.counts.clamp(min=1e-3)[..., None], self.codes))
        token, code, rows = self._revive(self._dead(chosen), x, generator)
        if len(token):
            self.codes[token, code] = rows
            self.counts[token, code] = len(x) / self.size
            self.sums[token, code] = rows * (len(x) / self.size)


class Nsvq(_Codebooks):
    """Codes learned by gradient: what passes is the token plus noise as large as its error, x + ‖x - code‖ v / ‖v‖ with v normal (Vali and Bäckström 2022), as LAPA has it."""

    def __init__(self, tokens: int, dimension: int, size: int = 16, warmup: int = 0, patience: int = 50) -> None:
        super().__init__(tokens, dimension, size, warmup, patience)
        self.codes = nn.Parameter(torch.zeros(tokens, size, dimension))

    def agree(self) -> None:
        """Take over the codes of the first of the processes that train together; all of them must call it, at the same step.

        Codes are put in places by k-means and revival from what each process sees, which gradients do not bring together again; buffers are taken over by
        DistributedDataParallel itself.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(self.codes.data, 0)

    def forward(self, x: Tensor, generator: torch.Generator) -> Passed:
        x = self.standardise(x.float())
        seen = x.detach()
        begin = self._starts(seen, generator)
        if begin is not None:
            self.codes.data.copy_(begin)
        if not bool(self.started):
            return Passed(x, None, 0 * self.codes.sum(), {"perplexity": x.new_zeros(())})
        chosen = nearest_codes(seen, self.codes.detach())
        error = (x - looked_up(self.codes, chosen)).square().sum(-1, keepdim=True).add(1e-12).sqrt()
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        passed = x + error * F.normalize(noise, dim=-1)
        if self.training:
            token, code, rows = self._revive(self._dead(chosen), seen, generator)
            self.codes.data[token, code] = rows
        return Passed(passed, chosen, x.new_zeros(()), {"perplexity": perplexity(chosen, self.use.shape[1])})
