"""The licences of everything that an installation brings, with all its extras but `reference`."""

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

EXTRAS = (
    "referees", "models", "lake", "dask", "ray", "mlflow", "wandb", "trackio", "tensorboard",
)  # fmt: skip
"""Those that code of ours imports. `reference` is Fast Downward (GPL-3.0), a process of its own."""
PERMISSIVE = {
    "0bsd", "2-clause bsd", "3-clause bsd", "apache", "apache 2.0", "apache software",
    "apache-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "cc0-1.0", "cnri-python",
    "isc", "llvm-exception", "mit", "mit-0", "mit-cmu", "psf-2.0", "python software foundation",
    "unlicense", "zlib",
}  # fmt: skip
OTHERWISE = {
    "certifi": "MPL-2.0: certificates, of which we change no file",
    "orjson": "MPL-2.0, of which we change no file",
    "pathspec": "MPL-2.0, of which we change no file",
    "tqdm": "MPL-2.0, of which we change no file",
    "text-unidecode": "Artistic License, or GPL: the first is our choice (Prefect brings it)",
}
"""Packages with another licence, and why that is allowed."""


def brought(name: str, extras: tuple[str, ...], seen: dict[str, Distribution]) -> None:
    """Add a package and everything that it requires here to `seen`, by name."""
    try:
        found = distribution(name)
    except PackageNotFoundError:  # for another system, or an extra that is not installed here
        return
    new = plain(name) not in seen
    seen[plain(name)] = found
    for line in found.requires or ():
        needed = Requirement(line)
        asked = needed.marker is None or any(
            needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)
        )
        if asked and (plain(needed.name) not in seen or (needed.extras and new)):
            brought(needed.name, tuple(needed.extras), seen)


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def licences(of: Distribution) -> Iterator[str]:
    """The names in a package's licence, as its metadata tell it."""
    told = of.metadata
    classified = [
        line.rpartition("::")[2].strip() for line in told.get_all("Classifier") or ()
        if line.startswith("License ::") and line.strip() != "License :: OSI Approved"
    ]  # fmt: skip
    text = told.get("License-Expression") or " AND ".join(classified) or told.get("License") or ""
    for part in re.split(r"\b(?:AND|OR|WITH)\b|[()]", text.splitlines()[0] if text else ""):
        name = re.sub(r"\b(licensed?|the)\b", "", part.lower()).strip(" ,;")
        if name and not re.fullmatch(r"iscl|mpl 2\.0", name):  # a short form of what stands before
            yield re.sub(r"\s+", " ", name)


def test_nothing_that_comes_with_us_binds_our_users() -> None:
    seen: dict[str, Distribution] = {}
    brought("posterity", EXTRAS, seen)
    assert len(seen) > 100
    untold = sorted(name for name, of in seen.items() if not list(licences(of)))
    assert not untold, "no licence in their metadata"
    others = {
        name: sorted(set(licences(of)) - PERMISSIVE)
        for name, of in seen.items()
        if set(licences(of)) - PERMISSIVE
    }
    assert {name: told for name, told in others.items() if name not in OTHERWISE} == {}
    assert set(OTHERWISE) - set(others) <= set(OTHERWISE) - set(seen), "no longer needed"
