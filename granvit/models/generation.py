"""Greedy answers to many questions, several of which may be about one image.

The template's head and the image are read once an image; the keys and values that this leaves are handed to
all questions on it (a prefix cache). Texts are padded between that prefix and the question, masked out, so
that the end of all rows is aligned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache

if TYPE_CHECKING:
    from granvit.models.mllm import MLLM


@torch.inference_mode()
def generate(
    model: MLLM,
    images: torch.Tensor,
    owners: Sequence[int],
    questions: Sequence[str],
    max_new_tokens: int,
    closest: float = 0.0,
    go_on: Callable[[bool], bool] | None = None,
) -> list[list[int] | None]:
    """Token ids, without the end token, of the greedy answer to each question.

    images: (I, T, D) embeddings; ``owners``: which image each of the Q questions is about. ``closest``: where
    the best two tokens are nearer to each other than this share of the largest logit, rounding might decide
    between them; the question is then given up, and its answer is None. ``go_on``: where ranks wait for each
    other at every layer, is told whether this one is still at work, and tells whether any is.
    """
    llm, device = model.llm, images.device
    cache, states, mask = _read(model, images, list(owners), questions, in_step=go_on is not None)
    ends = torch.tensor(model.end_ids, device=device)
    rows = torch.arange(len(questions), device=device)  # which question each row still at work answers
    positions = mask.sum(1, keepdim=True)
    given: list[list[int]] = [[] for _ in questions]
    unsure: set[int] = set()
    done = False
    for step in range(max_new_tokens):
        logits = llm.get_output_embeddings()(states)
        tokens = logits.argmax(-1)
        close = _too_close(logits, tokens, closest)
        over = close | torch.isin(tokens, ends)
        if not done:
            for row, token, is_close, is_over in zip(
                *(x.tolist() for x in (rows, tokens, close, over)), strict=True
            ):
                if is_close:
                    unsure.add(row)
                elif not is_over:
                    given[row].append(token)
            left = (~over).nonzero().squeeze(1)
            done = not len(left)
        if step + 1 == max_new_tokens or (not go_on(not done) if go_on else done):
            break
        if done:  # a row goes through the layers with those of the other ranks
            left = left.new_zeros(1)
        if len(left) < len(rows):
            cache.batch_select_indices(left)
            rows, tokens, mask, positions = rows[left], tokens[left], mask[left], positions[left]
        mask = F.pad(mask, (0, 1), value=1)
        states = _forward(llm, llm.get_input_embeddings()(tokens)[:, None], mask, positions, cache)
        positions = positions + 1
    return [None if row in unsure else ids for row, ids in enumerate(given)]


def _read(
    model: MLLM, images: torch.Tensor, owners: list[int], questions: Sequence[str], in_step: bool
) -> tuple[DynamicCache, torch.Tensor, torch.Tensor]:
    """Cache, last hidden states (Q, D) and mask (Q, L) once image and question have been read."""
    llm, chat, device = model.llm, model.chat, images.device
    embed = llm.get_input_embeddings()
    before, after = (
        embed(torch.tensor(ids, dtype=torch.long, device=device)).expand(len(images), -1, -1)
        for ids in (chat.before_image, chat.after_image)
    )
    prefix = torch.cat([before, images.to(before.dtype), after], dim=1)
    prompts = [[*chat.encode(question), *chat.before_answer] for question in questions]
    widest = max(map(len, prompts))
    padded = torch.tensor([[0] * (widest - len(prompt)) + prompt for prompt in prompts], device=device)
    empty = torch.tensor([widest - len(prompt) for prompt in prompts], device=device)[:, None]
    mask = (torch.arange(widest, device=device) >= empty).long()
    mask = F.pad(mask, (prefix.shape[1], 0), value=1)
    embeddings, cache = embed(padded), DynamicCache(config=llm.config)
    index = torch.tensor(owners, device=device)
    if len(images) < len(questions) or in_step:  # ranks have to agree on the number of passes
        llm.model(inputs_embeds=prefix, past_key_values=cache, use_cache=True)
        cache.batch_select_indices(index)
    else:  # nothing to share: one pass over image and question costs less than two
        embeddings = torch.cat([prefix[index], embeddings], dim=1)
    positions = (mask.cumsum(1) - 1)[:, -embeddings.shape[1] :]
    return cache, _forward(llm, embeddings, mask, positions, cache), mask


def _forward(
    llm: nn.Module,
    embeddings: torch.Tensor,
    mask: torch.Tensor,
    positions: torch.Tensor,
    cache: DynamicCache,
) -> torch.Tensor:
    """Hidden states (Q, D) of the last position."""
    return llm.model(
        inputs_embeds=embeddings,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state[:, -1]


def _too_close(logits: torch.Tensor, tokens: torch.Tensor, closest: float) -> torch.Tensor:
    """(Q, V) logits -> (Q,) bool: is the runner-up within ``closest`` of the best?"""
    if not closest:
        return torch.zeros_like(tokens, dtype=torch.bool)
    logits = logits.float()
    best = logits.gather(1, tokens[:, None])
    runner_up = logits.scatter(1, tokens[:, None], float("-inf")).amax(1, keepdim=True)
    return (best - runner_up < closest * logits.abs().amax(1, keepdim=True)).squeeze(1)
