"""Any causal language model of transformers through the same four doors."""

from __future__ import annotations

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.language_model import load_language_model

FAMILIES = [
    {"model_type": "llama"},
    {"model_type": "llama", "tie_word_embeddings": True},
    {"model_type": "qwen2", "num_key_value_heads": 2},
    {"model_type": "gpt2", "n_embd": 24, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2},
    {"model_type": "gpt_neox"},
]


@pytest.fixture(params=FAMILIES, ids=lambda f: f["model_type"])
def llm(request, make_llm):
    return make_llm(**request.param).eval()


def test_embeddings_through_hidden_and_logits_are_the_models_own_forward(llm):
    ids = torch.randint(0, 14, (2, 5))
    ours = llm.logits(llm.hidden(llm.embed(ids)))
    torch.testing.assert_close(ours, llm.model(input_ids=ids).logits)
    assert (llm.width, llm.vocab_size, len(llm.layers)) == (24, 14, 2)
    assert llm.max_positions is None or llm.max_positions >= 64


def test_greedy_generation_of_a_left_padded_batch_equals_one_step_after_another(llm):
    rows = [[1, 4, 5, 6], [1, 4]]
    length = max(map(len, rows))
    embeddings = torch.stack(
        [torch.cat([torch.zeros(length - len(r), 24), llm.embed(torch.tensor(r)).detach()]) for r in rows]
    )
    mask = torch.tensor([[0] * (length - len(r)) + [1] * len(r) for r in rows])
    generated = llm.generate(embeddings, mask, 5)
    for row, new in zip(rows, generated, strict=True):
        ids = list(row)
        for _ in range(5):
            ids.append(int(llm.logits(llm.hidden(llm.embed(torch.tensor([ids]))))[0, -1].argmax()))
        assert new == ids[len(row) :]


def test_generation_ends_at_an_end_token_or_when_told(make_llm):
    llm = make_llm().eval()
    prompt, mask = llm.embed(torch.tensor([[1, 4, 5]])).detach(), torch.ones(1, 3, dtype=torch.long)
    free = llm.generate(prompt, mask, 8)[0]
    assert len(free) == 8
    assert llm.generate(prompt, mask, 8, eos_ids=[free[3]])[0] == free[: free.index(free[3])]
    assert llm.generate(prompt, mask, 8, finished=lambda ids: len(ids) >= 2)[0] == free[:2]


def test_an_end_token_of_the_configuration_alone_does_not_end_anything(make_llm):
    llm = make_llm(eos_token_id=3).eval()
    prompt, mask = llm.embed(torch.tensor([[1, 4, 5]])).detach(), torch.ones(1, 3, dtype=torch.long)
    with torch.no_grad():
        llm.model.lm_head.weight.zero_()
        llm.model.lm_head.weight[3] = llm.hidden(prompt)[0, -1]
    assert llm.generate(prompt, mask, 1)[0] == [3]
    assert len(llm.generate(prompt, mask, 3)[0]) == 3


def test_right_padding_needs_no_mask(make_llm):
    llm = make_llm()
    embeddings = torch.randn(1, 6, 24)
    changed = embeddings.clone()
    changed[:, 4:] = 7.0
    assert torch.equal(llm.hidden(embeddings)[:, :4], llm.hidden(changed)[:, :4])


def test_a_saved_model_is_loaded_from_its_folder(make_llm, tmp_path):
    llm = make_llm().eval()
    llm.model.save_pretrained(tmp_path / "llm")
    again = load_language_model(str(tmp_path / "llm")).eval()
    x = torch.randn(1, 3, 24)
    assert torch.equal(llm.hidden(x), again.hidden(x))
    assert load_language_model(str(tmp_path / "llm"), dtype="bfloat16").embed(torch.tensor([1])).dtype == torch.bfloat16


def test_the_spread_of_the_embeddings_is_measured(make_llm):
    assert make_llm(initializer_range=0.05, vocab_size=500).embedding_std() == pytest.approx(0.05, rel=0.05)


def test_what_cannot_be_loaded_is_told_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModalignError, match="cannot load the language model"):
        load_language_model(str(tmp_path / "empty"))
    with pytest.raises(ModalignError, match="needs its model_type"):
        load_language_model({"hidden_size": 8})
    with pytest.raises(ModalignError, match="of type 'lama'"):
        load_language_model({"model_type": "lama"})
    with pytest.raises(ModalignError, match="did you mean 'float16'"):
        load_language_model({"model_type": "llama"}, dtype="float61")
