"""The audit's arithmetic against closed forms, and its calibration against planted preferences."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from statsmodels.discrete.conditional_models import ConditionalLogit
from statsmodels.stats.proportion import proportion_confint

from benchmarks.audit_power import NULL, POWER, Row, tasks_of, traits_of
from curation.diversity import diversity, trend
from curation.preferences import Preferences, preferences, spent_at
from curation.price import change, numeric
from curation.rewards import CLIP, effective_reward, effective_size, importance, staleness
from curation.tasks import FEWEST, MIDDLE, acceptance, cases, share_interval, wilson

TRACES, SEEDS = 2000, 100


def curated(seed: int, planted: str | None, odds: float = 3.0) -> tuple[pd.Series, ...]:
    """Valid traces of a pool: kept by chance, or with a taste for a trait; tasks differ."""
    rng = np.random.default_rng(seed)
    tasks = TRACES // 8
    task = rng.integers(0, tasks, TRACES)
    traits = pd.DataFrame(
        {
            "plan_length": rng.integers(2, 20, TRACES),
            "reasoning_tokens": rng.integers(10, 400, TRACES),
            "first_action": rng.choice(["unstack", "pickup", "stack"], TRACES, p=[0.5, 0.35, 0.15]),
            "fenced": rng.random(TRACES) < 0.3,
            "uses_b1": rng.random(TRACES) < 0.25,
            "size": rng.integers(4, 9, TRACES),
            "domain": "blocksworld",
        }
    )
    taste = {
        "plan_length": -(traits["plan_length"] - 10.5) / 5.2,
        "fenced": traits["fenced"],
        "uses_b1": traits["uses_b1"],
        "first_action": traits["first_action"] == "stack",
    }
    logit = -0.4 + rng.normal(0, 0.3, tasks)[task]
    if planted is not None:
        logit = logit + np.log(odds) * taste[planted].to_numpy(dtype=float)
    kept = rng.random(TRACES) < 1 / (1 + np.exp(-logit))
    return pd.Series(kept), pd.Series(task), traits


@pytest.mark.parametrize("planted", ["plan_length", "fenced", "uses_b1", "first_action"])
def test_a_planted_taste_is_named_first(planted: str) -> None:
    named = [preferences(*curated(seed, planted)).named()[:1] for seed in range(SEEDS // 4)]
    assert named.count([planted]) >= 0.95 * len(named)


def test_no_taste_is_named_where_none_is_planted() -> None:
    named = [preferences(*curated(seed, None)).named() for seed in range(SEEDS)]
    assert sum(map(bool, named)) <= 3


def test_odds_are_what_was_planted() -> None:
    found = preferences(*curated(1, "fenced")).found.set_index("trait")
    assert found.loc["fenced", "low"] < 3.0 < found.loc["fenced", "high"]


def test_questions_without_an_answer_say_so() -> None:
    kept, task, traits = curated(1, None)
    explained = preferences(kept, task, traits.assign(
        rare=["x"] + ["y"] * (TRACES - 1), unknown=[None] + [1.0] * (TRACES - 1)
    ))  # fmt: skip
    assert set(explained.unanswered) == {"domain", "rare", "unknown"}
    assert "1 traces" in explained.unanswered["unknown"]
    for none, why in ((kept & False, "no valid trace was kept"), (kept | True, "every valid")):
        asked = preferences(none, task, traits)
        assert asked.found.empty
        assert all(reason.startswith(why) for reason in asked.unanswered.values())
    assert (
        preferences(kept[:0], task[:0], traits[:0]).unanswered["size"] == "there is no valid trace"
    )


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), min_size=1, max_size=200))
def test_acceptance_is_the_share_of_each_group(rows: list[tuple[bool, str]]) -> None:
    kept, groups = (pd.Series(column) for column in zip(*rows, strict=True))
    found = acceptance(kept, groups, pd.Series(range(len(kept))))
    for row in found.itertuples():
        inside = [k for k, group in rows if group == row.level]
        assert row.traces == len(inside) >= FEWEST
        assert row.share == pytest.approx(sum(inside) / len(inside))
        assert row.low - 1e-9 <= row.share <= row.high + 1e-9
    counts = pd.Series([group for _, group in rows]).value_counts()
    assert set(found["level"]) == set(counts.index[counts >= FEWEST])


def test_a_trait_that_separates_has_finite_odds() -> None:
    kept, task, traits = curated(1, None)
    marked = np.zeros(TRACES, dtype=bool)
    marked[np.flatnonzero(kept)[:100]] = True
    found = preferences(kept, task, traits.assign(marked=marked))
    row = found.found.iloc[0]
    assert found.named() == ["marked"]
    assert row["trait"] == "marked"
    assert row["odds_ratio"] > 5
    assert np.isfinite([row["odds_ratio"], row["low"], row["high"]]).all()


def pools(rows: tuple[Row, ...], name: str, count: int) -> list[Preferences]:
    [row] = [row for row in rows if row.name == name]
    found = []
    for seed in range(count):
        kept, task, traits = row.pool(seed)
        found.append(preferences(pd.Series(kept), pd.Series(task), traits, seed))
    return found


@pytest.mark.parametrize(
    "name", ["one trace a task", "ten tasks", "60 extra traits, 200 traces", "few kept"]
)
def test_nothing_is_named_where_no_trace_of_a_task_is_preferred(name: str) -> None:
    """Pools in which one model of all traces named something in 19% to 100%."""
    assert sum(bool(found.named()) for found in pools(NULL, name, 40)) <= 2


def test_tasks_with_long_plans_weigh_more_and_shorter_plans_are_preferred() -> None:
    """What `shortest` does is told as two things, of opposite signs."""
    rng = np.random.default_rng(0)
    task = tasks_of(2000, 250, rng)
    traits = traits_of(task, rng)
    order = traits.assign(task=task).sort_values(["plan_length", "fenced"])
    kept = pd.Series(traits.index.isin(order.drop_duplicates("task").index))
    found = preferences(kept, pd.Series(task), traits)
    within = found.found.set_index("trait").loc["plan_length"]
    assert found.named()[0] == "plan_length"
    assert within["high"] < 0.5
    between = found.between.set_index("trait")
    assert between.loc["size", "shift"] > 0.1
    assert between.loc["size", "q"] < 0.01
    assert "size" in found.unanswered


def test_traits_that_are_nearly_equal_are_one() -> None:
    for found in pools(POWER, "plan length with its copy", 10):
        [row] = [r for r in found.found.to_dict("records") if r["trait"] == "plan_length"]
        assert row["also"] == "copy"
        assert found.named()[0] == "plan_length"


@pytest.mark.parametrize("odds", [0.6, 0.8])
def test_no_trait_is_blamed_for_what_another_does(odds: float) -> None:
    """Kept by length alone, once as a conditional logit has it and once always the shortest."""
    blamed = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        task = np.sort(rng.integers(0, 250, 2000))
        length = (task % 7 + 4 + 2 * rng.integers(0, 4, 2000)).astype(float)
        traits = pd.DataFrame(
            {
                "plan_length": length,
                "detour": (length > task % 7 + 4) & (rng.random(2000) < 0.95),
                "tokens": 5 * length**2 + rng.normal(0, 15, 2000),
            }
        )
        for chance in (length * np.log(odds) + rng.gumbel(size=2000), -length):
            ranked = pd.DataFrame({"task": task, "chance": chance, "lot": rng.random(2000)})
            best = ranked.sort_values(["chance", "lot"]).drop_duplicates("task", keep="last").index
            kept = pd.Series(np.isin(np.arange(2000), best))
            found = preferences(kept, pd.Series(task), traits, seed)
            first = found.clear().iloc[0]
            assert "plan_length" in (first["trait"], *first["also"].split(", "))
            blamed += len(found.named()) > 1
            row = found.found
            assert (row["low"] <= row["odds_ratio"]).all()
            assert (row["odds_ratio"] <= row["high"]).all()
    assert blamed <= 2


def test_one_lucky_trace_breaks_no_bound_that_is_asked_every_night() -> None:
    """In one of 20 tasks the kept trace of 100 is a runaway: by chance, in one of a hundred."""
    rng = np.random.default_rng(0)
    task = pd.Series(np.repeat(np.arange(20), 100))
    tokens, kept = rng.normal(size=2000), np.zeros(2000, dtype=bool)
    kept[100 * np.arange(20) + rng.integers(0, 100, 20)] = True
    tokens[np.flatnonzero(kept)[0]] = 1e6
    found = preferences(
        pd.Series(kept), task, pd.DataFrame({"tokens": tokens}), least=spent_at(0.01, 10)
    )
    assert 1e-3 < found.found["q"][0] < 0.05, "a normal tail would call this certain"
    assert found.clear(0.01, look=10).empty


def test_one_odd_trace_hides_no_preference() -> None:
    """A number that is another one for a single trace is at six standard errors whenever that trace
    is kept, which is too often to be the measure of what is unlike chance.
    """
    row = Row("", 2000, 60, taste="plan_length", odds=3.0, odd=3)
    for seed in range(5):
        kept, task, traits = row.pool(seed)
        found = preferences(pd.Series(kept), pd.Series(task), traits, seed)
        assert {"plan_length", "text_length"} & {*found.named()}, "which are nearly equal"
        assert not any(name.startswith("odd") for name in found.named())


def test_a_strong_preference_breaks_a_bound_at_a_late_look() -> None:
    kept, task, traits = curated(1, "fenced", odds=8.0)
    found = preferences(kept, task, traits, least=spent_at(0.01, 40))
    assert found.clear(0.01, look=40)["trait"].tolist() == ["fenced"]


def test_no_trait_is_blamed_where_tasks_differ_in_spread() -> None:
    """The shortest in tokens are kept; characters say nothing else, and have hardly any ties."""
    blamed = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        task = np.repeat(np.arange(250), 8)
        scale = 40 * np.exp(rng.normal(0, 1.5, 250))[task]
        tokens = 300 + scale * rng.normal(size=2000)
        characters = 4 * (tokens + 0.3 * scale * rng.normal(size=2000))
        kept = pd.Series(False, index=range(2000))
        kept[pd.Series(tokens).groupby(task).idxmin().to_numpy()] = True
        traits = pd.DataFrame({"tokens": tokens, "characters": characters})
        named = preferences(kept, pd.Series(task), traits, seed).named()
        assert "tokens" in named
        blamed += "characters" in named
    assert blamed <= 1


@pytest.mark.parametrize("errs", [0.0, 0.1, 0.2, 0.3])
def test_copies_that_share_their_fate_count_once(errs: float) -> None:
    """A judge of texts decides, who errs about some copies, without regard to the trait; half of
    the rows are copies.
    """
    named = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        task = np.repeat(np.arange(100), 16)
        text = task * 100 + rng.integers(0, 5, 1600)
        kept = pd.Series((rng.random(100_00)[text] < 0.4) ^ (rng.random(1600) < errs))
        trait = pd.DataFrame({"x": rng.normal(size=100_00)[text]})
        one = cases(kept, pd.Series(task), pd.Series(text.astype(str)))
        assert len(one) == len(set(text))
        found = preferences(
            kept[one].reset_index(drop=True), pd.Series(task[one]),
            trait.iloc[one].reset_index(drop=True), seed,
        )  # fmt: skip
        named += bool(found.named())
    assert named <= 2
    apart = pd.Series(rng.random(1600) < 0.5)
    assert len(cases(apart, pd.Series(task), pd.Series(text.astype(str)))) == 1600


def test_who_drops_all_copies_of_a_longer_plan_is_no_judge_of_plans() -> None:
    """As the curator `shortest` does: what goes with having copies is then no preference."""
    named, pooled = list[str](), 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        task = pd.Series(np.repeat(np.arange(150), 16))
        which = rng.choice(3, 2400, p=[0.39, 0.13, 0.48])  # two short plans, and a longer one
        length = np.where(which == 2, 6, 4)
        kept = pd.Series(np.zeros(2400, dtype=bool))
        kept[pd.Series(length).groupby(task).idxmin()] = True
        traits = pd.DataFrame({"length": length, "first": np.where(which == 1, "stack", "pickup")})
        one = cases(kept, task, pd.Series(which.astype(str)), seed)
        pooled += len(one) < 2400
        named += preferences(kept, task, traits, seed, one=one).named()
    assert pooled == 0
    assert named == ["length"] * 10


@pytest.mark.parametrize("order", ["as it came", "kept first"])
def test_the_order_of_copies_says_nothing(order: str) -> None:
    """A judge of texts errs, who prefers nothing; frequent texts have a trait of their own."""
    named = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        task = np.repeat(np.arange(100), 16)
        which = rng.choice(5, 1600, p=[0.4, 0.3, 0.1, 0.1, 0.1])
        text = task * 10 + which
        kept = (rng.random(1000)[text] < 0.5) ^ (rng.random(1600) < 0.2)
        places = np.argsort(~kept, kind="stable") if order == "kept first" else np.arange(1600)
        rows = pd.DataFrame({"kept": kept, "task": task, "text": text, "frequent": which < 2})
        rows = rows.iloc[places].reset_index(drop=True)
        one = cases(rows["kept"], rows["task"], rows["text"].astype(str), seed)
        assert len(one) == rows["text"].nunique()
        traits = rows[["frequent"]].astype(float)
        named += bool(preferences(rows["kept"], rows["task"], traits, seed, one=one).named())
    assert named <= 2


def test_copies_weigh_between_tasks() -> None:
    """Of easy tasks nearly all copies are kept, of hard ones one: tasks weigh otherwise."""
    hard = np.repeat(np.arange(100) % 2, 16)
    task = pd.Series(np.repeat(np.arange(100), 16))
    place = np.tile(np.arange(16), 100)
    kept = pd.Series(np.where(hard == 1, place == 0, place < 15))
    text = pd.Series((place == 15).astype(str))
    one = cases(kept, task, text)
    assert len(one) < 1600
    found = preferences(kept, task, pd.DataFrame({"hard": hard}), one=one)
    assert found.heavier()["trait"].tolist() == ["hard"]
    assert found.between["mean_kept"].iloc[0] == pytest.approx(1 / 16)


def test_numbers_that_cannot_be_reckoned_with_are_told() -> None:
    rng = np.random.default_rng(0)
    task = pd.Series(np.repeat(np.arange(100), 8))
    x = rng.normal(size=800)
    kept = pd.Series(rng.random(800) < 1 / (1 + np.exp(-2 * x)))
    for large in (x * 1e200, np.where(x > 1, 1.7e308, x), x + 1e15):
        found = preferences(kept, task, pd.DataFrame({"large": large, "x": x}))
        assert found.named() == ["x"]
        assert "large" in found.unanswered


def test_the_interval_of_a_share_counts_tasks() -> None:
    """A referee errs about plans, of which a task has few, each many times."""
    inside = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        size = np.full(100, 16.0)
        part = 8.0 * rng.binomial(2, 0.1, 100)  # two different plans a task
        low, high = share_interval(part, size)
        inside += low <= 0.1 <= high
    assert inside >= 0.9 * 300


@pytest.mark.parametrize(("tasks", "size", "often"), [(100, 16, 0.01), (10, 16, 0.1)])
def test_the_interval_of_a_rare_share_counts_tasks(tasks: int, size: int, often: float) -> None:
    """All traces of a task share what few tasks have: by traces the interval covered 69 and 66%."""
    inside = 0
    for seed in range(300):
        part = size * np.random.default_rng(seed).binomial(1, often, tasks).astype(float)
        low, high = share_interval(part, np.full(tasks, float(size)))
        inside += low <= often <= high
    assert inside >= 0.93 * 300


def test_conditional_odds_are_those_of_an_exact_model() -> None:
    """One and several kept traces a task, against statsmodels' conditional logit."""
    rng = np.random.default_rng(3)
    task = np.repeat(np.arange(60), 8)
    traits = pd.DataFrame({"a": rng.normal(size=480), "b": rng.random(480) < 0.4})
    strength = traits["a"] * 0.7 + traits["b"] * 0.9
    for most in (1, 2, 3, 7):
        kept = np.zeros(480, dtype=bool)
        for number in range(60):
            mine = np.flatnonzero(task == number)
            odds = np.exp(strength.to_numpy()[mine])
            kept[rng.choice(mine, most, replace=False, p=odds / odds.sum())] = True
        exact = ConditionalLogit(
            kept.astype(float), traits.astype(float).to_numpy(), groups=task
        ).fit(disp=False)
        found = preferences(pd.Series(kept), pd.Series(task), traits).found.set_index("trait")
        spread = (traits["a"] - traits["a"].groupby(task).transform("mean")).std(ddof=0)
        told = np.log([found.loc["a", "odds_ratio"] ** (1 / spread), found.loc["b", "odds_ratio"]])
        assert told == pytest.approx(exact.params, abs=0.01)
        wide = np.log(found.loc["b", "high"] / found.loc["b", "low"]) / (2 * 1.96)
        assert wide == pytest.approx(exact.bse[1], rel=0.05)


def test_the_share_of_a_group_has_an_interval_that_covers_it() -> None:
    """Traces of a task are kept or dropped together."""
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        chance = rng.beta(1, 1, 40)
        task = np.repeat(np.arange(40), 10)
        kept = rng.random(400) < chance[task]
        [row] = acceptance(pd.Series(kept), pd.Series(["x"] * 400), pd.Series(task)).itertuples()
        covered.append(row.low <= 0.5 <= row.high)
    assert np.mean(covered) > 0.9


numbers = st.floats(-100, 100, allow_nan=False)


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(
    arrays(float, n, elements=numbers), arrays(float, n, elements=st.floats(0.1, 5)))),
    arrays(float, st.integers(1, 20), elements=numbers))  # fmt: skip
def test_the_price_equation_adds_up(pool: tuple[np.ndarray, np.ndarray], after: np.ndarray) -> None:
    trait, weight = pool
    valid, task = np.arange(len(trait)) % 3 < 2, np.arange(len(trait)) % 4
    for learned in (weight, weight * valid):  # of all, and of valid traces alone
        moved = change(trait, learned, after, valid, task)
        mean = float((trait * learned).sum() / learned.sum())
        assert moved.mean_kept == pytest.approx(mean, abs=1e-6)
        assert moved.checker == 0 or learned is not weight
    moved = change(trait, weight, after, valid, task)
    assert moved.transmission is not None
    total = moved.selection + moved.transmission
    assert total == pytest.approx(after.mean() - trait.mean(), abs=1e-9)
    kept = float((weight * trait).sum() / weight.sum())
    assert moved.mean_kept == pytest.approx(kept, abs=1e-9)


def test_no_next_generation_means_no_transmission() -> None:
    both, one = np.array([True, True]), np.array([0, 0])
    moved = change(np.array([1.0, 3.0]), np.array([0.0, 1.0]), np.array([]), both, one)
    assert (moved.selection, moved.transmission, moved.mean_after) == (1.0, None, None)


def test_a_trait_that_some_traces_do_not_have_has_the_levels_of_the_others() -> None:
    traits = pd.DataFrame({"x": pd.Series(["yes", None, "yes", "no"], dtype=object)})
    assert numeric(traits).sum().to_dict() == {"x=no": 1.0, "x=yes": 2.0}


def test_levels_become_columns() -> None:
    columns = numeric(pd.DataFrame({"n": [1, 2], "first": ["a", "b"], "flag": [True, False]}))
    assert columns["first=a"].tolist() == [1.0, 0.0]
    assert columns["flag"].tolist() == [1.0, 0.0]


def test_estimators_on_a_tabular_policy() -> None:
    """Two policies over four completions, two of them valid: everything is known in closed form."""
    pi, beta = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.4, 0.3, 0.2, 0.1])
    valid = np.array([True, True, False, False])
    ratio = importance(np.log(pi), np.log(beta))
    assert ratio == pytest.approx(pi / beta, abs=1e-12)
    assert (beta * ratio).sum() == pytest.approx(1.0, abs=1e-12)
    z_pi, z_beta = pi[valid].sum(), beta[valid].sum()
    reward = effective_reward(valid.astype(float), ratio, z_pi, np.full(4, z_beta))
    # REINFORCE under pi with that reward is SFT on beta's valid completions, up to Z_pi
    scores = np.random.default_rng(0).normal(size=(4, 3))
    sft = ((beta * valid / z_beta)[:, None] * scores).sum(0)
    reinforce = ((pi * reward)[:, None] * scores).sum(0)
    assert reinforce == pytest.approx(z_pi * sft, abs=1e-9)
    without = ((pi * reward * z_beta / z_pi)[:, None] * scores).sum(0)  # the paper's omission
    assert np.linalg.norm(without) / np.linalg.norm(reinforce) == pytest.approx(z_beta / z_pi)


@given(arrays(float, st.integers(1, 30), elements=st.floats(1e-6, 1e6)))
def test_effective_size_is_between_one_and_all(ratio: np.ndarray) -> None:
    assert 1 - 1e-9 <= effective_size(ratio) <= len(ratio) + 1e-9
    assert effective_size(np.ones(len(ratio))) == pytest.approx(len(ratio))


def test_staleness_by_source() -> None:
    ratio = np.array([1.0, 1.0, 100.0, 1.0, 1.0])
    source, weight = np.array([1, 1, 0, 0, 0]), np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    found = staleness(weight, ratio, source)
    assert (found[1].traces, found[1].effective, found[1].share) == (2, 2.0, 0.5)
    assert found[0].effective == pytest.approx(101**2 / (100**2 + 1))
    assert found[0].effective_clipped == pytest.approx((CLIP + 1) ** 2 / (CLIP**2 + 1))
    assert effective_size(np.array([])) == 0.0


def test_diversity_of_a_small_generation() -> None:
    rows = [("k", True, "(a x)", "a"), ("k", True, "(b x)", "b"), ("l", False, "(a y)", "a"),
            ("l", False, "(b y)", "b")]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["task", "valid", "text", "first_action"])
    found = diversity(
        frame.assign(plan=frame["text"], text=[f"{n} {t}" for n, t in enumerate(frame["text"])])
    )
    assert (found["pass_at_1"], found["pass_at_k"], found["gap"]) == (0.5, 0.5, 0.0)
    assert (found["distinct_plans"], found["first_action_entropy"]) == (2.0, 1.0)
    assert (found["all_wrong"], found["all_right"]) == (0.5, 0.5)
    assert trend([1.0, 2.0, 3.0]) == pytest.approx(1.0)
    assert trend([1.0, 2.0]) is None


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_wilsons_interval_is_that_of_statsmodels(whole: int, share: float) -> None:
    part = round(share * whole)
    told = proportion_confint(part, whole, method="wilson")
    assert wilson(part, whole) == pytest.approx(told, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_a_cause_with_levels_is_not_blamed_on_a_number_that_goes_with_it(seed: int) -> None:
    """Each of its levels alone says less than the number, which says nothing given all of them."""
    rng = np.random.default_rng(200 + seed)
    task = np.repeat(np.arange(150), 7)
    level = rng.choice(4, len(task), p=[0.35, 0.3, 0.2, 0.15])
    tokens = level + rng.normal(0, 0.75, len(task))
    ease = rng.normal(-0.3, 0.7, 150)[task]
    kept = rng.random(len(task)) < 1 / (1 + np.exp(-(ease + np.log(2) * level)))
    traits = pd.DataFrame({"first_action": np.array(list("abcd"))[level], "tokens": tokens})
    assert preferences(pd.Series(kept), pd.Series(task), traits).named() == ["first_action"]


@pytest.mark.parametrize("seed", range(3))
def test_a_level_that_goes_with_another_cause_is_not_named_beside_its_sibling(seed: int) -> None:
    """One level is a cause, and so is a number; another level has more of that number."""
    rng = np.random.default_rng(seed)
    task = np.repeat(np.arange(120), 8)
    level = rng.integers(0, 5, len(task))
    number = rng.normal(0, 1, len(task)) + 1.5 * (level == 2)
    logit = rng.normal(-0.5, 0.7, 120)[task] + 1.2 * (level == 1) + 0.8 * number
    kept = rng.random(len(task)) < 1 / (1 + np.exp(-logit))
    traits = pd.DataFrame({"kind": np.array(list("abcde"))[level], "number": number})
    found = preferences(pd.Series(kept), pd.Series(task), traits).clear()
    assert {*zip(found["trait"], found["level"], strict=True)} == {("kind", "b"), ("number", "")}


@pytest.mark.parametrize("seed", range(3))
def test_a_taste_for_the_middle_of_a_number_is_not_blamed_on_a_level_that_goes_with_it(
    seed: int,
) -> None:
    """It has no direction, and a level that most traces near the middle have seems to matter."""
    rng = np.random.default_rng(seed)
    task = np.repeat(np.arange(150), 9)
    length = np.round(rng.normal(10, 3, len(task)))
    off = (length - length.mean()) / length.std()
    near = np.where(rng.random(len(task)) < 0.85, np.abs(off) < 0.5, rng.random(len(task)) < 0.4)
    kept = rng.random(len(task)) < 1 / (1 + np.exp(off**2 - 0.4 - rng.normal(0, 1, 150)[task]))
    traits = pd.DataFrame({"plan_length": length, "style": np.where(near, "plain", "odd")})
    told = preferences(pd.Series(kept), pd.Series(task), traits).clear()
    assert told[["trait", "level"]].to_numpy().tolist() == [["plan_length", MIDDLE]]
    assert told["odds_ratio"][0] == pytest.approx(np.e, rel=0.35)


@pytest.mark.parametrize("steepness", [0.2, 0.6])
def test_a_direction_that_levels_off_is_no_taste_for_the_middle(steepness: float) -> None:
    """Whatever the curve, what never turns prefers no middle."""
    rng = np.random.default_rng(1)
    task = np.repeat(np.arange(150), 9)
    length = rng.gamma(2, 3, len(task))
    kept = rng.random(len(task)) < 1 / (1 + np.exp(-3 * np.exp(-steepness * length) + 1))
    found = preferences(pd.Series(kept), pd.Series(task), pd.DataFrame({"plan_length": length}))
    assert not (found.clear()["level"] == MIDDLE).any()
    assert found.named() == ["plan_length"]


@pytest.mark.parametrize("effect", [lambda z: 2.0 * (z > 0), lambda z: 1.5 * np.tanh(2 * z)])
def test_an_effect_that_levels_off_turns_nowhere(
    effect: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Of many traces. Lines that met would overshoot the plateau, and have to fall back to it."""
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(800), 8)
    length = rng.normal(10, 3, len(task))
    drawn = effect((length - 10) / 3) + rng.gumbel(size=len(task))
    kept = np.zeros(len(task), dtype=bool)
    kept[pd.Series(drawn).groupby(task).idxmax()] = True
    found = preferences(pd.Series(kept), pd.Series(task), pd.DataFrame({"plan_length": length}))
    assert found.clear()[["trait", "level"]].to_numpy().tolist() == [["plan_length", ""]]


def test_a_number_of_any_scale_is_a_number() -> None:
    rng = np.random.default_rng(0)
    task, chance = np.repeat(np.arange(150), 9), rng.random(1350)
    kept = rng.random(1350) < 1 / (1 + np.exp(-2 * chance + rng.normal(0, 1, 150)[task]))
    for scale in (1.0, 1e-10, 1e10):
        traits = pd.DataFrame({"prob": scale * chance, "constant": 1e12 + scale * task})
        found = preferences(pd.Series(kept), pd.Series(task), traits)
        assert found.clear()[["trait", "level"]].to_numpy().tolist() == [["prob", ""]]
        assert "constant" in found.unanswered


@pytest.mark.parametrize(
    ("values", "weight", "between", "within"),
    [
        ([2, 4, 2, 4], [1, 0, 1, 0], 0.0, -1.0),  # the shorter one of each task
        ([1, 1, 5, 5], [1, 1, 0, 0], -2.0, 0.0),  # one task alone
        ([2, 4, 6, 8], [0, 1, 0, 0], -2.0, 1.0),  # the longer one of the shorter task
    ],
)
def test_what_is_chosen_between_tasks_and_within_them(
    values: list[int], weight: list[int], between: float, within: float
) -> None:
    told = change(
        np.array(values, dtype=float), np.array(weight, dtype=float), np.array([3.0]),
        np.ones(4, dtype=bool), np.array(["a", "a", "b", "b"]),
    )  # fmt: skip
    assert (told.checker, told.between, told.within) == (0.0, between, within)
