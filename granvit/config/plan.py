"""What `config/plan.yaml` may say: the devices, nodes, rates and sizes that a plan assumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from granvit.config.base import NonNegative, NonNegativeInt, Positive, PositiveInt, Share, Strict
from granvit.config.reading import check, read_yaml
from granvit.errors import GranvitError

FILE = "config/plan.yaml"
Tokens = Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]


class Device(Strict):
    """``tflops``: nominal TFLOP/s of one; ``efficiency``: the share of it that training gets (0-1); ``watts``
    of a busy one and the ``price`` of its hour: None where nobody asks for energy or money."""

    tflops: Positive
    efficiency: Annotated[Share, Field(gt=0)]
    watts: Positive | None = None
    price: Positive | None = None


class Devices(Device):
    """A device by its ``name``."""

    name: str


class Cluster(Strict):
    """Nodes that are all alike. ``cores_per_node``: None for those of the machine that asks; ``device``: one
    of ``other_devices``, None for ``devices``."""

    nodes: PositiveInt
    devices_per_node: NonNegativeInt
    cores_per_node: PositiveInt | None
    device: str | None = None


class PlanFile(Strict):
    """The whole file; each key is explained beside its value there."""

    devices: Devices
    other_devices: dict[str, Device]
    clusters: dict[str, Cluster]
    profiles: dict[str, str | None]
    seconds_between_jobs: NonNegative
    core_tflops: Positive
    images: dict[str, PositiveInt]
    regions: dict[str, PositiveInt]
    regions_per_image: Positive
    questions: PositiveInt
    questions_per_second: Positive
    questions_per_core_second: Positive
    tokens: dict[str, Tokens]
    seconds_per_image: dict[str, Positive]
    seconds: Positive
    bytes_per_image: dict[str, Positive]
    bytes_per_question: Positive

    def at(self, scale: str, device: str | None = None) -> PlanFile:
        """The same with the devices that a scale is planned for, or with those called ``device``. Raises
        GranvitError for a name that is not there."""
        name = device or self.clusters[scale].device or self.devices.name
        if name == self.devices.name:
            return self
        if name not in self.other_devices:
            where = "--device" if device else f"{FILE}: clusters.{scale}.device"
            known = ", ".join([self.devices.name, *self.other_devices])
            raise GranvitError(f"{where}: '{name}' is not a device of {FILE}; known: {known}")
        found = Devices(name=name, **self.other_devices[name].model_dump())
        return self.model_copy(update={"devices": found})


def load_plan(root: str | Path = ".") -> PlanFile:
    """The checked file. Raises GranvitError for a mistake in it."""
    return check(PlanFile, read_yaml(Path(root) / FILE), FILE)
