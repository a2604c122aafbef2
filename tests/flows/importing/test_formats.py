"""What other tools export becomes traces; what cannot be read is refused and named."""

import io
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.importing.formats import FORMATS, imported
from flows.importing.line import Line
from flows.importing.texts import TEXT_IN
from flows.loop.ingest import ingest
from planners import pose
from planners.errors import InvalidInput
from warehouse.store import Warehouse

TASK = pose(count=1)[0]
ASKED, PLAN = TASK.prompt, TASK.solution
USER = {"role": "user", "content": ASKED}
SAID = {"role": "assistant", "content": PLAN}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPAN = {
    "name": "chat m",
    "startTimeUnixNano": str(int(NOON.timestamp()) * 10**9),
    "attributes": [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
        {"key": "gen_ai.request.model", "value": {"stringValue": "asked-for"}},
        {"key": "gen_ai.response.model", "value": {"stringValue": "m"}},
        {"key": "gen_ai.input.messages", "value": {"stringValue": json.dumps(
            [{"role": "user", "parts": [{"type": "text", "content": ASKED}]}])}},
        {"key": "gen_ai.output.messages", "value": {"stringValue": json.dumps(
            [{"role": "assistant", "parts": [{"type": "text", "content": PLAN}],
              "finish_reason": "length"}])}},
    ],
}  # fmt: skip
DOMAIN, PROBLEM = ASKED.split("A problem in it:")
TOLD = SPAN | {"attributes": [
    *(one for one in SPAN["attributes"] if one["key"] != "gen_ai.input.messages"),
    {"key": "gen_ai.system_instructions", "value": {"stringValue": json.dumps(
        [{"type": "text", "content": DOMAIN}])}},
    {"key": "gen_ai.input.messages", "value": {"stringValue": json.dumps(
        [{"role": "user", "parts": [{"type": "text", "content": f"A problem in it:{PROBLEM}"}]}])}},
]}  # fmt: skip
QUERY = {"name": "SELECT", "attributes": [{"key": "db.system", "value": {"stringValue": "x"}}]}
GOLDEN: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    ("chat", {"messages": [{"role": "system", "content": "Plan."}, USER, SAID], "model": "m"},
     [{"model": "m"}]),
    ("chat", {"prompt": ASKED, "completion": PLAN, "reward": 0.0}, [{}]),
    ("chat", {"prompt": [USER], "completion": [SAID]}, [{}]),
    ("langfuse", {"id": "1", "type": "GENERATION", "model": "m", "input": {"messages": [USER]},
                  "output": SAID, "startTime": "2026-03-01T12:00:00.000Z",
                  "scores": [{"name": "user-feedback", "value": 1},
                             {"name": "length", "value": -9}]},
     [{"model": "m", "time": NOON, "feedback": "accept"}]),
    ("langfuse", {"input": ASKED, "output": {"choices": [{"message": SAID}]},
                  "timestamp": "2026-03-01T12:00:00", "scores": [{"name": "Thumbs", "value": 0}]},
     [{"time": NOON, "feedback": "reject"}]),
    ("langfuse", {"type": "SPAN", "input": "x", "output": "y"}, []),
    ("langsmith", {"run_type": "llm", "inputs": {"messages": [[{"kwargs": {"content": ASKED}}]]},
                   "outputs": {"generations": [[{"text": PLAN, "message": {}}]]},
                   "extra": {"metadata": {"ls_model_name": "m"}},
                   "start_time": "2026-03-01T12:00:00", "feedback_stats":
                   {"user_score": {"n": 1, "avg": 1.0}}},
     [{"model": "m", "time": NOON, "feedback": "accept"}]),
    ("langsmith", {"run_type": "chain", "inputs": {"input": ASKED}, "outputs": {}}, []),
    ("otel", {"resourceSpans": [{"scopeSpans": [{"spans": [QUERY, SPAN]}]}]},
     [{"model": "m", "time": NOON, "finish_reason": "length"}]),
    ("otel", {"resourceSpans": [{"scopeSpans": [{"spans": [TOLD]}]}]},
     [{"model": "m", "time": NOON, "finish_reason": "length"}]),
    ("otel", {"resourceSpans": [{"scopeSpans": [{"spans": [QUERY]}]}]}, []),
    ("verifiers", {"traces": [{"nodes": [{"message": USER}, {"message": SAID}],
                               "calls": [{"node": 1, "model": "m", "finish_reason": "stop"}],
                               "timing": {"start": NOON.timestamp()}}]},
     [{"model": "m", "time": NOON}]),
    ("inspect", {"id": 1, "epoch": 1, "input": ASKED, "target": "", "messages": [USER, SAID],
                 "output": {"model": "m", "completion": PLAN, "choices": [
                     {"message": {"role": "assistant", "content": [
                         {"type": "text", "text": PLAN}]}, "stop_reason": "max_tokens"}]},
                 "started_at": "2026-03-01T12:00:00+00:00"},
     [{"model": "m", "time": NOON, "finish_reason": "length"}]),
    ("inspect", {"input": ASKED, "messages": [USER],
                 "output": {"model": "m", "choices": [], "completion": ""}}, []),
    ("planbench", {"query": f"Find a plan.\n[QUERY PROBLEM]\n{ASKED})\n\n[PLAN]", "instance_id": 1,
                   "ground_truth_plan": PLAN, "llm_raw_response": PLAN, "llm_correct": True,
                   "response_object": {"model": "m", "created": int(NOON.timestamp()),
                                       "choices": [{"finish_reason": "stop", "message": SAID}]}},
     [{"model": "m", "time": NOON}]),
    ("planbench", {"query": ASKED, "instance_id": 2, "ground_truth_plan": PLAN}, []),
]  # fmt: skip


@pytest.mark.parametrize(("form", "found", "expected"), GOLDEN)
def test_what_other_tools_write_becomes_traces(
    form: str, found: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    lines = [line for line in imported(form, found) if line is not None]
    for line, told in zip(lines, expected, strict=True):
        assert isinstance(line, Line)
        assert line.domain is not None
        assert line.problem is not None
        assert line.problem.startswith("(define (problem")
        assert line == Line(completion=PLAN, domain=line.domain, problem=line.problem, **told)


THOUGHT, LISTED = "First try:\n(pickup b2)\n(stack b2 b1)\nno.", f"<think>\n{{}}\n</think>\n{PLAN}"
EXAMPLE = {"message": {"role": "assistant", "content": "(pickup b9)"}, "sampled": False}


def structured(value: Any) -> dict[str, Any]:
    """JSON as a collector writes a structured attribute."""
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [structured(one) for one in value]}}
    pairs = [{"key": key, "value": structured(one)} for key, one in value.items()]
    return {"kvlistValue": {"values": pairs}}


def spans(answer: dict[str, Any]) -> dict[str, Any]:
    messages = {"input": [{"parts": [{"type": "text", "content": ASKED}]}], "output": [answer]}
    told = [{"key": f"gen_ai.{name}.messages", "value": structured(one)}
            for name, one in messages.items()]  # fmt: skip
    return {"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": told}]}]}]}


@pytest.mark.parametrize(
    ("form", "found", "completion", "ended"),
    [
        ("otel", spans({"parts": [{"type": "reasoning", "content": THOUGHT},
                                  {"type": "text", "content": PLAN}]}), LISTED.format(THOUGHT),
         "stop"),
        ("otel", spans({"parts": [{"type": "text", "content": ""}], "finish_reason": "length"}), "",
         "length"),
        ("chat", {"messages": [USER, SAID | {"reasoning_content": THOUGHT}]},
         LISTED.format(THOUGHT), "stop"),
        ("langfuse", {"input": json.dumps([USER]), "output": json.dumps(
            {"choices": [{"message": SAID, "finish_reason": "length"}]})}, PLAN, "length"),
        ("langfuse", {"input": ASKED, "output": '{"plan": []}'}, '{"plan": []}', "stop"),
        ("langsmith", {"inputs": ASKED, "outputs": {"generations": [[
            {"text": PLAN, "generation_info": {"finish_reason": "length"}},
            {"text": "(pickup b2)"}]]}}, PLAN, "length"),
        ("langsmith", {"inputs": {"prompts": [ASKED]}, "outputs": {"generations": [[
            {"text": PLAN, "message": {"kwargs": {"content": [
                {"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": PLAN}]}}}]]}},
         LISTED.format(THOUGHT), "stop"),
        ("langsmith", {"inputs": {"messages": [USER]}, "outputs": {"messages": [USER, SAID]}},
         PLAN, "stop"),
        ("langsmith", {"inputs": {"system": DOMAIN, "messages": [
            {"role": "user", "content": PROBLEM}]}, "outputs": SAID}, PLAN, "stop"),
        ("langfuse", {"input": ASKED, "output": {"candidates": [
            {"content": {"parts": [{"text": PLAN[:5]}, {"text": PLAN[5:]}]},
             "finishReason": "MAX_TOKENS"}]}}, PLAN, "length"),
        ("verifiers", {"traces": [{"nodes": [{"message": USER}, EXAMPLE, {"message": USER},
                                             {"message": SAID, "sampled": True}],
                                   "calls": [{"node": 3, "finish_reason": "length"},
                                             {"node": None, "error": "lost"}]}]}, PLAN, "length"),
        ("inspect", {"input": ASKED, "output": {"choices": [
            {"message": {"content": [{"type": "text", "text": ""}]},
             "stop_reason": "max_tokens"}]}}, "", "length"),
    ],
)  # fmt: skip
def test_reasoning_is_before_the_answer_and_a_cut_answer_is_one(
    form: str, found: dict[str, Any], completion: str, ended: str
) -> None:
    [line] = imported(form, found)
    assert isinstance(line, Line)
    assert (line.completion, line.finish_reason) == (completion, ended)


def test_an_episode_that_failed_has_no_answer() -> None:
    nodes = [{"message": USER}, EXAMPLE, {"message": USER}]
    assert imported("verifiers", {"traces": [{"nodes": nodes, "calls": [{"error": "x"}]}]}) == [
        None
    ]


@pytest.mark.parametrize("form", sorted({*FORMATS} - {"chat"}))
def test_an_object_of_something_else_is_no_line_without_an_answer(form: str) -> None:
    with pytest.raises(InvalidInput, match="not as its tool writes it: there is no"):
        imported(form, {"foo": 1})


def test_a_resource_that_cannot_be_read_costs_no_other() -> None:
    read, wrong = imported("otel", {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN]}]}, None]})
    assert isinstance(read, Line)
    assert isinstance(wrong, InvalidInput)


def test_lines_of_other_tools_are_judged_counted_and_named(warehouse: Warehouse) -> None:
    spans = [SPAN, {**SPAN, "attributes": SPAN["attributes"][:3]}]
    lines = [
        {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [QUERY]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [
            {"attributes": [*SPAN["attributes"][:3], SPAN["attributes"][4]]}]}]}]},
        {"resourceSpans": 3},
        [],
    ]  # fmt: skip
    raw = b"\n".join(json.dumps(line).encode() for line in lines) + b"\n{"
    report = ingest(warehouse, io.BytesIO(raw), "shop", "otel")
    assert (report.new, report.others) == (1, 2), "of the first line one span has no answer"
    reasons = ["holds no planning task", "not as otel writes it", "not an object", "Invalid JSON"]
    for line, reason, told in zip((3, 4, 5, 6), reasons, report.refused, strict=True):
        assert told.startswith(f"line {line}: ")
        assert reason in told
    assert warehouse.frame("SELECT outcome FROM judgements")["outcome"].tolist() == ["TRUNCATED"]
    with pytest.raises(InvalidInput, match="unknown format 'xml'; known: posterity, chat"):
        ingest(warehouse, io.BytesIO(b""), "shop", "xml")


DOMAIN = """(define (domain d) (:requirements :strips {more}) (:predicates (p ?x) (g))
  ; 1) a bracket, :) in a comment
  (:action n :parameters (?x) :precondition (p ?x) :effect (g)))"""
PROBLEM = "(define (problem x{n}) (:domain d) (:objects o{n}) (:init (p o{n})) (:goal (g)))"


def asked(*texts: str) -> Any:
    return imported("chat", {"prompt": "\n".join(texts), "completion": "(n o9)"})[0]


def test_the_last_task_of_a_prompt_counts() -> None:
    domain = DOMAIN.format(more="")
    for copies in (1, 12):  # the domain once, or with every example
        shots = [f"{domain * (copies > 1)}{PROBLEM.format(n=n)} Plan: (n o{n})" for n in range(12)]
        found = asked(domain, *shots, domain * (copies > 1), PROBLEM.format(n=9))
        assert (found.domain, found.problem) == (domain, PROBLEM.format(n=9))
    found = asked(domain, PROBLEM.format(n=9), "as in (define (problem NAME) (:domain d) ...)")
    assert found.problem == PROBLEM.format(n=9)


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (
            [DOMAIN.format(more=":durative-actions"), PROBLEM.format(n=9)],
            "not judged: line 1: req",
        ),
        ([DOMAIN.format(more=""), PROBLEM.format(n=9).replace("(g)", "(h)")], "'h' is not decl"),
        ([DOMAIN.format(more=""), PROBLEM.format(n=1), "(define (problem x9)"], "has no end"),
        ([DOMAIN.format(more="")], "holds no planning task"),
    ],
)
def test_a_task_that_cannot_be_read_is_refused_with_its_reason(texts: list[str], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        asked(*texts)


names = st.sampled_from([*TEXT_IN, "choices", "generations", "traces", "nodes", "scores", "value",
                         "resourceSpans", "scopeSpans", "spans", "attributes", "key", "timing",
                         "calls", "name", "inputs", "outputs", "feedback_stats", "query",
                         "llm_raw_response", "response_object"])  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.just(ASKED)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), anything)
def test_whatever_is_not_in_a_format_is_refused(form: str, found: object) -> None:
    with suppress(InvalidInput):
        read = imported(form, found)
        assert all(line is None or isinstance(line, Line | InvalidInput) for line in read)


def test_a_span_that_cannot_be_read_costs_no_other(warehouse: Warehouse) -> None:
    def asking(words: str) -> dict[str, Any]:
        said = {"stringValue": json.dumps([{"role": "user", "content": words}])}
        kept = [one for one in SPAN["attributes"] if one["key"] != "gen_ai.input.messages"]
        return {**SPAN, "attributes": [*kept, {"key": "gen_ai.input.messages", "value": said}]}

    deep = {"stringValue": "[" * 5000}
    odd = {**SPAN, "attributes": [{"key": "gen_ai.output.messages", "value": deep}]}
    half = {"stringValue": '[{"role": "assistant", "content": "\\ud800"}]'}
    lone = {**SPAN, "attributes": [*SPAN["attributes"],
                                   {"key": "gen_ai.output.messages", "value": half}]}  # fmt: skip
    spans = [asking("hello there"), odd, lone, SPAN]
    line = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    report = ingest(warehouse, io.BytesIO(line), "shop", "otel")
    assert report.new == 1
    assert [one.split(":")[1] for one in report.refused] == [" part 1", " part 2", " part 3"]


@pytest.mark.parametrize(
    ("form", "found"),
    [
        ("langsmith", {"run_type": "llm", "inputs": {"prompt": ASKED}, "outputs": None,
                       "error": "RateLimitError"}),
        ("langfuse", {"input": ASKED, "output": None}),
        ("chat", {"prompt": ASKED}),
        ("chat", {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": []}]}),
        ("chat", {"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [1]}]}),
        ("langsmith", {"inputs": {"messages": [USER]}, "outputs": {"messages": [
            USER, SAID, {"type": "human", "content": "thanks"}]}}),
        ("langsmith", {"inputs": ASKED, "outputs": {"generations": [[{"text": "", "message": {
            "kwargs": {"content": "", "tool_calls": [{"name": "f"}]}}}]]}}),
        ("chat", {"messages": [USER, {"role": "user", "content": "and by me"}]}),
        ("verifiers", {"traces": [{"nodes": [{"message": USER}]}]}),
    ],
)  # fmt: skip
def test_a_call_without_an_answer_is_no_failure_of_the_model(form: str, found: Any) -> None:
    assert not [line for line in imported(form, found) if line is not None]


def test_an_empty_answer_is_one_and_no_number_is_no_word() -> None:
    [line] = imported("chat", {"prompt": ASKED, "completion": ""})
    assert isinstance(line, Line)
    assert line.completion == ""
    scores = [{"name": "thumbs", "value": float("nan")}]
    [told] = imported("langfuse", {"input": ASKED, "output": PLAN, "scores": scores})
    assert isinstance(told, Line)
    assert told.feedback is None
