"""What one item's media became is computed once for all that is asked about it, and never lent to other items."""

import torch

from modalign.data.collate import Collator
from modalign.evaluation.evaluate import Generator
from modalign.evaluation.items import Item
from modalign.types import SOFT_TOKENS, MediaSpan, TextSpan, TokenSet


class Listener(torch.nn.Module):
    """Says the sum of each sample's medium and the number of text tokens; counts how often it encodes."""

    def __init__(self, padded=False):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.padded, self.encoded = padded, 0

    def soft_tokens(self, media):
        self.encoded += 1
        return {
            name: TokenSet(m.values * 2, mask=torch.ones(len(m.values), 3, dtype=torch.bool) if self.padded else None)
            for name, m in media.items()
        }

    def generate(self, batch, max_new_tokens, stop):
        soft = batch.media if batch.media["light"].reached == SOFT_TOKENS else self.soft_tokens(batch.media)
        return [f" {float(v.sum())} of {len(batch.text_ids)}" for v in soft["light"].values]


def items(*values):
    return [
        Item(f"{n}", (MediaSpan("light", torch.full((3, 1), float(v))),), (), {}, (), {}) for n, v in enumerate(values)
    ]


def generator(model, batch_size=2):
    collate = Collator(lambda text: [3] * len(text), 1, 2, require_targets=False)

    def prompt(item, question):
        return item.media if question is None else (*item.media, TextSpan(question))

    return Generator(model, collate, prompt, batch_size, 4)


def test_a_second_question_about_the_same_items_encodes_nothing_and_says_the_same():
    model, known = Listener(), items(1, 2, 3)
    generate = generator(model)
    first = generate([(item, None) for item in known])
    again = generate([(item, "why") for item in known])
    assert model.encoded == 2  # two batches of the first call
    assert [text.split(" of ")[0] for text in again] == [text.split(" of ")[0] for text in first]
    assert again == generator(Listener())([(item, "why") for item in known])


def test_other_items_of_the_same_names_are_encoded_themselves():
    model = Listener()
    generate = generator(model)
    generate([(item, None) for item in items(1, 2)])
    assert [text.split(" of ")[0] for text in generate([(item, None) for item in items(5, 6)])] == ["30.0", "36.0"]


def test_only_the_last_call_is_kept():
    model, first, second = Listener(), items(1), items(2)
    generate = generator(model)
    for known in (first, second, first):
        generate([(item, None) for item in known])
    assert model.encoded == 3


def test_soft_tokens_that_are_padded_are_not_kept():
    model, known = Listener(padded=True), items(1, 2)
    generate = generator(model)
    for _ in range(2):
        assert [text.split(" of ")[0] for text in generate([(item, None) for item in known])] == ["6.0", "12.0"]
    assert not generate._kept
