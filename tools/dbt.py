"""The views as a dbt package: `python -m tools.dbt` writes integrations/dbt.

Each view is a model, and each table that one of them reads is a source. Names after FROM and JOIN
become dbt's `ref` and `source`; the rest of the SQL stays as it is.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from flows.generations.identity import CODE_VERSION
from planners.records import Outcome
from warehouse import schema
from warehouse.places.connect import VIEWS, view_grain, view_sql

FOLDER = Path(__file__).parents[1] / "integrations" / "dbt"
RELATION = re.compile(r"\b(FROM|JOIN)(\s+)([a-z_]+)\b(?!\()")
NOTE = "# written by `python -m tools.dbt`\n"
PROJECT = {
    "name": "posterity",
    "version": CODE_VERSION,
    "config-version": 2,
    "profile": "posterity",
    "require-dbt-version": ">=1.10.5",
    "flags": {"send_anonymous_usage_stats": False},
    "models": {
        "posterity": {"staging": {"+materialized": "view"}, "marts": {"+materialized": "table"}}
    },
}
PROFILE = """\
# Reads what a run published last: the warehouse's snapshot, or what POSTERITY_SNAPSHOT names.
posterity:
  target: local
  outputs:
    local:
      type: duckdb
      path: "{{ env_var('POSTERITY_DBT', 'posterity_dbt.duckdb') }}"
      attach:
        - path: "{{ env_var('POSTERITY_SNAPSHOT', 'posterity.duckdb.snapshot') }}"
          alias: warehouse
          read_only: true
"""


def model_sql(name: str) -> str:
    """A view's statement in dbt's words."""

    def related(found: re.Match[str]) -> str:
        word, space, name = found.groups()
        if name in VIEWS:
            return f"{word}{space}{{{{ ref('{name}') }}}}"
        if name in schema.metadata.tables:
            return f"{word}{space}{{{{ source('warehouse', '{name}') }}}}"
        return found[0]  # a name given in a WITH

    return RELATION.sub(related, view_sql(name))


def sources() -> dict[str, Any]:
    """The tables that models read, with their sentences and tests of keys and missing values."""
    text = "".join(model_sql(name) for name in VIEWS)
    read = sorted(set(re.findall(r"source\('warehouse', '(\w+)'\)", text)))
    return {
        "version": 2,
        "sources": [
            {
                "name": "warehouse",
                "database": "warehouse",
                "schema": "main",
                "description": "A warehouse of Posterity, as it was published last.",
                "tables": [_table(name) for name in read],
            }
        ],
    }


def _table(name: str) -> dict[str, Any]:
    table = schema.metadata.tables[name]
    key = [str(column.name) for column in table.columns if column.primary_key]
    columns = []
    for column in table.columns:
        tests: list[Any] = [] if column.nullable else ["not_null"]
        if key == [column.name]:
            tests.append("unique")
        if column.name == "outcome":
            tests.append(
                {"accepted_values": {"arguments": {"values": [str(one.value) for one in Outcome]}}}
            )
        described = {"name": str(column.name), "description": column.comment}
        columns.append({**described, "data_tests": tests} if tests else described)
    return {"name": name, "description": table.comment, "columns": columns}


def models(staging: bool) -> dict[str, Any]:
    """The models of one folder with their sentences."""
    return {
        "version": 2,
        "models": [
            {"name": name, "description": view_grain(name)}
            for name in sorted(VIEWS)
            if name.startswith("stg_") is staging
        ],
    }


def package() -> dict[str, str]:
    """Every file of the package by its path."""
    files = {
        "dbt_project.yml": _yaml(PROJECT),
        "profiles.yml": NOTE + PROFILE,
        "models/sources.yml": _yaml(sources()),
        "models/staging/models.yml": _yaml(models(staging=True)),
        "models/marts/models.yml": _yaml(models(staging=False)),
    }
    for name in VIEWS:
        folder = "staging" if name.startswith("stg_") else "marts"
        files[f"models/{folder}/{name}.sql"] = model_sql(name)
    return files


def _yaml(content: dict[str, Any]) -> str:
    return NOTE + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    for path, text in package().items():
        (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / path).write_text(text, "utf-8")
