"""What differs between one process, several (DDP) and sharded ones (ZeRO), behind a few verbs.

Everything goes through Accelerate. One process is plain PyTorch; ``ddp`` copies the model to every rank;
``zero2`` shards gradients and optimizer states, ``zero3`` the weights too (DeepSpeed). Weights stay in fp32
in all of them and are only computed with in bf16 (autocast): updates at 1e-5 vanish in bf16 weights.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DeepSpeedPlugin, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn
from transformers.integrations import unset_hf_deepspeed_config

from granvit.device import is_accelerator, pick_device
from granvit.errors import GranvitError
from granvit.training.sharded import Takeover, whole_parameters

ZERO = {"zero2": 2, "zero3": 3}
LET_GO = 0.1  # seconds without Python's lock
FORMER_STATE = "zero"  # folder of DeepSpeed's own files, in the states of older versions


class Cluster:
    """The ranks of one run and this rank's device. One process without a launcher is a cluster of one.

    ``sharding``: ddp, zero2 or zero3; of no account on one process. Raises GranvitError for a device that is
    not there.
    """

    def __init__(self, device: str, sharding: str, recipe) -> None:
        chosen = pick_device(device)
        on_cpu = not is_accelerator(chosen)
        several = int(os.environ.get("WORLD_SIZE", 1)) > 1
        self.zero = ZERO.get(sharding, 0) if several else 0
        if self.zero:
            # Accelerate takes DeepSpeed on a CPU only where the backend is named instead of `cpu`.
            backend = [InitProcessGroupKwargs(backend="gloo")] if on_cpu else []
            plugin = DeepSpeedPlugin(hf_ds_config=zero_config(self.zero, recipe, chosen))
            self.accelerator = Accelerator(deepspeed_plugin=plugin, kwargs_handlers=backend)
            unset_hf_deepspeed_config()  # weights are loaded whole, and checked, before they are shared out
        else:
            self.accelerator = Accelerator(cpu=on_cpu)
        self.rank, self.size = self.accelerator.process_index, self.accelerator.num_processes
        self.device = self.accelerator.device if several else chosen
        self.sharding = sharding if several else "one process"

    @property
    def is_main(self) -> bool:
        """Whether this rank is the one that prints and writes."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Elementwise sum over all ranks, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def max(self, value: int) -> int:
        """The largest of all ranks' numbers."""
        if self.size == 1:
            return value
        largest = torch.tensor(value, device=self.device)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        return int(largest)

    def gather(self, items: list) -> list:
        """All ranks' items, rank by rank."""
        return gather_object(items) if self.size > 1 else items

    def once(self, make: Callable[[], Any]) -> Any:
        """What ``make`` gives on the main rank, which alone calls it, on every rank."""
        items = [make() if self.is_main else None]
        return broadcast_object_list(items)[0] if self.size > 1 else items[0]

    def wait(self) -> None:
        """Go on when every rank is here."""
        self.accelerator.wait_for_everyone()

    def close(self) -> None:
        """Leave the other ranks in order; a process group that is torn down by the exit may hang or abort.

        gloo's threads need Python's lock to let go of the tensors of the last exchange. DDP, when the model
        goes, waits for these threads with the lock taken: two ranks were seen never to end (pytorch's issue
        56297 has the fault in other classes). So the threads get it before.
        """
        if self.size > 1:
            time.sleep(LET_GO)
            self.accelerator.end_training()


def zero_config(stage: int, recipe, device: torch.device) -> dict:
    """DeepSpeed's configuration: ZeRO ``stage`` on fp32 weights, bf16 by autocast.

    The micro-batch sizes are of no account: the loop weighs each micro-batch by its tokens.
    """
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": recipe.max_grad_norm,
        "zero_optimization": {"stage": stage, "overlap_comm": is_accelerator(device)},
        "zero_allow_untested_optimizer": True,
        "torch_autocast": {"enabled": recipe.precision == "bf16", "dtype": "bfloat16"},
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": 2**31,
    }


class Engine:
    """Forward, backward and optimizer step of ``objective`` (a module that returns loss and metrics).

    ``parameters``: those that learn. Their order is part of what a run gives: the gradient norm is a sum, and
    rounds by it.
    """

    def __init__(
        self,
        cluster: Cluster,
        objective: nn.Module,
        parameters: list[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        max_grad_norm: float,
    ) -> None:
        self.cluster, self.accelerator, self.max_grad_norm = cluster, cluster.accelerator, max_grad_norm
        self.parameters = parameters
        # As the optimizer's state dict numbers them; DeepSpeed then puts flat ones in their place.
        self.numbered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        # The model is on its device already; DeepSpeed refuses this argument.
        placement = {} if cluster.zero else {"device_placement": [False, False]}
        self.module, self.optimizer = self.accelerator.prepare(objective, optimizer, **placement)

    def accumulate(self, micro, totals, last: bool) -> dict[str, torch.Tensor]:
        """Forward and backward of one micro-batch; ranks exchange gradients at the ``last`` of a step only.

        A loss that is NaN or infinite gives gradients that are NaN, on whichever rank it is: all ranks see it
        in the gradient norm and skip the step together.
        """
        waits = contextlib.nullcontext() if last else self.accelerator.no_sync(self.module)
        with waits:
            loss, metrics = self.module(micro, totals)
            weight = torch.where(torch.isfinite(loss.detach()), 1.0, torch.nan)
            loss = loss * weight * self.cluster.size  # gradients are averaged; the loss is a part of a sum
            if self.cluster.zero:
                self.module.set_gradient_accumulation_boundary(last)
                self.module.backward(loss)
            else:
                self.accelerator.backward(loss)
        return metrics

    def step(self) -> float:
        """Clip and step; returns the gradient norm. Nothing changes where that is NaN or infinite."""
        if self.cluster.zero:
            self.module.step()
            norm = float(self.module.get_global_grad_norm())
        else:
            norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm))
            if math.isfinite(norm):
                self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return norm if math.isfinite(norm) else math.nan

    @contextlib.contextmanager
    def whole(self, parameters: list[nn.Parameter]) -> Iterator[None]:
        """Within it, ``parameters`` are whole on every rank (ZeRO-3 keeps a part of each)."""
        if self.cluster.zero == 3:
            from deepspeed.runtime.zero import GatheredParameters

            with GatheredParameters(parameters):
                yield
        else:
            yield

    def gathered(self, module: nn.Module) -> dict[str, torch.Tensor] | None:
        """The state dict of a part whose weights ranks share among them, whole, in fp32, on the CPU; None
        where each rank has them whole.

        Every rank has to ask. Parameters are gathered one by one: never is a second model in device memory.
        """
        if self.cluster.zero < 3:
            return None
        whole = {}
        for name, parameter in module.named_parameters():
            with self.whole([parameter]):
                whole[name] = parameter.detach().cpu().clone()
        return whole

    def save(self) -> tuple[dict, dict]:
        """What ``load`` needs on any number of ranks: for the main rank to write, and for this one, which
        has a share of the parameters where their states are in parts."""
        learnt = {name: p for name, p in self._named_parameters() if p.requires_grad}
        if not self.cluster.zero:
            return {"model": learnt, "optimizer": self.optimizer.state_dict()}, {}
        wholes = zip(learnt, whole_parameters(self.module, learnt.values()), strict=True)
        shares = (number % self.cluster.size == self.cluster.rank for number in itertools.count())
        return {}, {"learnt": dict(itertools.compress(wholes, shares))}

    def load(self, folder: Path, shared: dict) -> None:
        """Take over what ``save`` left, on whatever number of ranks and with whatever sharding: the
        ``shared`` part, and those of all ranks in ``folder``.

        Raises GranvitError where these are not the parameters that learn.
        """
        learning = {p: name for name, p in self._named_parameters() if p.requires_grad}
        saved = self._from_shared(shared, learning) if "model" in shared else _from_ranks(folder)
        parameters, loaded = {name: p for p, name in learning.items()}, {}
        takeover = None
        for name, values in saved:
            if name not in parameters:
                raise GranvitError(f"state: {folder} holds {name}, which does not learn here; remove it")
            parameter = parameters.pop(name)
            if self.cluster.zero:
                takeover = takeover or Takeover(self.module, values.get("step"))
                takeover.take(parameter, values)
            else:
                with torch.no_grad():
                    parameter.copy_(values.pop("weight"))
                loaded[parameter] = values
        if parameters:
            raise GranvitError(f"state: {folder} does not hold {next(iter(parameters))}; remove it")
        if not self.cluster.zero:
            numbered = enumerate(self.numbered)
            state = {number: loaded[p] for number, p in numbered if loaded[p].keys() > {"step"}}
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})

    def _from_shared(self, shared: dict, learning: dict) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """Weight, steps and moments of each parameter, by name, from one process or DDP. One that never had a
        gradient has no moments."""
        states = shared["optimizer"]["state"]
        steps = [state["step"] for state in states.values()]  # equal, and none before the first step
        step = {"step": steps[0]} if steps else {}
        for number, parameter in enumerate(self.numbered):
            name = learning[parameter]
            yield name, {"weight": shared["model"][name], **step, **states.get(number, {})}

    def _named_parameters(self):
        return self.accelerator.unwrap_model(self.module).model.named_parameters()


def _from_ranks(folder: Path) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """The same from ranks that each wrote a share. Raises GranvitError where a file cannot be read."""
    if (folder / FORMER_STATE).is_dir():
        raise GranvitError(
            f"state: {folder} was written by an older version, for its own number of ranks alone; remove "
            f"{folder.parent} to start anew"
        )
    for file in sorted(folder.glob("rank*.pt")):
        try:
            yield from torch.load(file, map_location="cpu", weights_only=True)["learnt"].items()
        except Exception as error:  # torch and pickle raise many types on damaged bytes
            raise GranvitError(
                f"state: {file} cannot be read ({str(error).splitlines()[0]}); remove {folder} to go back to "
                "the state before"
            ) from None
