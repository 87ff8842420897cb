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
    if start < len(first) or not payload.endswith(b"]}"):
        return None
    # A colon is found ten times as fast as a key; the next one is the second key's, or the arrays do not hold levels.
    behind = payload.find(b":", start) + 1
    between = behind - len(second) - 1
    if payload[between - 1 : behind] != b"]," + second or payload.find(b":", behind) >= 0:
        return None
    return payload[:start] + b"null," + second + b"null}", payload[start:between], payload[behind:-1]
