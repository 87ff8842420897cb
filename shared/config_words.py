"""What pydantic found wrong, in words a person can act on. Never shows the value of a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.config_sources import did_you_mean, nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

LONGEST_SHOWN = 80
_PATTERNS = {
    r"^[a-z0-9_]+$": "lower-case letters, digits and '_'",
    r"^[a-z0-9][a-z0-9_-]*$": "lower-case letters, digits, '_' and '-', the first a letter or digit",
    r"^https?://[^\s/?#]+[^\s?#]*$": "a URL such as https://host:port",
    r"^wss?://[^\s/?#]+[^\s?#]*$": "a URL such as wss://host:port",
    r"^([^\s/*?]+(/[^\s/*?]+)*)?$": "a folder such as lake or data/lake, without a slash at either end",
}
_WORDS = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text (in YAML, quote it)",
    "path_type": "must be a path",
    "tuple_type": "must be a list",
    "string_too_short": "must not be empty",
}
_BOUNDS = {
    "greater_than": ("gt", "must be greater than"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be less than"),
    "less_than_equal": ("le", "must be at most"),
}


def in_words(error: ErrorDetails, *, secret: bool) -> str:
    """One clause: what the value must be and, unless it is a secret, what it is."""
    return _must(error) if secret else f"{_must(error)}, is {_shown(error['input'])}{_suggestion(error)}"


def _must(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _WORDS:
        return _WORDS[kind]
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{words} {context[name]:g}"
    if kind == "literal_error":
        return f"must be one of {context['expected'].replace(chr(39), '').replace(' or ', ', ')}"
    if kind == "string_pattern_mismatch":
        return f"must be {_PATTERNS[context['pattern']]}"
    if kind == "value_error":
        return str(context["error"])
    return error["msg"][:1].lower() + error["msg"][1:]


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def _suggestion(error: ErrorDetails) -> str:
    if error["type"] != "literal_error":
        return ""
    allowed = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
    word = str(error["input"])
    return did_you_mean(nearest(word, allowed) or nearest(word.upper(), allowed) or nearest(word.lower(), allowed))
