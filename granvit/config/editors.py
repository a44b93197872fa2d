"""JSON schemas of config/config.yaml and config/recipes.yaml, by which editors complete and check keys:

    python -m granvit.config.editors    # writes config/schemas/, as `make env` does

Nothing else reads them: what a run is given is checked by the models themselves.
"""

from __future__ import annotations

from pathlib import Path

from granvit.config.recipes import RecipeEntry
from granvit.config.schema import Config
from granvit.files import write_json

FOLDER = "config/schemas"


def write_schemas(folder: str | Path = FOLDER) -> None:
    """Write ``config.schema.json`` and ``recipes.schema.json``, which the files' first lines name."""
    config = Config.model_json_schema()
    for key in ("encoders", "llms"):  # their own files, joined when the configuration is loaded
        del config["properties"][key]
        config["required"].remove(key)
    entry = RecipeEntry.model_json_schema()
    recipes = {"type": "object", "$defs": entry.pop("$defs"), "additionalProperties": entry}
    write_json(Path(folder, "config.schema.json"), config, sort_keys=False)
    write_json(Path(folder, "recipes.schema.json"), recipes, sort_keys=False)


if __name__ == "__main__":
    write_schemas()
