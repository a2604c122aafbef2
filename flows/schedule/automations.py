"""Prefect automations that notify of what a schedule tells, and find firings whose worker died.

`posterity serve` makes ours where `POSTERITY_WEBHOOK` names the address that they post to, which
Prefect's server keeps, encrypted. `python -m flows.schedule.automations [FILE]` makes them, or
those of a file, on the server of a work pool. Those of the same names are renewed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from string import Template
from uuid import uuid4

from flows.schedule.server import api_url, quiet
from planners.errors import InvalidInput, PosterityError

ADDRESS = "POSTERITY_WEBHOOK"
"""The variable of the environment that has the address."""
BLOCK = "posterity"
"""Name of Prefect's block that holds it."""
OURS = Path(__file__).with_suffix(".yaml")
"""Our automations."""


def address_of(environment: Mapping[str, str]) -> str:
    """The address that messages are posted to. Raises InvalidInput if it is none."""
    address = environment.get(ADDRESS, "")
    if not address.startswith(("http://", "https://")):
        raise InvalidInput(
            f"{ADDRESS} is no address that begins with http:// or https://; set it to where "
            "notifications are posted"
        )
    return address


def automate(file: Path, address: str) -> list[str]:
    """Make or renew the automations of a file, which name the address's block `${WEBHOOK}`.

    Returns their names. Raises InvalidInput where the file is unusable.
    """
    quiet()  # before Prefect is imported
    import yaml  # type: ignore[import-untyped]
    from prefect.automations import Automation
    from prefect.blocks.webhook import Webhook
    from pydantic import SecretStr

    def read(block: object) -> list[Automation]:
        text = Template(file.read_text("utf-8")).substitute(WEBHOOK=block)
        return [Automation.model_validate(one) for one in yaml.safe_load(text)["automations"]]

    try:
        read(uuid4())  # before anything is made
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise InvalidInput(f"{file} holds no automations: {error}") from error
    if api_url() is None:
        raise InvalidInput(
            "no Prefect server is configured; name the one of the schedule with PREFECT_API_URL: "
            "http://127.0.0.1:4200/api"
        )
    block = Webhook(method="POST", url=SecretStr(address)).save(BLOCK, overwrite=True)
    found = read(block)
    for automation in found:
        with suppress(ValueError):  # there is none of this name yet
            Automation.read(name=automation.name).delete()  # type: ignore[attr-defined]
        automation.create()
    return [automation.name for automation in found]


def main() -> None:
    """Entry point; exits with 2 where something is unusable."""
    try:
        file = Path(sys.argv[1]) if sys.argv[1:] else OURS
        print("\n".join(automate(file, address_of(os.environ))))
    except PosterityError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
