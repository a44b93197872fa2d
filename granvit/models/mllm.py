"""The multimodal model: vision encoder, projector and language model, for packed training and for batched
answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from granvit.errors import GranvitError
from granvit.models.attention import packed_attention
from granvit.models.encoders import Encoder, load_saved_encoder
from granvit.models.generation import generate
from granvit.models.llms import cast_weights, load_llm, load_tokenizer, save_llm
from granvit.models.packing import ChatFormat, PackedBatch
from granvit.models.projector import Projector, load_projector
from granvit.models.tiling import SHUFFLE, cut_tiles, recombine, tile_side

PARTS = ("encoder", "projector", "llm")


class MLLM(nn.Module):
    """Encoder, projector and language model in one module. ``projector.tiles`` says whether images are
    tiled (A.5). Raises GranvitError where the three do not fit together."""

    def __init__(self, encoder: Encoder, projector: Projector, llm: nn.Module, tokenizer) -> None:
        super().__init__()
        self.encoder, self.projector, self.llm, self.tokenizer = encoder, projector, llm, tokenizer
        self.chat = ChatFormat(tokenizer)
        self.tiles = projector.tiles
        self.cross_entropy = cross_entropy
        expected = (feature_width(encoder, self.tiles), llm.config.hidden_size)
        if (projector.input_size, projector.output_size) != expected:
            raise GranvitError(
                f"model: the projector maps {projector.input_size} to {projector.output_size} channels, "
                f"encoder and language model want {expected[0]} to {expected[1]}; the parent run has another "
                f"encoder, LLM or tiling. Correct the recipe's parent"
            )
        end_ids = [
            self.chat.end,
            tokenizer.eos_token_id,
            getattr(llm.generation_config, "eos_token_id", None),
        ]
        self.end_ids = sorted(
            {i for ids in end_ids if ids is not None for i in (ids if isinstance(ids, list) else [ids])}
        )

    @property
    def image_tokens(self) -> int:
        """Tokens that the language model reads for an image."""
        tokens = self.encoder.grid**2
        return self.views * tokens // SHUFFLE**2 if self.tiles else tokens

    @property
    def views(self) -> int:
        """How many views of an image the encoder sees."""
        return 1 + tile_side(self.tiles) ** 2 if self.tiles else 1

    @property
    def canvas_size(self) -> int:
        """Side in pixels of the largest square that ``preprocess`` makes of an image."""
        return max(tile_side(self.tiles), 1) * self.encoder.spec.image_size

    @property
    def device(self) -> torch.device:
        return self.encoder.mean.device

    def parameters_of(self, parts: Iterable[str]) -> dict[str, list[nn.Parameter]]:
        """What learns where ``parts`` do; of the encoder, only what its features depend on."""
        return {
            part: self.encoder.feature_parameters()
            if part == "encoder"
            else [*getattr(self, part).parameters()]
            for part in parts
        }

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """RGB image -> uint8 (3, S, S), or (1 + n*n, 3, S, S): global view first."""
        overview = self.encoder.preprocess(image)
        if not self.tiles:
            return overview
        return cut_tiles(self.encoder.preprocess(image, self.canvas_size), overview)

    def encode_views(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels as ``preprocess`` gives them, stacked (uint8; floats are taken as normalised) -> (V, T, C)
        features."""
        pixels = pixels.to(self.device)
        pixels = self.encoder.normalise(pixels) if pixels.dtype == torch.uint8 else pixels
        return self.encoder(pixels.flatten(0, -4))

    def join_views(self, features: torch.Tensor) -> torch.Tensor:
        """(V, T, C) -> (B, image_tokens, projector input): identity without tiling."""
        return recombine(features.unflatten(0, (-1, self.views))) if self.tiles else features

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) or (B, 1 + n*n, 3, S, S) pixels -> (B, T, D) embeddings that ``answer`` takes."""
        return self.projector(self.join_views(self.encode_views(pixels)))

    def token_losses(self, image_embeddings: torch.Tensor, packed: PackedBatch) -> torch.Tensor:
        """Cross-entropy of each supervised token: (N,). The head is computed on the positions that
        predict one only."""
        return token_losses(self.llm, image_embeddings, packed, self.cross_entropy)

    def compile_loss(self) -> None:
        """Fuse the head's products with the loss (torch.compile)."""
        self.cross_entropy = torch.compile(cross_entropy, dynamic=True)

    def answer(
        self,
        image_embeddings: torch.Tensor,
        questions: list[str],
        max_new_tokens: int = 64,
        owners: list[int] | None = None,
        closest: float = 0.0,
        go_on: Callable[[bool], bool] | None = None,
    ) -> list[str | None]:
        """Greedy answers, stripped. image_embeddings: (I, T, D) from ``encode_images``; ``owners``: which of
        the I images each question is about, by default one image a question. None for an answer that hung on
        two tokens whose logits are nearer than ``closest``; ``go_on``: for ranks that wait for each other
        (``generation.generate``)."""
        owners = list(range(len(questions))) if owners is None else owners
        answers = generate(self, image_embeddings, owners, questions, max_new_tokens, closest, go_on)
        return [
            None if ids is None else self.tokenizer.decode(ids, skip_special_tokens=True).strip()
            for ids in answers
        ]

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations of encoder and LLM again in the backward pass instead of keeping them: of
        layers in train mode (``optimizer.freeze_all_but``)."""
        for module in (self.encoder.model, self.llm):
            module.activation_checkpointing_enable({"use_reentrant": False})

    def save(self, folder: Path, weights: dict[str, dict | None] | None = None) -> None:
        """Write ``encoder/``, ``projector/`` and ``llm/`` (with its tokenizer) under ``folder``.

        ``weights``: state dict of a part, where ranks share its weights among them.
        """
        folder, weights = Path(folder), weights or {}
        self.encoder.save(folder / "encoder", weights.get("encoder"))
        self.projector.save(folder / "projector", weights.get("projector"))
        save_llm(self.llm, self.tokenizer, folder / "llm", weights.get("llm"))

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> MLLM:
        """Read what ``save`` wrote (in eval mode, in fp32, on ``device``); raises GranvitError on a folder
        that is missing or incomplete."""
        model = cls.as_saved(folder).to(device)
        cast_weights(model.llm, torch.float32)
        return model.eval()

    @classmethod
    def as_saved(cls, folder: Path) -> MLLM:
        """Read what ``save`` wrote, the language model's weights in the type that they have on disk, which is
        enough for who looks at shapes. Raises GranvitError as ``load`` does."""
        folder = Path(folder)
        for part in PARTS:
            if not (folder / part / "config.json").is_file():
                raise GranvitError(
                    f"model: {folder / part}/config.json is missing; expected a finished run's model/ folder"
                )
        spec = SimpleNamespace(path=str(folder / "llm"))
        encoder, projector = load_saved_encoder(folder / "encoder"), load_projector(folder / "projector")
        return cls(encoder, projector, load_llm(spec), load_tokenizer(spec))


def feature_width(encoder: Encoder, tiles: int) -> int:
    """Channels of the features that the projector reads."""
    return encoder.width * SHUFFLE**2 if tiles else encoder.width


def cross_entropy(head: nn.Module, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(N, D) states in front of N target tokens -> their cross-entropy (N,)."""
    return F.cross_entropy(head(states).float(), targets, reduction="none")


def token_losses(
    llm: nn.Module, image_embeddings: torch.Tensor, packed: PackedBatch, loss: Callable = cross_entropy
) -> torch.Tensor:
    """``loss`` of each supervised token (N,), for the embeddings (B, T, D) of B images and their packed
    text."""
    text = llm.get_input_embeddings()(packed.ids)
    images = image_embeddings.flatten(0, 1).to(text.dtype)
    embeddings = text.flatten(0, 1).index_copy(0, packed.image_places, images).view_as(text)
    hidden = llm.model(
        inputs_embeds=embeddings,
        attention_mask=packed_attention(llm, packed),
        position_ids=packed.position_ids,
        use_cache=False,
    ).last_hidden_state
    supervised = hidden.flatten(0, 1).index_select(0, packed.predictors)
    return loss(llm.get_output_embeddings(), supervised, packed.targets)
