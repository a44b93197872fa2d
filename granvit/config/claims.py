"""What `config/claims.yaml` may say: the paper's claims, what each is measured by and how it is tested."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from granvit.config.base import Positive, Strict
from granvit.config.reading import check, nearest, read_yaml
from granvit.config.tables import TableSpec
from granvit.errors import GranvitError

FILE = "config/claims.yaml"
FAMILIES = ("paper", "controls")  # p-values are corrected within each

Seeds = Literal["comparison_seeds", "seed"]
Metric = Literal["heldout_rouge_l", "heldout_acc_iou50"]
Measure = Literal["attention", "cosine", "attention_beyond", "cosine_beyond"]
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[list[Text], Field(min_length=1)]


def _one_of(model: Strict, *names: str) -> None:
    """Raise ValueError where not exactly one of these keys is given."""
    given = [name for name in names if getattr(model, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise ValueError(f"needs exactly one of {', '.join(names)}, found {found}; change the keys")


class Endpoint(Strict):
    """What is measured, one of: the mean of ``columns`` of a ``table`` (of Tables 1 and 8, whose columns are
    models: of rows, or averages of capabilities); of ``rows``, which no table prints beside each other, by
    their names under `columns` or `benchmarks` of config/tables.yaml; the last ``heldout`` metric of a
    training log (``less`` another); an ``attention`` measure of attention_locality.csv.
    """

    table: Text | None = None
    columns: Names | None = None
    rows: Names | None = None
    heldout: Metric | None = None
    less: Metric | None = None
    attention: Measure | None = None
    data_type: Literal["all", "natural", "ocr"] = "all"

    @model_validator(mode="after")
    def _is_one(self) -> Endpoint:
        _one_of(self, "columns", "rows", "heldout", "attention")
        if (self.table is None) != (self.columns is None):
            raise ValueError("table and columns belong together; give both")
        if self.less and not self.heldout:
            raise ValueError("less is for heldout; remove it")
        if self.data_type != "all" and not self.attention:
            raise ValueError("data_type is for attention; remove it")
        return self

    @property
    def name(self) -> str:
        """The endpoint in words."""
        if self.heldout:
            return f"{self.heldout} less {self.less}" if self.less else self.heldout
        if self.attention:
            return f"locality of {self.attention}, {self.data_type} boxes"
        names = " + ".join(self.columns or self.rows or [])
        return f"{names} ({self.table})" if self.table else names


class Comparison(Strict):
    """What of it is compared, between recipes, one of: ``of`` (``minus`` another; alone: against 0); ``best``
    (``among`` others); a ``trend`` over recipes in the order in which the claim says that it rises, as
    what a straight line through them gains from the first to the last; or any sum with ``weights``.
    """

    of: Text | None = None
    minus: Text | None = None
    best: Text | None = None
    among: Names | None = None
    trend: Annotated[list[Text], Field(min_length=2)] | None = None
    weights: Annotated[dict[Text, float], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Comparison:
        _one_of(self, "of", "best", "trend", "weights")
        if self.minus and not self.of:
            raise ValueError("minus is for of; remove it")
        if (self.best is None) != (self.among is None):
            raise ValueError("best and among belong together; give both")
        if len(set(self.recipes)) < len(self.recipes):
            raise ValueError("a recipe is compared with itself; name each once")
        return self

    @property
    def recipes(self) -> list[str]:
        """All recipes compared, in their order."""
        single = [name for name in (self.of, self.minus, self.best) if name]
        return [*single, *(self.among or []), *(self.trend or []), *(self.weights or {})]

    @property
    def contrasts(self) -> list[dict[str, float]]:
        """Sums over recipes whose smallest is the effect: one, but of ``best`` one a rival."""
        if self.best:
            return [{self.best: 1.0, rival: -1.0} for rival in self.among or []]
        if self.trend:
            middle = (len(self.trend) - 1) / 2
            steps = [place - middle for place in range(len(self.trend))]
            scale = 2 * middle / sum(step * step for step in steps)
            return [{name: step * scale for name, step in zip(self.trend, steps, strict=True)}]
        if self.weights:
            return [dict(self.weights)]
        return [{str(self.of): 1.0} | ({self.minus: -1.0} if self.minus else {})]


class Claim(Strict):
    """One claim. ``where``: in the paper; ``direction``: of the effect, ``margin`` (the endpoint's unit): how
    far from 0 still counts as the same, or as not higher; ``seeds``: a key of the configuration.
    """

    statement: Text
    where: Text
    endpoint: Endpoint
    compare: Comparison
    direction: Literal["higher", "lower", "same", "not higher"]
    margin: Positive | None = None
    seeds: Seeds | None = None

    @model_validator(mode="after")
    def _has_margin(self) -> Claim:
        if (self.direction in ("same", "not higher")) != (self.margin is not None):
            wanted = "needs" if self.margin is None else "takes no"
            raise ValueError(f"direction '{self.direction}' {wanted} margin; add it or remove it")
        sums = [sum(contrast.values()) for contrast in self.compare.contrasts]
        if not self.endpoint.heldout and max(map(abs, sums)) > 1e-9:
            raise ValueError(
                "compare must set recipes against each other (weights add up to 0, of has a minus); change it"
            )
        if self.compare.best and self.direction != "higher":
            raise ValueError(f"best means direction 'higher', found '{self.direction}'; change one")
        return self


class ClaimsFile(Strict):
    """All of `config/claims.yaml`: ``seeds`` of claims that name none, and the families."""

    seeds: Seeds
    paper: dict[Text, Claim]
    controls: dict[Text, Claim]

    @property
    def claims(self) -> dict[str, tuple[str, Claim]]:
        """id -> its family and the claim, in the file's order."""
        return {key: (family, claim) for family in FAMILIES for key, claim in getattr(self, family).items()}

    def seeds_of(self, claim: Claim, config: Any) -> list[int]:
        """The seeds of a claim's runs, from a scale's configuration."""
        key = claim.seeds or self.seeds
        return list(config.comparison_seeds) if key == "comparison_seeds" else [config.seed]


def load_claims(tables: dict[str, TableSpec], path: str | Path = FILE) -> ClaimsFile:
    """All claims. Raises GranvitError naming the key that is wrong, among them tables, columns and rows that
    config/tables.yaml does not have, and an id given in two families.
    """
    content = check(ClaimsFile, read_yaml(path), str(path))
    twice = [key for key in content.paper if key in content.controls]
    if twice:
        raise GranvitError(f"{path}: controls.{twice[0]}: an id of the paper's claims too; rename one")
    for key, (family, claim) in content.claims.items():
        try:
            members(claim.endpoint, tables)
        except ValueError as error:
            raise GranvitError(f"{path}: {family}.{key}.endpoint: {error}") from None
    return content


def require_recipes(content: ClaimsFile, known: Collection[str], path: str | Path = FILE) -> None:
    """Raise GranvitError for a claim about a recipe that config/recipes.yaml does not have."""
    for key, (family, claim) in content.claims.items():
        for name in claim.compare.recipes:
            if name not in known:
                raise GranvitError(
                    f"{path}: {family}.{key}.compare: '{name}' is not a recipe of config/recipes.yaml"
                    f"{nearest(name, known)}; correct the name or add the recipe"
                )


def members(endpoint: Endpoint, tables: dict[str, TableSpec]) -> list[list[str]]:
    """The printed benchmarks behind each column or row whose mean an endpoint is; none of a training log or
    of attention. Raises ValueError naming what config/tables.yaml lacks.
    """
    shared = next(iter(tables.values())).shared
    single = {name: [name] for name in shared.benchmarks}
    known, kind = single | shared.columns, "a row or column"
    if endpoint.table:
        if endpoint.table not in tables:
            raise ValueError(_unknown(endpoint.table, "a table", tables))
        layout = tables[endpoint.table].layout
        of_runs = {name: shared.columns[name] for name in layout.columns if name in shared.columns}
        known = single | shared.capabilities if layout.layout == "benchmarks" else of_runs
        kind = f"of scores and a column of {endpoint.table}"
    for name in endpoint.columns or endpoint.rows or []:
        if name not in known:
            raise ValueError(_unknown(name, kind, known))
    return [known[name] for name in endpoint.columns or endpoint.rows or []]


def _unknown(name: str, kind: str, known: Collection[str]) -> str:
    return f"'{name}' is not {kind} in config/tables.yaml{nearest(name, known)}; correct the name"
