"""Plans that an answer takes back, in the line before them."""

from __future__ import annotations

import re

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
    r"\b(?:here(?: is| are|['\u2019]s)|instead|now|new|corrected|fixed|revised|repaired|improved"
    r"|better|another|try (?:this|again)|so(?=(?:,? (?:here|I|we|let|now)\b)"
    r"|[ \t]*[:,]?[ \t]*$))\b",
    re.I,
)
"""Words behind such a statement that announce another plan than the one it is of."""
NEAR = 500  # characters before a word that takes a plan back, in which it may be doubted


def taken_back(before: str) -> bool:
    """Whether the last line of a text says of a plan, plainly, that it does not work."""
    line = before.strip().split("\n")[-1]
    for found in _TAKEN_BACK.finditer(line):
        near = line[max(0, found.start() - NEAR) : found.start()]
        ahead = re.split(r"[.!?]\s", near)[-1] + (found["between"] or "")
        if not _DOUBTED.search(ahead) and not _REPLACED.search(line, found.end()):
            return True
    return False
