"""Words beside a plan in an answer: that it does not work, or one more action."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

from planners.pddl.sexpr import fold
from planners.records import Action

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
_REPLACED = re.compile(
    r"\bhere(?: is| are|['\u2019]s) (?!why|what|how)|\btry (?:this|again)\b"
    r"|\bso[ \t]*+[:,]?[ \t]*+$"
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
NEAR = 500  # characters before or behind such a statement in which it may be turned round


def taken_back(before: str) -> bool:
    """Whether the last line of a text says of a plan, plainly, that it does not work."""
    line = before.strip().split("\n")[-1]
    for found in _TAKEN_BACK.finditer(line):
        near = line[max(0, found.start() - NEAR) : found.start()]
        ahead = re.split(r"[.!?]\s", near)[-1] + (found["between"] or "")
        behind = line[found.end() : found.end() + NEAR]
        if not _DOUBTED.search(ahead) and not _REPLACED.search(behind):
            return True
    return False


def action_behind(why: str, schemas: Container[str]) -> Action | None:
    """The action that an explanation goes on with, instead of a reason: one of these, right behind
    the mark or a word of sequence, with its number of arguments.
    """
    for found in _BEHIND.finditer(why):
        words = tuple(fold(found[1].replace(",", " ")).split())
        if words and words[0] in schemas:
            known = schemas[words[0]] if isinstance(schemas, Mapping) else None
            if known is None or len(known.parameters) == len(words) - 1:
                return words
    return None
