"""Experiments: what is refused, with its path; what counts for identity."""

from pathlib import Path

import pytest

from flows.experiments.experiment import Experiment
from flows.experiments.reading import PRESETS, load_experiment, preset_text
from planners.errors import InvalidInput
from tests.conftest import small


@pytest.mark.parametrize("name", PRESETS)
def test_presets_load_and_begin_with_their_command(name: str) -> None:
    assert preset_text(name).startswith(f"# posterity run {name}")
    assert load_experiment(name).name == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.stepz=3", "unknown setting 'training.stepz'"),
        ("training.steps=many", "training.steps = 'many'"),
        ("training.steps=0", "training.steps = 0"),
        ("training.steps=1.5", "training.steps = 1.5"),
        ("training.start=middle", "training.start = 'middle'"),
        ("curation.curator=best", "unknown curator 'best'; known: accepted-and-valid, all"),
        ("curation.curator=noisy", "curator 'noisy' needs curation.error_rate"),
        ("tasks.domain=chess", "unknown domain 'chess'; known: "),
        ("tasks.train.sizes=[8, 4]", "the first must not exceed the second"),
        (
            "tasks.domains.ferry.train={count=3,sizes=[1,2],horizons=[1,2]}",
            "of domains.NAME, not both",
        ),
        ("tasks.larger.sizes=[5, 9]", "larger.sizes must begin above"),
        ("seed", "expected table.key=value"),
        ("seed.x=1", "is a value, not a table|seed"),
        ("name=a/b", "name = 'a/b'"),
    ],
)
def test_bad_settings_are_named(change: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_experiment("quickstart", ["seed=1", change])


def test_bad_sources_are_named(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text('extends = "tiny"\ntasks = 3')
    with pytest.raises(InvalidInput, match="tasks = 3"):
        load_experiment(str(tmp_path / "odd.toml"))
    with pytest.raises(InvalidInput, match="neither a preset"):
        load_experiment("quikstart")
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_experiment(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_text("a = ")
    with pytest.raises(InvalidInput, match="not TOML"):
        load_experiment(str(tmp_path / "bad.toml"))
    (tmp_path / "loop.toml").write_text(f"extends = '{tmp_path}/loop.toml'")
    with pytest.raises(InvalidInput, match="without a cycle"):
        load_experiment(str(tmp_path / "loop.toml"))


def test_a_file_extends_a_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('extends = "quickstart"\n[training]\nsteps = 7\n')
    mine, quick = load_experiment(str(file)), load_experiment("quickstart")
    assert (mine.name, mine.training.steps) == ("mine", 7)
    assert mine.tasks == quick.tasks
    split = "{ count = 3, sizes = [1, 2], horizons = [1, 2] }"
    file.write_text(f'extends = "quickstart"\n[tasks.domains.ferry]\ntrain = {split}\n')
    assert list(load_experiment(str(file)).tasks.grades) == ["ferry"]


def test_identity_is_content_without_name_and_length() -> None:
    first = Experiment.model_validate(small())
    assert first.hash == Experiment.model_validate(small(name="other", generations=9)).hash
    assert first.hash != Experiment.model_validate(small(seed=1)).hash
    assert first.id == f"small-{first.hash}"


def test_the_order_of_domains_is_no_setting() -> None:
    grades = small()["tasks"]
    splits = {split: grades[split] for split in ("train", "heldout")}
    for names in (["ferry", "blocksworld"], ["blocksworld", "ferry"]):
        one = Experiment.model_validate(small(tasks={"domains": dict.fromkeys(names, splits)}))
        assert list(one.tasks.grades) == ["blocksworld", "ferry"]


def test_the_control_matches_the_quickstart() -> None:
    control, quick = (load_experiment(name, ["seed=4"]) for name in ("control", "quickstart"))
    matched = control.matched()
    assert matched is not None
    assert matched.hash == quick.hash != control.hash
    assert quick.matched() is None


@pytest.mark.parametrize("curator", ["noisy", "mine:keep"])
def test_a_control_matches_other_curators_too(
    curator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of one curator are none of another's."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from curation.own import keep as chosen\n"
        "def keep(pool, options):\n    return chosen(pool, set(pool['trace']), 'all', 'none')\n"
    )
    besides = ["curation.error_rate=0.1"] if curator == "noisy" else []
    matched = load_experiment("quickstart", [f"curation.curator={curator}", *besides])
    plain = load_experiment("quickstart")
    for given in (["uncurated", curator, matched], [curator, "shortest", plain]):
        of = load_experiment(
            "quickstart", [f"curation.curator={given[0]}", f"curation.match={given[1]}", *besides]
        )
        found = of.matched()
        assert found is not None
        assert found.hash == given[2].hash != of.hash
