"""Words beside a plan in an answer: that it does not work, or one more action."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

from planners.pddl.sexpr import fold
from planners.prompts.forms import is_whole
from planners.records import Action, Plan

STEP = r"(?:step|action|schritt|paso|\u00e9tape|\u6b65\u9aa4)[ \t]{0,9}"
BULLET = r"[-*+>\u2022\u2013\u30fb]"
"""A word before the number of a line, and marks of a list without numbers."""
_NEGATED = r"(?: not|n['\u2019]t) "
_TAKEN_BACK = re.compile(
    rf"\bplans?\b(?P<between>[^.\n]{{0,40}})\b(?:(?:does|do|did|will|would){_NEGATED}work"
    rf"|(?:is|was|are){_NEGATED}valid|fail(?:s|ed)?|(?:is|was|are) (?:invalid|wrong|incorrect))\b"
    r"|\b(?:invalid|wrong|incorrect|failing|failed|broken) plan\b",
    re.I,
)
_DOUBTED = re.compile(
    r"\b(?:not|never|no|none|nothing|cannot|hardly|rarely|without|avoid(?:s|ed|ing)?|unlike|any|"
    r"every|if|whether|unless|should|instead of|rather than)\b|n['\u2019]t\b",
    re.I,
)
"""Words before such a statement in its sentence that may turn it round."""
_BEFORE = re.compile(r"\b(?:that|previous|earlier)[ \t]$", re.I)
"""Words before it that tell of an earlier plan."""
_OTHER = re.compile(r"\b(?:naive|direct|obvious|shorter)[ \t]$", re.I)
_SUBORDINATE = re.compile(r"\b(?:since|because|as|when|after)\b", re.I)
"""Words before it of a sentence that may go on to another plan, behind a comma."""
_REPLACED = re.compile(
    r"\bhere(?: is| are|['\u2019]s) (?!why|what|how)|\btry (?:this|again)\b"
    r"|\b(?:so|hence|thus|therefore)[ \t]*+[:,]?[ \t]*+$|, (?:so|hence|thus|therefore)\b"
    r"|, (?:fix|correct|mend|repair|updat|revis)ing\b"
    r"|\b(?:new|corrected|fixed|revised|repaired|improved|better) "
    r"(?:plan|one|version|answer|solution)\b"
    r"|(?:[.;!?]|, so)[ \t]+(?:instead|now|so|we|I|let|another|(?:a |the )?(?:better|final|right|"
    r"correct|second|next))\b",
    re.I,
)
"""How another plan than the one of such a statement is announced behind it."""
_BEHIND = re.compile(
    r"(?:^[-\u2013\u2014:#/]{1,2}[ \t]++|\b(?:then|which|afterwards?|next|finally|by)\b[^()]{0,20})"
    r"\(([^()]*+)\)",
    re.I,
)
_MENTION = re.compile(
    r"(?P<called>[^\s()*`:,]{0,99})\((?P<inside>[^()]*+)(?P<closed>\)?)"
    rf"|^[*_]{{0,3}}(?:{STEP})?\d{{1,6}}[.):][*_]{{0,3}}[ \t]{{1,9}}[*`]{{0,3}}"
    r"(?P<numbered>[^\s()*`:]+)"
    rf"|^{BULLET}[ \t]{{1,9}}(?P<listed>[^()*`:\n]++)(?![(:])",
    re.M,
)
NEAR = 500  # characters before or behind such a statement in which it may be turned round


def taken_back(before: str) -> bool:
    """Whether the last line of a text announces a plan, plainly, as one that does not work: by a
    heading, or in a sentence that ends in a colon.
    """
    written = before.strip().split("\n")[-1].strip()
    line = written.strip("*_ \t")
    if line.endswith((":", "\uff1a")):
        line = re.split(r"[.!?]\s", line)[-1]
    elif not written.startswith(("#", "**", "__")):
        return False
    for found in _TAKEN_BACK.finditer(line):
        near = line[max(0, found.start() - NEAR) : found.start()]
        ahead = re.split(r"[.!?]\s", near)[-1] + (found["between"] or "")
        behind = line[found.end() : found.end() + NEAR]
        goes_on = "," in behind and (_OTHER.search(near) or _SUBORDINATE.search(ahead))
        turned = _BEFORE.search(near) or _DOUBTED.search(ahead) or _REPLACED.search(behind)
        if not goes_on and not turned:
            return True
    return False


def mentioned(before: str, after: str, plan: Plan, schemas: Container[str]) -> str | None:
    """An action of the domain that prose tells of and the plan does not have, by its name.

    Listed prose before the plan may tell its actions in their order, since that is the same plan;
    after its beginning a line of a list may stand for one more.
    """
    ahead, own = iter([action[0] for action in plan.actions]), set(plan.actions)
    for prose, first in ((before, True), (after, False)):
        for match in _MENTION.finditer(fold(prose)):
            listed, name = (match["listed"] or "").split(), match["numbered"]
            if listed and isinstance(schemas, Mapping) and is_whole(listed, schemas):
                name = listed[0]
            if name is not None:
                if first and name in schemas and name in ahead:
                    continue
            elif (inside := match["inside"]) is not None:
                called = match["called"] in schemas
                told = f"{match['called'] if called else ''} {inside.replace(',', ' ')}"
                words = tuple(told.split())
                # A word with a part of it in parentheses, such as stack(ing), is no action.
                alone = not is_whole(words, schemas) if called else len(words) == 1
                whole = match["closed"] and (alone or words in own)
                name = words[0] if words and not whole else None
            if name is not None and name in schemas:
                return name
    return None


def action_behind(why: str, schemas: Container[str]) -> Action | None:
    """The action that an explanation goes on with, instead of a reason: one of these, right behind
    the mark or a word of sequence, with its number of arguments.
    """
    for found in _BEHIND.finditer(why):
        words = tuple(fold(found[1].replace(",", " ")).split())
        if words and words[0] in schemas and is_whole(words, schemas):
            return words
    return None
