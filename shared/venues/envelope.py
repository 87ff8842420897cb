"""Taking the two large arrays out of a book's JSON without reading them: the levels are most of its bytes.

What is left is small and is decoded strictly by the caller. Together with a check of the arrays themselves (which
`levels.scan` is) that is as strict as decoding the whole: JSON with a value replaced by ``null`` is JSON exactly if it
was before, given that the value is JSON. Pure; never decides what is poison.
"""

from __future__ import annotations


def lift_arrays(payload: bytes, first: bytes, second: bytes) -> tuple[bytes, bytes, bytes] | None:
    """The payload with ``null`` for the arrays of two keys, then the two arrays as they stand.

    Keys are given as in JSON, with quotes and colon (``b'"bids":'``). None unless the payload is an object whose last
    two fields are these, in this order and without space between: then it has to be decoded whole. The arrays are not
    looked into, but hold no colon, so no other field hides in them.
    """
    start = payload.find(first) + len(first)
    middle = payload.find(second, start)
    if start < len(first) or middle < 0 or payload[middle - 2 : middle] != b"],":
        return None
    end = len(payload) - 1
    if payload[end - 1 :] != b"]}":
        return None
    left, right = payload[start : middle - 1], payload[middle + len(second) : end]
    if b":" in left or b":" in right:
        return None
    return payload[:start] + b"null," + second + b"null}", left, right
