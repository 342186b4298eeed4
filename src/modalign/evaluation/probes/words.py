"""The nearest words to soft tokens: which rows of the vocabulary a projector's output resembles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from modalign.evaluation.probes.findings import NearestWord
from modalign.types import TokenSet

MOST_TOKENS = 64
_ROWS = 1024


def nearest_words(tokens: TokenSet, vocabulary: Tensor, decode: Callable[[int], str]) -> tuple[NearestWord, ...]:
    """For each soft token its nearest vocabulary row [V, D] by cosine, the one of most items; none at another width.

    Of long outputs the first 64 tokens.
    """
    if tokens.values.shape[-1] != vocabulary.shape[-1]:
        return ()
    values = tokens.values[:, :MOST_TOKENS].detach().float()
    rows = F.normalize(vocabulary.detach().float(), dim=-1)
    parts = [(F.normalize(part, dim=-1) @ rows.T).max(dim=-1) for part in values.flatten(0, 1).split(_ROWS)]
    shape = values.shape[:2]
    cosines = torch.cat([part.values for part in parts]).view(shape).cpu()
    ids = torch.cat([part.indices for part in parts]).view(shape).cpu()
    valid = torch.ones(shape, dtype=torch.bool) if tokens.mask is None else tokens.mask[:, :MOST_TOKENS].cpu()
    found = []
    for place in range(shape[1]):
        here = valid[:, place]
        if not bool(here.any()):
            continue
        word, count = Counter(ids[here, place].tolist()).most_common(1)[0]
        mean = float(cosines[here, place].mean())
        found.append(NearestWord(place, decode(word), count / int(here.sum()), mean))
    return tuple(found)
