"""`posterity show`: one trace, its plan step by step, its verdict, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator

from flows.generations.identity import FORMAT
from flows.generations.judging import READING
from planners.checking.replay import Replay
from planners.errors import InvalidInput
from planners.pddl import Task, read_task
from planners.pddl.pictures import draw
from planners.prompts.formats import PROMPTS, PromptFormat
from planners.records import Atom, Plan
from warehouse.store import Row, Warehouse

TOLD = """
    SELECT t.*, k.domain, k.size, k.horizon, k.pddl, d.pddl AS domain_pddl, v.outcome, v.step,
        v.detail, v.plan_length, v.redundant, f.accepted
    FROM traces AS t
    JOIN tasks AS k ON k.task = t.task
    JOIN domains AS d ON d.domain_hash = k.domain_hash
    LEFT JOIN stg_verdicts AS v ON v.trace = t.trace
    LEFT JOIN feedback AS f ON f.trace = t.trace
    WHERE starts_with(t.trace, :start)
    LIMIT 3
"""
DRAWN = 40
"""Steps of the longest plan whose every state is drawn; of longer ones the first and the last."""


def show(warehouse: Warehouse, trace: str) -> Iterator[str]:
    """Lines about a trace, given by its id or the beginning of it.

    Raises InvalidInput where no trace, or more than one, begins like that.
    """
    row = _the_trace(warehouse, trace)
    task = read_task(row["domain_pddl"], row["pddl"])
    horizon = "" if row["horizon"] is None else f", horizon {int(row['horizon'])}"
    yield f"trace {row['trace']}"
    yield (
        f"generation {row['generation']} of {row['experiment']}, {row['purpose']}, "
        f"sample {row['sample']}, by {row['policy']}"
    )
    yield f"task {row['task']}: {row['domain']}, size {row['size']}{horizon}"
    yield from ("", row["pddl"].strip(), "", "completion:", row["text"].strip(), "")
    plan = _reading(row).read(task, row["text"]).plan
    if plan is not None:
        yield from _steps(task, plan)
    yield from ("", _verdict(row))
    yield from _decisions(warehouse, row)


def _the_trace(warehouse: Warehouse, trace: str) -> Row:
    found = warehouse.frame(TOLD, start=trace)
    if len(found) != 1 and trace not in set(found["trace"]):
        told = "no trace" if found.empty else f"more than one trace, {', '.join(found['trace'])},"
        raise InvalidInput(
            f"{told} in {warehouse.place} begins with {trace!r}; `posterity query "
            '"SELECT trace FROM traces LIMIT 10"` lists some'
        )
    found = found[found["trace"] == trace] if len(found) > 1 else found
    row: Row = found.astype(object).where(found.notna(), None).to_dict("records")[0]
    return row


def _reading(row: Row) -> PromptFormat:
    """How the plan in a trace is found."""
    name = row["prompt_format"].rsplit("-", 1)[0]
    return READING if row["prompt_format"] == FORMAT else PROMPTS[name]


def _steps(task: Task, plan: Plan) -> Iterator[str]:
    """The plan with what each action changes, up to the first that cannot be done."""
    run = Replay(task)
    picture = draw(task, run.state)
    if picture:
        yield from (picture, "")
    for number, action in enumerate(plan.actions):
        before, numbers = set(run.state), dict(run.numbers)
        bad = run.step(*action)
        yield f"{number}: ({' '.join(action)})" + ("" if bad is None else f"   {bad.value}")
        if bad is not None:
            return
        new = {of: value for of, value in run.numbers.items() if numbers.get(of) != value}
        counted = [f"({' '.join(of)})={value:g}" for of, value in new.items()]
        yield f"     {' '.join([*_change(before, run.state), *counted]) or 'nothing changes'}"
        if picture and (len(plan) <= DRAWN or number == len(plan) - 1):
            yield from (_indented(draw(task, run.state)), "")


def _change(before: set[Atom], after: set[Atom]) -> list[str]:
    """What became true and what ceased to be."""
    marks = ((f"+({' '.join(atom)})" for atom in sorted(after - before)),
             (f"-({' '.join(atom)})" for atom in sorted(before - after)))  # fmt: skip
    return [word for part in marks for word in part]


def _indented(text: str) -> str:
    return "\n".join(f"     {line}" for line in text.splitlines())


def _verdict(row: Row) -> str:
    if row["outcome"] is None:
        return "not judged yet"
    at = "" if row["step"] is None else f" at step {int(row['step'])}"
    detail = f": {row['detail']}" if row["detail"] else ""
    redundant = f", {int(row['redundant'])} of its actions redundant" if row["redundant"] else ""
    said = {None: "", True: "; its user accepted it", False: "; its user rejected it"}
    return f"verdict: {row['outcome']}{at}{detail}{redundant}{said[row['accepted']]}"


def _decisions(warehouse: Warehouse, row: Row) -> Iterator[str]:
    """Why each generation that could learn it did or did not."""
    found = warehouse.frame(
        "SELECT experiment, generation, kept, reason FROM selections WHERE trace = :trace "
        "ORDER BY ALL",
        trace=row["trace"],
    )
    if found.empty:
        yield (
            "in no pool: evaluation traces are never learned from"
            if (row["purpose"] == "evaluate")
            else "in no pool yet"
        )
    for decision in found.itertuples():
        verb = "kept" if decision.kept else "dropped"
        yield (
            f"{verb} for generation {decision.generation} of {decision.experiment}: "
            f"{decision.reason}"
        )
