"""What every model of the configuration is made of: no unknown keys, no silent conversions, and numbers that
say their range."""

from __future__ import annotations

from typing import Annotated, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model


def _web_address(text: str) -> str:
    if urlsplit(text).scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://; change the value")
    return text


PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Url = Annotated[str, AfterValidator(_web_address)]


class Strict(BaseModel):
    """No unknown keys, no silent conversions ('1' is not 1), and no change after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def change_of(model: type[Strict], leave_out: tuple[str, ...] = ()) -> type[Strict]:
    """A model of changes to ``model``: any of its keys but those of ``leave_out``, models within it likewise.

    What is not said stays unset (see ``model_dump(exclude_unset=True)``).
    """
    keys = {}
    for name, field in model.model_fields.items():
        kinds = get_args(field.annotation) or (field.annotation,)
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Strict)), None)
        keys[name] = (change_of(inner) if inner else field.rebuild_annotation(), None)
    keys = {name: key for name, key in keys.items() if name not in leave_out}
    return create_model(f"{model.__name__}Change", __base__=Strict, **keys)
