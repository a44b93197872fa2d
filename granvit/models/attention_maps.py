"""What a patch looks at: attention of an encoder's last layer used, and how alike its features are.

No attention kernel but the eager one gives its weights, so they are computed once more from the layer's own
input, for one layer and the patches asked for. Every implementation (SDPA, FlexAttention, eager) therefore
gives the same map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from granvit.errors import GranvitError
from granvit.models.encoders import Encoder


class PatchMaps:
    """Maps of a batch of images, (B, 3, H, W) normalised pixels, over their T patches in raster order.

    The layer is the one whose output the projector reads (``feature_layer``; layers behind it are not
    computed). Where a layer normalises queries and keys (InternViT-6B's kind), so does this. In fp32 and eval
    mode, without gradients. Raises GranvitError for an encoder whose layers turn queries and keys (rotary
    positions), as none of the paper's does.
    """

    @torch.no_grad()
    def __init__(self, encoder: Encoder, pixels: torch.Tensor) -> None:
        if encoder.family.rotary:
            raise GranvitError(
                f"attention maps: the layers of {encoder.spec.path!r} turn queries and keys (rotary "
                "positions), which these maps do not; take one of the paper's encoders"
            )
        self.layer = getattr(encoder.layers[encoder.depth_used - 1], encoder.family.attention)
        self.class_tokens = encoder.class_tokens
        inputs: list[torch.Tensor] = []
        hook = self.layer.register_forward_pre_hook(
            lambda module, args, named: inputs.append(args[0] if args else named["hidden_states"]),
            with_kwargs=True,
        )
        try:
            self.features = encoder(pixels)  # (B, T, C), as the projector receives them
        finally:
            hook.remove()
        self.inputs = inputs[0]  # (B, class tokens + T, C), behind the layer's first norm

    @torch.no_grad()
    def attention(self, image: int, patches: Sequence[int]) -> torch.Tensor:
        """(Q, T): how the attention of each of Q patches is spread over all patches, mean over heads.

        Class tokens take part in the softmax. They are no place in the image, so they are left out after the
        mean, and what is left is divided by its sum: each row sums to 1, also where an encoder has none.
        """
        states = self.inputs[image]
        asked = torch.as_tensor(list(patches), device=states.device) + self.class_tokens
        queries = self._heads(self.layer.q_proj(states[asked]), "q_norm")
        keys = self._heads(self.layer.k_proj(states), "k_norm")
        logits = queries @ keys.transpose(1, 2) * self.layer.scale  # (heads, Q, class tokens + T)
        weights = logits.float().softmax(dim=-1).mean(dim=0)[:, self.class_tokens :]
        return weights / weights.sum(dim=-1, keepdim=True)

    @torch.no_grad()
    def cosine(self, image: int, patches: Sequence[int]) -> torch.Tensor:
        """(Q, T): cosine similarity of each of Q patches' features with those of all patches."""
        features = F.normalize(self.features[image].float(), dim=-1)
        return features[list(patches)] @ features.T

    def _heads(self, projected: torch.Tensor, norm: str) -> torch.Tensor:
        """(N, C) -> (heads, N, C / heads), normalised first where the layer does so."""
        if hasattr(self.layer, norm):
            projected = getattr(self.layer, norm)(projected)
        return projected.unflatten(-1, (-1, self.layer.head_dim)).transpose(0, 1)
