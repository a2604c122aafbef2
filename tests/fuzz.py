"""Mutated input against whatever reads it: `python -m tests.fuzz --minutes 5`.

A target takes a random generator and must raise nothing: bad input ends in Posterity's own errors,
and these are caught there. What breaks is kept in build/fuzz, with the seed that makes it again.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from flows.experiments.reading import load_experiment, preset_text
from flows.importing.line import task_in
from flows.loop.ingest import ingest
from flows.pages.trace import replayed
from flows.study.reading import read_study
from flows.web.protocol import Chat, Judged, Planning
from planners.checking.checker import checker_for
from planners.checking.replay import replay
from planners.domains import DOMAINS
from planners.errors import InvalidInput, NotJudged, PosterityError
from planners.pddl import read_task
from planners.pddl.printing import print_problem
from planners.prompts.formats import PROMPTS
from planners.records import Plan
from warehouse.sandbox.query import ask, require_expression, require_select
from warehouse.store import Warehouse

Target = Callable[[Random], None]
PIECES = [
    "(", ")", "((", "and", "or", "not", "forall", "?x", "-", "object", ":init", ":goal", "define",
    "0", "-1", "1e999", "NaN", "\x00", "\u202e", "\ud7ff", "é", "'", '"', ";", "--", "/*", "\n",
    " ", "{}", "[]", "null", "true", "<script>", "</think>", "```", "=", "increase", "total-cost",
]  # fmt: skip
QUERIES = [
    "SELECT count(*) FROM traces", "FROM progress", "WITH a AS (SELECT 1) FROM a",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO 'w.duckdb'", "COPY traces TO 'x.csv'", "ATTACH 'x.db'",
    "INSTALL httpfs", "SET memory_limit = '1TB'", "PRAGMA database_list",
    "CREATE TABLE a AS FROM traces",
    "FROM read_csv('/etc/passwd')", "SELECT getenv('HOME')", "CALL pragma_version()",
    "DELETE FROM traces", "IMPORT DATABASE '/tmp'", "SELECT * FROM glob('*')", "VACUUM",
    "CHECKPOINT",
]  # fmt: skip


def mutated(text: str, rng: Random, most: int = 6) -> str:
    """A text with a few pieces changed, moved, doubled, or left out."""
    for _ in range(rng.randint(0, most)):
        a, b = sorted(rng.randint(0, len(text)) for _ in range(2))
        b = min(b, a + rng.choice((1, 3, 20, 200)))
        kind = rng.randrange(5)
        if kind == 0:
            text = text[:a] + text[b:]
        elif kind == 1:
            text = text[:a] + rng.choice(PIECES) + text[a:]
        elif kind == 2:
            text = text[:a] + text[a:b] * rng.randint(2, 40) + text[b:]
        elif kind == 3:
            text = text[:a] + rng.choice(PIECES) * rng.randint(1, 300) + text[b:]
        else:
            c = rng.randint(0, len(text))
            text = text[:c] + text[a:b] + text[c:]
    return text


def _task(rng: Random) -> tuple[str, str]:
    entry = DOMAINS[rng.choice(sorted(DOMAINS))]
    problem = None
    while problem is None:
        problem = entry.generate(rng.randint(2, 4), rng.randint(1, 3), rng)
    return entry.text, print_problem(problem)


def _plan(rng: Random, task: object) -> str:
    actions = list(task.domain.actions.values())  # type: ignore[attr-defined]
    objects = [name for name, _ in task.problem.objects]  # type: ignore[attr-defined]
    lines = []
    for _ in range(rng.randint(0, 6)):
        schema = rng.choice(actions)
        words = [schema.name, *(rng.choice(objects) for _ in schema.parameters)]
        lines.append(f"({' '.join(words)})")
    return mutated("\n".join(lines), rng, 2)


def pddl(rng: Random) -> None:
    """Reading a task and judging a plan; the fast checker agrees with the naive replay."""
    domain, problem = _task(rng)
    if rng.random() < 0.7:
        domain, problem = mutated(domain, rng), mutated(problem, rng)
    try:
        checker = checker_for(domain, problem, 0.5)
        plan = PROMPTS["pddl"].read(checker.task, _plan(rng, checker.task)).plan or Plan(())
        verdict = checker.check(plan)
        outcome, step = replay(checker.task, plan, 2.0)
    except InvalidInput:
        return
    assert (verdict.outcome, verdict.step) == (outcome, step), (domain, problem, str(plan))


def completion(rng: Random) -> None:
    """Finding the plan in a text, in every format, and drawing it."""
    domain, problem = _task(rng)
    task = read_task(domain, problem)
    text = "<think>" * rng.randint(0, 2) + mutated(_plan(rng, task), rng, 8)
    for prompt in PROMPTS.values():
        found = prompt.read(task, text)
        if found.plan is not None:
            replayed(task, found.plan)


def lines(rng: Random) -> None:
    """Ingesting lines: each is taken or refused, and the others are not held up."""
    domain, problem = _task(rng)
    good = {"completion": "(noop)", "domain": domain, "problem": problem, "feedback": "accept"}
    text = json.dumps(good)
    told = [mutated(text, rng) if rng.random() < 0.8 else text for _ in range(4)]
    stream = io.BytesIO(
        "\n".join(one.replace("\n", " ") for one in told).encode("utf-8", "replace")
    )
    with TemporaryDirectory() as folder, Warehouse(Path(folder) / "w.duckdb") as store:
        ingest(store, stream, "fuzz")


def settings(rng: Random) -> None:
    """Experiments, `--set`, and studies."""
    with TemporaryDirectory() as folder:
        for name, read in (("e.toml", load_experiment), ("s.toml", read_study)):
            path = Path(folder) / name
            path.write_text(mutated(preset_text("tiny"), rng), "utf-8", errors="replace")
            with suppress(InvalidInput):
                read(str(path))
    with suppress(InvalidInput):
        load_experiment("tiny", [mutated("training.steps=5", rng, 3)])


def parsing(rng: Random) -> None:
    """SQL that is decided on before it runs."""
    for decide in (require_select, require_expression):
        with suppress(InvalidInput):
            decide(mutated(rng.choice(QUERIES), rng))


def query(rng: Random) -> None:
    """SQL that runs: not a byte of the warehouse changes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "w.duckdb"
        Warehouse(path).close()
        before = path.read_bytes()
        with suppress(PosterityError):
            ask(path, mutated(rng.choice(QUERIES), rng, 3))
        assert path.read_bytes() == before
        assert {one.name for one in Path(folder).iterdir()} <= {"w.duckdb"}


def requests(rng: Random) -> None:
    """Bodies that clients of the gateway send."""
    domain, problem = _task(rng)
    with suppress(InvalidInput):
        task_in(mutated(f"Please solve {domain}\n{problem}", rng))
    told = {"model": "m", "domain": domain, "problem": problem, "attempts": 3,
            "messages": [{"role": "user", "content": "x"}], "trace": "0" * 32,
            "feedback": "accept"}  # fmt: skip
    for kind in (Planning, Chat, Judged):
        with suppress(ValueError):
            kind.model_validate_json(mutated(json.dumps(told), rng))


TARGETS: dict[str, Target] = {
    one.__name__: one
    for one in (pddl, completion, lines, settings, parsing, query, requests)
}  # fmt: skip


def attempt(name: str, seed: int) -> str:
    """Run a target once; the traceback of what broke, or nothing."""
    try:
        TARGETS[name](Random(seed))
    except NotJudged:
        return ""
    except Exception:
        return traceback.format_exc()
    return ""


def main() -> None:
    """Run targets in turn until the time is over; exit 1 where something broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"only: {', '.join(TARGETS)}")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first run; they count upwards")
    chosen = parser.parse_args()
    if unknown := set(chosen.targets) - set(TARGETS):
        parser.error(f"unknown target {', '.join(sorted(unknown))}; known: {', '.join(TARGETS)}")
    until, seed, tried, broken = (
        time.monotonic() + 60 * chosen.minutes,
        chosen.seed,
        Counter[str](),
        0,
    )
    while time.monotonic() < until:
        for name in chosen.targets or TARGETS:
            tried[name] += 1
            if said := attempt(name, seed):
                broken += 1
                folder = Path("build/fuzz")
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{name}-{seed}.txt").write_text(said, "utf-8", errors="replace")
                print(f"{name} breaks with --seed {seed}: {said.strip().splitlines()[-1][:200]}")
        seed += 1
    print(f"{broken} of {sum(tried.values())} broke: {dict(tried)}")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
