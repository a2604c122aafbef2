"""How people and models write plans: a hundred and fifty forms, with what a person reads in each.

`AB` is the plan (pickup a), (stack a b); `ABC` has (pickup c), (stack c a) after it; `None` where a
person would not say which plan is meant, or that there is none.
"""

import pytest

from planners.pddl import read_domain
from planners.prompts.extraction import extract
from planners.records import Plan

SCHEMAS = read_domain("""(define (domain d) (:predicates (on ?x ?y))
    (:action pickup :parameters (?x)) (:action putdown :parameters (?x))
    (:action stack :parameters (?x ?y)) (:action unstack :parameters (?x ?y)))""").actions
AB = Plan((("pickup", "a"), ("stack", "a", "b")))
ABC = Plan((*AB.actions, ("pickup", "c"), ("stack", "c", "a")))
A = Plan((("pickup", "a"),))
EMPTY = Plan(())
TEXT = "(pickup a)\n(stack a b)"
FENCE = f"```\n{TEXT}\n```"

FORMS: list[tuple[str, Plan | None]] = [
    # bare plan files
    (TEXT, AB),
    (f"{TEXT}\n", AB),
    (f"\n\n{TEXT}\n\n", AB),
    (f"  {TEXT}  ", AB),
    ("\t(pickup a)\n\t(stack a b)", AB),
    ("(pickup a)\r\n(stack a b)\r\n", AB),
    ("(pickup a) (stack a b)", AB),
    ("(pickup a)(stack a b)", AB),
    ("( pickup a )\n( stack  a   b )", AB),
    ("(PICKUP A)\n(Stack A B)", AB),
    (f"; a plan\n{TEXT}\n; cost = 2 (unit cost)", AB),
    ("(pickup a) ; take it\n(stack a b) ; put it down", AB),
    ("0: (pickup a)\n1: (stack a b)", AB),
    ("0.000: (pickup a) [1.000]\n1.000: (stack a b) [1.000]", AB),
    ("0.00100: (PICKUP A)\n1.00100: (STACK A B)", AB),
    ("; nothing to do", EMPTY),
    ("(pickup\u00a0a)\n(stack\u00a0a\u00a0b)", AB),
    ("\u00a0(pickup a)\n\u00a0(stack a b)", AB),
    ("(pickup a)\u00a0\n(stack a b)", AB),
    # a second block that does not end, and JSON with something beside the plan
    (f"{FENCE}\n```\n(putdown b)", None),
    ('{"plan": ["(pickup a)", "(stack a b)"], "steps": 2}', AB),
    ('{"plan": ["(pickup a)", "(stack a b)"], "answer": "done"}', AB),
    ('[["pickup", "a "], ["stack", "a", "b"]]', AB),
    ('[["pickup", "a)\\n(stack a b"]]', None),
    ('["(pickup a)", "(stack a, b)"]', AB),
    # wrapped as a whole
    ("(plan (pickup a) (stack a b))", AB),
    ("(plan\n  (pickup a)\n  (stack a b))", AB),
    ("((pickup a) (stack a b))", AB),
    ("((pickup a)\n (stack a b))", AB),
    ("(:plan (pickup a) (stack a b))", AB),
    ("[(pickup a), (stack a b)]", AB),
    ("Plan: ((pickup a) (stack a b))", AB),
    # separators
    ("(pickup a), (stack a b)", AB),
    ("(pickup a),\n(stack a b)", AB),
    ("(pickup a);\n(stack a b);", AB),
    ("(pickup a); (stack a b)", AB),
    ("(pickup a).\n(stack a b).", AB),
    ("(pickup a) \\\n(stack a b) \\", AB),
    ("(pickup a) -> (stack a b)", AB),
    ("(pickup a) ; (it is clear)\n(stack a b)", AB),
    # an action over several lines
    ("(pickup\n  a)\n(stack\n  a b)", AB),
    ("(pickup a)\n(stack a\n       b)", AB),
    # fences
    (FENCE, AB),
    (f"```pddl\n{TEXT}\n```", AB),
    (f"```lisp\n{TEXT}\n```", AB),
    (f"```plaintext\n{TEXT}\n```", AB),
    (f"Here is the plan:\n\n{FENCE}\n", AB),
    (f"Here is the plan:\n{FENCE}\nIt has two steps.", AB),
    (f"{FENCE}\n\nThis works because a is clear.", AB),
    (f"~~~\n{TEXT}\n~~~", AB),
    (f"{FENCE}\n\nAgain:\n\n{FENCE}", AB),
    ("```\n1. (pickup a)\n2. (stack a b)\n```", AB),
    ("```\n- (pickup a)\n- (stack a b)\n```", AB),
    ("```\n(pickup a)  ; first\n(stack a b)  ; then\n```", AB),
    ("```\n; plan\n(pickup a)\n\n(stack a b)\n```", AB),
    (f"```\n{TEXT}", AB),
    ("`(pickup a)`\n`(stack a b)`", AB),
    ("`(pickup a) (stack a b)`", AB),
    # tags
    (f"<plan>\n{TEXT}\n</plan>", AB),
    (f"<plan>{TEXT}</plan>", AB),
    (f"<PLAN>\n{TEXT}\n</PLAN>", AB),
    (f"Fine.\n<plan>\n{TEXT}\n</plan>\nDone.", AB),
    (f"[PLAN]\n{TEXT}\n[PLAN END]", AB),
    (f"<plan>\n{FENCE}\n</plan>", AB),
    ("<plan>\n1. (pickup a)\n2. (stack a b)\n</plan>", AB),
    (f"Draft (pickup z).\n<plan>\n{TEXT}\n</plan>", AB),
    # lists
    ("1. (pickup a)\n2. (stack a b)", AB),
    ("1) (pickup a)\n2) (stack a b)", AB),
    ("1: (pickup a)\n2: (stack a b)", AB),
    ("Step 1: (pickup a)\nStep 2: (stack a b)", AB),
    ("step 1. (pickup a)\nstep 2. (stack a b)", AB),
    ("- (pickup a)\n- (stack a b)", AB),
    ("* (pickup a)\n* (stack a b)", AB),
    ("+ (pickup a)\n+ (stack a b)", AB),
    ("\u2022 (pickup a)\n\u2022 (stack a b)", AB),
    ("> (pickup a)\n> (stack a b)", AB),
    ("\u2013 (pickup a)\n\u2013 (stack a b)", AB),
    ("1. `(pickup a)`\n2. `(stack a b)`", AB),
    ("1. **(pickup a)**\n2. **(stack a b)**", AB),
    ("1. `(pickup a)` - take a\n2. `(stack a b)` - put it on b", AB),
    ("1. (pickup a) - take a\n2. (stack a b) - put it on b", AB),
    ("1. (pickup a): take a\n2. (stack a b): put it on b", AB),
    ("1. (pickup a) \u2014 take a\n2. (stack a b) \u2014 put it on b", AB),
    ("1. (pickup a) // take a\n2. (stack a b) // put it on b", AB),
    ("(pickup a) # take a\n(stack a b) # put it on b", AB),
    ("The plan:\n1. (pickup a)\n2. (stack a b)\nDone.", AB),
    ("1. (pickup a)\n\n2. (stack a b)", AB),
    ("1. (pickup a)\n1. (stack a b)", AB),
    ("10. (pickup a)\n11. (stack a b)", AB),
    ("  1. (pickup a)\n  2. (stack a b)", AB),
    ("1.  (pickup a).\n2.  (stack a b).", AB),
    ("First:\n- (pickup a)\nThen:\n- (stack a b)", None),
    # in prose
    (f"Sure!\n\n{TEXT}\n\nGood luck.", AB),
    (f"The answer is\n{TEXT}", AB),
    (f"Plan:\n{TEXT}", AB),
    (f"**Plan**\n\n{TEXT}", AB),
    (f"# Plan\n{TEXT}", AB),
    ("Plan: (pickup a) (stack a b)", AB),
    ("The plan is: (pickup a), (stack a b)", AB),
    (f"{TEXT}\n\nTotal: 2 actions", AB),
    ("1. Pick up a.\n2. Stack a on b.\n\n(pickup a)\n(stack a b)", AB),
    ("1. pickup a\n2. stack a on b\n\nIn PDDL:\n(pickup a)\n(stack a b)", AB),
    ("We (pickup a) first, since it is clear.\n\n(pickup a)\n(stack a b)", AB),
    ("To stack a on b, first pick it up.\n(pickup a)\n(stack a b)", AB),
    (f"{TEXT}\nWith (stack a b) the goal holds.", AB),
    # reasoning
    (f"<think>I could (unstack z y).</think>\n{TEXT}", AB),
    (f"<think>\n{FENCE}\n</think>\n{TEXT}", AB),
    (f"<thinking>hm</thinking>{TEXT}", AB),
    (f"<reasoning>(putdown z)</reasoning>\n\n{FENCE}", AB),
    (f"<think>a</think><think>b</think>{TEXT}", AB),
    (f"no start</think>{TEXT}", AB),
    # JSON
    ('["(pickup a)", "(stack a b)"]', AB),
    ('["pickup a", "stack a b"]', AB),
    ('[["pickup", "a"], ["stack", "a", "b"]]', AB),
    ('{"plan": ["(pickup a)", "(stack a b)"]}', AB),
    ('{"plan": "(pickup a)\\n(stack a b)"}', AB),
    ('```json\n["(pickup a)", "(stack a b)"]\n```', AB),
    ('Here:\n```json\n{"plan": [["pickup", "a"], ["stack", "a", "b"]]}\n```', AB),
    ('[{"action": "pickup", "args": ["a"]}, {"action": "stack", "args": ["a", "b"]}]', AB),
    ('[{"name": "pickup", "parameters": ["a"]}, {"name": "stack", "parameters": ["a", "b"]}]', AB),
    ('{"actions": [{"action": "(pickup a)"}, {"action": "(stack a b)"}]}', AB),
    ('{"plan": []}', EMPTY),
    ('["(pickup a) (stack a b)"]', AB),
    (
        '[{"name": "pickup", "parameters": {"x": "a"}}, '
        '{"name": "stack", "parameters": {"?Y": "b", "?x": "a"}}]',
        AB,
    ),
    ('[{"name": "stack", "parameters": {"y": "b", "x": "a"}}]', Plan((("stack", "a", "b"),))),
    ('[{"name": "stack", "parameters": {"under": "b", "top": "a"}}]', None),
    ('[{"name": "pickup", "parameters": {"block": "a"}}]', A),
    ('[{"name": "pickup", "arguments": "junk"}]', None),
    ('{"answer": 42}', None),
    ("[1, 2]", None),
    ('["(stack \\ud800 b)"]', None),  # half a character, which nothing can store
    # as functions
    ("pickup(a)\nstack(a, b)", AB),
    ("pickup(a)\nstack(a,b)", AB),
    ("1. pickup(a)\n2. stack(a, b)", AB),
    ("```python\npickup(a)\nstack(a, b)\n```", AB),
    ("- pickup(a)\n- stack(a, b)", AB),
    ("print(a)\nstack(a, b)", None),
    ("I would call stack(a, b).", None),
    # several plans
    (f"{FENCE}\n\nor\n\n```\n(pickup b)\n```", None),
    (f"Either\n{TEXT}\nor\n(pickup b)\n(stack b a)", None),
    ("1. (pickup a)\n2. (stack a b)\n\n1. (pickup b)\n2. (stack b a)", None),
    (f"<plan>\n(pickup b)\n</plan>\nBetter:\n<plan>\n{TEXT}\n</plan>", None),
    (f"[(pickup b)]\n\nNo:\n{TEXT}", None),
    (f"```\n(pickup b)\n```\nWait, that is wrong. The plan is:\n\n{TEXT}", None),
    (f"<plan>(pickup b)</plan>\nThat was the format. Now the plan:\n{FENCE}", None),
    (f"{FENCE}\nSo (pickup a) comes first, and (stack a b) then.", AB),
    ('{"plan": ["(pickup a)"], "solution": ["(pickup b)"]}', None),
    ('{"plan": ["(pickup b)"], "plan": ["(pickup a)", "(stack a b)"]}', None),
    # plans that their author takes back
    (f"The following plan does NOT work:\n{FENCE}", None),
    (f"This plan doesn't work:\n{TEXT}", None),
    (f"An invalid plan would be:\n{FENCE}", None),
    (f"The following plan is not valid:\n{TEXT}", None),
    (f"Wrong plan:\n<plan>\n{TEXT}\n</plan>", None),
    (f"A plan that fails:\n```\n(pickup b)\n```\n\nThe plan:\n{FENCE}", AB),
    (f"It would not work to wait, so:\n{FENCE}", AB),
    # what only sounds like it
    (f"Here is a plan that will not fail:\n{FENCE}", AB),
    (f"This plan does not fail:\n{TEXT}", AB),
    (f"This plan works because any plan without it fails:\n{TEXT}", AB),
    (f"To avoid an invalid plan, I checked every step:\n{FENCE}", AB),
    (f"My plan doesn't fail:\n{FENCE}\nThe old attempt was\n```\n(pickup a)\n```", None),
    (f"I was not sure at first. This plan fails:\n```\n(pickup b)\n```\nThe plan:\n{FENCE}", AB),
    # broken
    ("(pickup a)\n(stack a b", None),
    ("(pickup a)\n(stack (a b))", None),
    ("(pickup a)\n()\n(stack a b)", None),
    ("(pickup a)\nthen stack a b\n(putdown a)", None),
    ("1. (pickup a)\n2. stack a b", None),
    ("2. (stack a b)\n1. (pickup a)", None),
    ("1: (pickup a)\n0: (stack a b)", None),
    ("(pickup a)\n...\n(stack a b)", None),
    ("(pickup a) and so on", None),
    ("(pickup a) ; (putdown a)\n(stack a b)", AB),
    ("(pickup a)\r(stack a b)\r", AB),
    ("```\n```", None),
    ("<plan></plan>", None),
    # no plan
    ("", None),
    ("   \n", None),
    ("I do not know.", None),
    ("There is no plan.", None),
    ("The goal holds already.", None),
    ("pickup a", None),
    ("pickup a, stack a b", None),
    ("First pick up a, then stack it on b.", None),
    ("I would (think about it).", None),
    (f"<think>{TEXT}</think>", None),
    (f"<think>{TEXT}", None),
    ("<plan>I give up</plan>", None),
    # an action behind what explains another
    ("(pickup a) - (stack a b)", None),
    ("1. (pickup a) - then (stack a b)\n2. (putdown c)", None),
    ("<plan>\n1. (pickup a): (stack a b)\n</plan>", None),
    ("1. (pickup a) - take it\n2. (stack a b) - after (pickup a)", AB),
    ("1. (pickup a) - pick it up, after which (stack a b)", None),
    ("1. (pickup a) - then do (stack a b)", None),
    ("1. (pickup a) - no need to (unstack a b), it is clear", A),
    ("```\n(pickup a)  // instead of (unstack a c)\n```", A),
    ("1. (pickup a) - so that (stack a, b) is possible", A),
    # a plan behind word of one that failed
    (f"The previous plan is invalid since a is not clear. Here is the corrected one:\n{FENCE}", AB),
    (f"My first plan failed, so here is another:\n{FENCE}", AB),
    (f"Since the plan failed, I try this:\n{FENCE}", AB),
    (f"The plan failed, so:\n{FENCE}", AB),
    (f"My first plan does not work. Instead:\n{FENCE}", AB),
    (f"That plan fails. Another plan:\n{FENCE}", AB),
    (f"The previous plan was wrong. Now:\n{FENCE}", AB),
    (f"The first plan is wrong, so we do:\n{FENCE}", AB),
    (f"That plan did not work, so let me mend it:\n{FENCE}", AB),
    (f"The plan below is wrong because it stacks c on another block:\n{FENCE}", None),
    (f"This first plan does not work, as c is now on b:\n{FENCE}", None),
    (f"The following plan is invalid, it needs a better order:\n{FENCE}", None),
    (f"This plan does not work because a is not clear:\n{FENCE}", None),
    (f"My first plan does not work:\n{FENCE}\nThis one does:\n```\n(pickup a)\n```", A),
    # JSON with arguments beside the action, and actions in one string
    ('[{"action": "stack", "block": "a", "under": "b"}]', None),
    ('[{"action": "pickup", "note": "b"}]', None),
    ('[{"action": "pickup", "x": "a"}, {"action": "stack", "y": "b", "x": "a"}]', AB),
    ('{"plan": "pickup a, stack a b"}', None),
    # one more action beside the plan, in another form
    *[
        (f"1. (pickup a)\n2. (stack a b)\n{more}", None)
        for more in (
            "3. unstack(a, b)",
            "3. `unstack(a, b)`",
            "**3.** unstack a b",
            "**Step 3:** unstack a b",
            "- unstack a b",
            "- unstack(a, b)",
            "and then unstack(a, b)",
            "3) unstack a b",
        )
    ],
    ("1. unstack(a, b)\n2. (pickup a)\n3. (stack a b)", None),
    (f"{TEXT}\nAfter stack(a, b) we are done.", AB),
    (f"{TEXT}\n- stack holds a and b together", AB),
    # a fence with an action behind it
    ("```(pickup a)\n(stack a b)\n```", AB),
    ("```(pickup zz)\n(pickup a)\n(stack a b)\n```", Plan((("pickup", "zz"), *AB.actions))),
    # numbers, steps and blanks as people write them
    ("(1) (pickup a)\n(2) (stack a b)", AB),
    ("1.(pickup a)\n2.(stack a b)", AB),
    ("**1.** (pickup a)\n**2.** (stack a b)", AB),
    ("**Step 1:** `(pickup a)`\n**Step 2:** `(stack a b)`", AB),
    ("- **Step 1:** `(pickup a)` - take it\n- **Step 2:** `(stack a b)` - put it down", AB),
    ("Action 1: (pickup a)\nAction 2: (stack a b)", AB),
    ("Schritt 1: (pickup a)\nSchritt 2: (stack a b)", AB),
    ("步骤1\uff1a(pickup a)\n步骤2\uff1a(stack a b)", AB),
    ("(pickup\u3000a)\n\ufeff(stack\u2009a b)", AB),
    ("(pickup a)\n(stack a, b)", AB),
    ("[THINK](pickup b)[/THINK](pickup a)", A),
    # word of an earlier plan before the only one, and of the one before between two
    *[
        (f"{before}\n{FENCE}", AB)
        for before in (
            "The plan was invalid. Corrected:",
            "My first plan was wrong. Fixed:",
            "The plan failed, fixing it:",
            "Plan 1 failed. Plan 2:",
            "Since the naive plan fails, do this:",
            "Note that a shorter plan fails.",
            "A direct plan will not work since b is on a, hence:",
            "My plan is incorrect, sorry. Updated plan:",
            "Directly stacking is an incorrect plan, so first pick up:",
        )
    ],
    *[
        (f"```\n(pickup b)\n```\n{between}\n{FENCE}", None)
        for between in (
            "Wait, this plan does not work.",
            "Hmm, that plan is wrong: b must be free.",
            "Checking: the plan fails at step 2.",
            "Actually, this plan is invalid because c is not clear.",
        )
    ],
    ("(pic\u212aup a)\n(stack a b)", Plan((("pic\u212aup", "a"), ("stack", "a", "b")))),
    # numbers that go back begin another plan, however they are written
    ("(1) (pickup a)\n(2) (putdown a)\n\n(1) (pickup a)\n(2) (stack a b)", None),
    ("1. - (pickup a)\n2. - (putdown a)\n\n1. - (pickup a)\n2. - (stack a b)", None),
    # the first of two plans, announced as wrong
    *[
        (f"{before}\n```\n(pickup b)\n```\n{between}\n{FENCE}", AB)
        for before, between in (
            ("**Invalid plan**", "**Correct plan**"),
            ("The naive plan fails:", "The correct plan:"),
            ("As shown, this plan does not work:", "This one does:"),
            ("When we do it in this order, the plan fails:", "The plan:"),
            ("Invalid plan\uff1a", "Plan\uff1a"),
            ("An obvious plan that fails:", "Better:"),
        )
    ],
    (f"The naive plan fails:\n{FENCE}", None),
    # its own actions and words like them, beside a plan
    *[
        (f"{TEXT}\n{after}", AB)
        for after in (
            "This uses stack(a,b).",
            "- stack(a,b)",
            "The stack(s) are ok.",
            "unstack(ing) is not needed.",
            "- pickup a: lifts it\n- stack a b: puts it down",
            "I [think] so.",
        )
    ],
    # a form that is only spoken of
    (f"I will answer between <plan> and </plan>.\n<plan>\n{TEXT}\n</plan>", AB),
]


def test_there_are_enough_forms() -> None:
    assert len({text for text, _ in FORMS}) == len(FORMS) >= 150


@pytest.mark.parametrize(("text", "plan"), FORMS, ids=[repr(text)[:60] for text, _ in FORMS])
def test_what_a_person_reads(text: str, plan: Plan | None) -> None:
    found = extract(text, SCHEMAS)
    assert found.plan == plan, found.reason
    assert bool(found.reason) == (plan is None)
