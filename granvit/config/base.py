"""What every model of the configuration is made of: no unknown keys, no silent conversions, and numbers that
say their range."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """No unknown keys, no silent conversions ('1' is not 1), and no change after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
