"""Checks the warehouse: everything in it that can be derived is derived again and compared.

Hashes and ids come from contents, verdicts from texts, selections from verdicts, training sets from
selections. `verify` names every row that differs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache

from flows.audit.known import Check, differences, experiments, forgotten, told
from flows.audit.measured import measured_again
from flows.deployment.answered import answered_id
from flows.deployment.loading import NEVER_JUDGED, OTHER_NAMES
from flows.experiments.experiment import Experiment
from flows.generations.checkpoints import UNKNOWN, checkpoint_of
from flows.generations.identity import (
    INGESTED_FORMAT,
    canary_id,
    ingested_id,
    trace_id,
    trace_seed,
    training_set_hash,
    warm_up_hash,
)
from flows.generations.judging import READING, VERSION, Again, checkers, reading_of, told_truly
from flows.generations.lessons import lessons_of_warm_up
from flows.generations.policies import first_weights
from flows.generations.pool import select
from flows.generations.tasks import parts_of, tasks_for
from flows.progress import Watch
from planners.checking.checker import CHECKER, PLAN_SECONDS
from planners.errors import InvalidInput
from planners.pddl.reader import task_key
from planners.prompts.formats import PROMPTS, READABLE, PromptFormat
from planners.records import INGESTED, content_hash
from warehouse import records
from warehouse.findings import Forgotten
from warehouse.integrity import ROWS
from warehouse.pool import lessons_of
from warehouse.records import NO_SETTINGS, Domain, Generation
from warehouse.store import Warehouse
from warehouse.verdicts import Canary, Unjudged

ANSWERED = ("request", "correction", "shadow")
"""Purposes of traces that answered a user or would have, or that corrected an answer."""
LEARNED_FORGOTTEN = "they rest on traces that were forgotten"
JUDGED_ANEW = "traces of their pool were judged anew since, by another version"
ONLY_SERVED = "weights that only a server has"
MEASURED = 8
"""Traces of each generation whose log-probability is measured again."""
DECIDED = ["trace", "kept", "weight", "reason", "task", "from_generation", "reasoning_tokens"]
"""Columns of a selection that are derived again."""


def verify_and_tell(warehouse: Warehouse, watch: Watch, measured: int = MEASURED) -> bool:
    """Print each check, with a line per disagreement; return whether all of it was verified.

    It was not if a row disagrees, could not be checked, or if there was no experiment or trace.
    """
    disagreements = skipped = rows = 0
    for check in verify(warehouse, watch, measured):
        left = f", {check.skipped} not checked: {check.why}" if check.skipped else ""
        left += f", {check.unjudged} still not judged" if check.unjudged else ""
        found = f"{check.looked_at} looked at{left}, {len(check.wrong)} disagree"
        watch.say(f"{check.name}: {found}")
        for line in check.wrong:
            watch.say(f"  {line}")
        disagreements += len(check.wrong)
        skipped += check.skipped
        rows += check.looked_at if check.name in ("traces", "ingested") else 0
    problems = [
        told
        for count, told in (
            (disagreements, f"{disagreements} disagreements"),
            (skipped, f"{skipped} rows could not be checked"),
            (not rows, "there are no traces to look at"),
        )
        if count
    ]
    left_out = "" if measured else "; log-probabilities were not measured again (--measured 0)"
    good = f"verified: nothing disagrees{left_out}"
    watch.say(f"NOT VERIFIED: {', '.join(problems)}" if problems else good)
    return not problems


def verify(warehouse: Warehouse, watch: Watch, measured: int = MEASURED) -> Iterator[Check]:
    """Run each check in turn: those of the whole warehouse, then those of each experiment.

    `measured` traces of each generation have their log-probability measured again.
    """
    for name, look in ROWS.items():
        check = Check(name)
        with told(check):
            check.looked_at, check.wrong = look(warehouse)
        yield check
    for name, whole in (("tasks", _tasks), ("ingested", _ingested), ("forgotten", forgotten)):
        check = Check(name)
        with told(check):
            whole(warehouse, check)
        yield check
    known, check = experiments(warehouse)
    yield check
    for name, derive in CHECKS.items():
        check = Check(name)
        with watch.bar(f"verify {name}", len(known)) as advance:
            for experiment in known:
                with told(check, f"{experiment.id} "):
                    derive(warehouse, experiment, check)
                advance(1)
        yield check
    if measured:
        yield measured_again(warehouse, known, measured, watch)


def _tasks(warehouse: Warehouse, check: Check) -> None:
    gone = {one.task for one in warehouse.every(Forgotten)}
    tasks = warehouse.every_task()
    used = {task.domain_hash for task in tasks if task.pddl or task.key not in gone}
    for domain in warehouse.every(Domain):
        check.expect(
            content_hash(domain.pddl) == domain.hash or not (domain.pddl or domain.hash in used),
            f"domain {domain.name}: its text does not have the hash {domain.hash}",
        )
    for task in tasks:
        if not task.pddl and task.key in gone:
            continue
        try:
            read = task.parsed
            keys = [read.key, task_key(read.domain, read.problem, read.values)]  # once, no metric
        except InvalidInput as error:
            keys = [str(error)]
        check.expect(task.key in keys, f"task {task.key}: its text gives {keys[0]}")


def _traces(warehouse: Warehouse, experiment: Experiment, check: Check) -> None:
    tasks = {task.key: task for task in warehouse.tasks(experiment.id)}
    prompt = PROMPTS[experiment.model.prompt]

    @cache
    def prompt_hash(written: str, task: str) -> str:
        return content_hash(READABLE[written].write(tasks[task].parsed))

    asked = {one.trace: one for one in warehouse.every(records.Request)}
    gone = warehouse.forgotten()
    unjudged = warehouse.every(Unjudged, experiment=experiment.id)
    renamed = {one.trace for one in unjudged if one.reason == OTHER_NAMES}
    for trace in warehouse.traces(experiment.id):
        if trace.id in gone:
            check.expect(not trace.text, f"trace {trace.id}: it is forgotten, and has a text")
            continue
        # A version of a prompt that is not here any more had names that nobody knows.
        readable = trace.id not in renamed and trace.prompt_format in (INGESTED_FORMAT, *READABLE)
        if trace.turn_characters and readable:
            task = tasks.get(trace.task) or warehouse.task(trace.task)  # or a user's
            written = reading_of(trace.prompt_format, prompt)
            if task is not None and not told_truly(task, trace, written):
                check.wrong.append(f"trace {trace.id}: the tool validate would answer otherwise")
        if trace.purpose in ANSWERED:
            request = asked.get(trace.id)
            check.expect(
                request is not None
                and trace.prompt_hash == content_hash(request.prompt)
                and trace.id == answered_id(request.nonce, trace.prompt_hash),
                f"trace {trace.id}: its id is not that of its request and prompt",
            )
            continue
        place = trace.generation, trace.purpose, trace.task, trace.sample
        same = trace.id == trace_id(experiment.id, *place)
        same &= trace.seed == trace_seed(experiment, *place)
        tokens = len(trace.token_ids)  # none from a server, which reports only numbers
        same &= not tokens or trace.reasoning_tokens + trace.plan_tokens == tokens
        if trace.prompt_format not in READABLE:  # a version that is not here any more
            check.skipped += 1
        elif trace.task in tasks:
            same &= READABLE[trace.prompt_format].name == prompt.name
            same &= trace.prompt_hash == prompt_hash(trace.prompt_format, trace.task)
        check.expect(
            same,
            f"trace {trace.id}: its id, seed, token count or prompt differs from what is derived",
        )


def _judgements(warehouse: Warehouse, experiment: Experiment, check: Check) -> None:
    prompt, seconds = PROMPTS[experiment.model.prompt], experiment.judging.timeout
    _verdicts(warehouse, experiment.id, prompt, check, seconds)


def _verdicts(
    warehouse: Warehouse, source: str, prompt: PromptFormat, check: Check,
    seconds: float = PLAN_SECONDS,
) -> None:  # fmt: skip
    """Judge traces of an experiment or source again, unless checker or prompt format changed."""
    tasks = {task.key: task for task in warehouse.tasks_of_traces(source)}
    before = warehouse.query("judged_before", experiment=source, checker=CHECKER, version=VERSION)
    superseded = set(before["trace"])  # verdicts that a newer one has superseded are history
    check.skipped += len(superseded)
    refused = {one.trace: one.reason for one in warehouse.every(Unjudged, experiment=source)}
    finished, worked = (
        {generation for generation, _ in warehouse.marks(source, stage)} | {INGESTED}
        for stage in ("judge", "canaries")  # what it deployed is judged by the second
    )
    gone, again_of = warehouse.forgotten(), Again(tasks, prompt, checkers(seconds))
    for trace, verdict in warehouse.judged(source, CHECKER, VERSION):
        if trace.id in gone:
            continue
        if verdict is None and trace.purpose in ANSWERED and refused.get(trace.id) in NEVER_JUDGED:
            continue
        if verdict is None and trace.id in refused:
            still = isinstance(again_of(trace), Unjudged)
            check.unjudged += still
            check.skipped, check.why = check.skipped + (not still), refused[trace.id]
        if verdict is None:
            due = trace.generation in (worked if trace.purpose == "deploy" else finished)
            check.expect(
                trace.id in refused or trace.id in superseded or not due,
                f"trace {trace.id}: it has no verdict, although its generation was judged",
            )
            continue
        if trace.prompt_format not in (INGESTED_FORMAT, *READABLE):
            check.skipped += 1
            continue
        again = again_of(trace)
        if isinstance(again, Unjudged):
            check.skipped, check.why = check.skipped + 1, again.reason
            continue
        wrong = "" if verdict == again else differences(verdict, again)
        check.expect(not wrong, f"verdict on {trace.id}: {wrong}")


def _ingested(warehouse: Warehouse, check: Check) -> None:
    for source in warehouse.every(records.Experiment, config=NO_SETTINGS):
        for trace in warehouse.traces(source.id):
            own = ingested_id(trace.experiment, trace.task, trace.policy, trace.text)
            check.expect(trace.id == own, f"ingested trace {trace.id}: its id is not its own")
        _verdicts(warehouse, source.id, READING, check)


def _canaries(warehouse: Warehouse, experiment: Experiment, check: Check) -> None:
    for canary in warehouse.every(Canary, experiment=experiment.id):
        own = canary_id(experiment.id, canary.generation, canary.task, canary.kind, canary.text)
        same = canary.id == own and canary.outcome != "VALID"
        check.expect(same, f"canary {canary.id}: accepted, or its id is not its own")


def _selections(warehouse: Warehouse, experiment: Experiment, check: Check) -> None:
    gone = warehouse.forgotten()
    for index in warehouse.query("trained_on", experiment=experiment.id)["generation"]:
        rows = warehouse.query("decisions_of", experiment=experiment.id, generation=int(index))
        if gone & set(rows["trace"]):
            check.skipped, check.why = check.skipped + len(rows), LEARNED_FORGOTTEN
            continue
        try:
            again = select(warehouse, experiment, int(index)).frame.sort_values("trace")
        except InvalidInput as error:  # a user's curator that is not here, or has changed
            check.skipped, check.why = check.skipped + len(rows), str(error)
            continue
        check.looked_at += len(rows)
        told, derived = (
            frame[DECIDED].astype(object).reset_index(drop=True) for frame in (rows, again)
        )
        if told.equals(derived):
            continue
        if len(warehouse.query("rejudged_of", experiment=experiment.id, generation=int(index))):
            check.skipped, check.why = check.skipped + len(rows), JUDGED_ANEW
            continue
        before, after = (set(frame.itertuples(index=False)) for frame in (told, derived))
        for verb, odd in (("is not", before - after), ("should be", after - before)):
            check.wrong += [
                f"selection for generation {index}: {row.trace} {verb} {row.reason!r}"
                for row in sorted(odd)
            ]


def _generations(warehouse: Warehouse, experiment: Experiment, check: Check) -> None:
    tainted = warehouse.query("tainted_of", experiment=experiment.id)
    learned = set(tainted[tainted["forgotten"] > 0]["generation"])
    for made in warehouse.generations(experiment.id):
        if made.index != 0 if made.parent is None else made.parent >= made.index:
            check.wrong.append(f"generation {made.index}: its parent is {made.parent}")
        if made.index in learned:
            check.skipped, check.why = check.skipped + 1, LEARNED_FORGOTTEN
            continue
        if made.weights_hash == UNKNOWN:
            check.skipped, check.why = check.skipped + 1, ONLY_SERVED
            continue
        problem = _problem_with(warehouse, experiment, made)
        check.expect(not problem, f"generation {made.index} of {experiment.id}: {problem}")


def _problem_with(warehouse: Warehouse, experiment: Experiment, made: Generation) -> str:
    """Why a generation's weights or lessons are not those recorded; empty if they are."""
    try:
        if made.index > 0 or experiment.model.learns:
            checkpoint_of(warehouse, experiment, made.index)
        elif first_weights(experiment)[0] != made.weights_hash:
            return f"the base no longer has the recorded hash {made.weights_hash}"
    except InvalidInput as error:
        return str(error)
    if made.index == 0:
        if experiment.warmup is None:
            return ""
        learned = warm_up_hash(lessons_of_warm_up(warehouse, experiment, Watch(quiet=True)))
    else:
        learned = training_set_hash(lessons_of(warehouse, experiment.id, made.index))
    if learned == made.training_set_hash:
        return ""
    return f"its lessons have the hash {learned}, not {made.training_set_hash}"


def _parts(warehouse: Warehouse, experiment: Experiment, check: Check) -> None:
    """Check that finished sampling stages have all traces and marks, and no other has too many."""
    stages = ("deploy", experiment.deploy, "canaries"), ("evaluate", experiment.evaluate, "judge")
    # Where it learns from users alone, no tasks of ours are put to work.
    for purpose, drawing, following in stages[experiment.users_alone :]:
        done = warehouse.marks(experiment.id, purpose)
        counts: Counter[tuple[int, int]] = Counter()
        held = warehouse.query("traces_by_task", experiment=experiment.id, purpose=purpose)
        sizes: dict[tuple[int, int], int] = {}
        after = {generation for generation, _ in warehouse.marks(experiment.id, following)}
        for generation in after | {index for index, _ in done} | set(held["generation"]):
            parts = parts_of(tasks_for(warehouse, experiment, purpose, generation))
            sizes |= {(generation, number): len(part) for number, part in enumerate(parts)}
            part_of = {task.key: number for number, part in enumerate(parts) for task in part}
            for row in held[held["generation"] == generation].itertuples():
                counts[generation, part_of.get(row.task, -1)] += row.traces
        finished = {place for place in sizes if place[0] in after}
        for generation, part in sorted(done | finished | set(counts)):
            wanted = sizes.get((generation, part), 0) * drawing.samples
            found, marked = counts[generation, part], (generation, part) in done
            check.expect(
                found == wanted and marked
                if marked or (generation, part) in finished
                else found <= wanted,
                f"{purpose} part {part} of generation {generation}: {found} traces, not {wanted}"
                + ("" if marked else ", and no mark that it is complete"),
            )


CHECKS: dict[str, Callable[[Warehouse, Experiment, Check], None]] = {
    "traces": _traces,
    "judgements": _judgements,
    "canaries": _canaries,
    "selections": _selections,
    "generations": _generations,
    "parts": _parts,
}
"""The checks of each experiment, by name."""
