"""The learning parameters of a model that DeepSpeed has shared out among ranks, whole: their weights and Adam
moments, one by one, in the form that any number of ranks takes over.

DeepSpeed's own checkpoints hold flat pieces that only the same number of ranks can read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

MOMENTS = ("exp_avg", "exp_avg_sq")


def whole_parameters(engine: Any, learning: Iterable[nn.Parameter]) -> Iterator[dict[str, torch.Tensor]]:
    """Weight, moments and number of Adam steps of each parameter, on the CPU; every rank has to ask for each
    of them. Before the first step that changed anything: the weight alone.

    ``engine``: DeepSpeed's, with ZeRO 2 or 3 and torch's AdamW.
    """
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    states = engine.optimizer.optimizer.state
    if states:
        _link_moments(engine.optimizer)
    for parameter in learning:
        # With ZeRO-2 every rank has the weights; summed over ranks, -0.0 would become 0.0.
        weight = safe_get_full_fp32_param(parameter) if is_in_parts(parameter) else parameter.detach()
        values = {"weight": weight}
        if states:
            values |= {name: safe_get_full_optimizer_state(parameter, name) for name in MOMENTS}
            values["step"] = next(iter(states.values()))["step"]
        # Copies: a view would be saved with all of its buffer, and one step in common counted up by each
        yield {name: value.to("cpu", copy=True) for name, value in values.items()}


class Takeover:
    """What ``whole_parameters`` gave, parameter by parameter, for ranks of any number: ``take``. ``step``:
    how many steps Adam has done, or None before the first one."""

    def __init__(self, engine: Any, step: torch.Tensor | None) -> None:
        zero = engine.optimizer
        optimizer, self.rank = zero.optimizer, torch.distributed.get_rank()
        if step is None:
            return
        parts = getattr(zero, "fp32_partitioned_groups_flat", None)  # ZeRO-3
        for flat in zero.single_partition_of_fp32_groups if parts is None else parts:
            fused = optimizer.defaults["fused"]  # then it counts on the device
            optimizer.state[flat] = {
                "step": step.clone().to(flat.device if fused else "cpu"),
                **{name: torch.zeros_like(flat, requires_grad=False) for name in MOMENTS},
            }
        _link_moments(zero)

    def take(self, parameter: nn.Parameter, values: dict[str, torch.Tensor]) -> None:
        """Put the weight, and the moments where there are any (a parameter without gradient has none), into
        the model and into this rank's part."""
        from deepspeed import utils
        from deepspeed.runtime.zero import GatheredParameters

        weight, moments = values["weight"], {name: values[name] for name in MOMENTS if name in values}
        with torch.no_grad():
            if is_in_parts(parameter):
                with GatheredParameters([parameter], modifier_rank=0):
                    parameter.copy_(weight)
                utils.safe_set_local_fp32_param(parameter, self._own_part(parameter, weight))
                for name, value in moments.items():
                    utils.safe_set_local_optimizer_state(parameter, self._own_part(parameter, value), name)
            else:
                parameter.copy_(weight)
                utils.safe_set_full_fp32_param(parameter, weight)
                for name, value in moments.items():
                    utils.safe_set_full_optimizer_state(parameter, value, name)

    def _own_part(self, parameter: nn.Parameter, value: torch.Tensor) -> torch.Tensor:
        """ZeRO-3 cuts a flat parameter into equal parts, the last one filled up."""
        size = parameter.ds_tensor.numel()
        part = value.flatten()[self.rank * size : (self.rank + 1) * size]
        return nn.functional.pad(part, (0, size - part.numel()))


def _link_moments(zero: Any) -> None:
    """Let the parameters know where in this rank's part their moments are. DeepSpeed's ZeRO-2 does so in its
    first step, of the first group alone, before the others have any."""
    from deepspeed.utils.mixed_precision_linkage import lazy_init_hp_params_optimizer_state

    for number, flat in enumerate(getattr(zero, "single_partition_of_fp32_groups", ())):
        lazy_init_hp_params_optimizer_state(zero.bit16_groups[number], flat, zero.optimizer.state)


def is_in_parts(parameter: nn.Parameter) -> bool:
    """Whether ranks share a weight among them (ZeRO-3)."""
    return hasattr(parameter, "ds_id")
