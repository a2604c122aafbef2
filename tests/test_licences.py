"""Every package that an installation brings, with the extras that our code imports, has a licence
that lets anybody use it.
"""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

EXTRAS = {
    "referees", "models", "lake", "dask", "ray", "mlflow", "wandb", "trackio", "tensorboard",
}  # fmt: skip
"""All but `reference`: Fast Downward (GPL-3.0) is a process of its own, and never imported."""
PERMISSIVE = re.compile(
    r"MIT|Apache|BSD|ISC|PSF|Python Software Foundation|Zlib|Unlicense|CC0|0BSD|HPND|MPL|Mozilla"
    r"|Public Domain|BlueOak|Artistic",
    re.IGNORECASE,
)
"""MPL binds changes of its own files only."""
COPYLEFT = re.compile(r"\b(A?GPL|GNU (Affero )?General)", re.IGNORECASE)
READ_BY_HAND = {
    "nvidia": "CUDA's libraries, which torch brings on some machines: proprietary, may be used",
    "cuda": "the same",
    "text-unidecode": "Artistic or GPL, as one likes; Prefect brings it",
}
"""Packages, by how their names begin, whose metadata says too little or something else."""


def brought() -> dict[str, Distribution]:
    """Every package that `posterity[EXTRAS]` brings, by name, as it is installed here."""
    found: dict[str, Distribution] = {}
    asked: dict[str, set[str]] = {}  # the extras of each package that were followed
    waiting = [("posterity", EXTRAS)]
    while waiting:
        name, extras = waiting.pop()
        if name in asked and extras <= asked[name]:
            continue
        asked[name] = extras = asked.get(name, set()) | extras
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # for another platform, or an extra that is not installed here
            continue
        for text in found[name].requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or any(
                wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            ):
                waiting.append((re.sub(r"[-_.]+", "-", wanted.name).lower(), wanted.extras))
    return found


def licence_of(package: Distribution) -> str:
    """What its metadata says of its licence: a short field, or classifiers."""
    meta = package.metadata
    short = meta.get("License-Expression") or ""
    named = [one for one in meta.get_all("Classifier") or () if one.startswith("License ::")]
    long = (meta.get("License") or "")[:200]
    return "; ".join(filter(None, [short, *named, long]))


def test_no_package_binds_those_who_use_it() -> None:
    found = brought()
    assert len(found) > 100
    said = {name: licence_of(one) for name, one in found.items()}
    unclear = {
        name: text
        for name, text in said.items()
        if not name.startswith(tuple(READ_BY_HAND))
        and (COPYLEFT.search(text) or not PERMISSIVE.search(text))
    }
    assert not unclear
