"""`json` as a supervisor can afford it: the same texts, made and read by the same C code, without the half in Python.

That half compiles regular expressions at import, for the parser and the writer which are used where there is no C. A third of what
``oxherd status`` took was to import it, and a third of a megabyte of the supervisor was to have it. Used as
``from oxherd import jsons as json``; what is not here (``indent``, ``default``, hooks) is a matter for `json` itself.

``_json`` is private, so it is only used as far as it has been tried; with a newer Python this is `json`.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["dumps", "loads"]

_SPACE = " \t\n\r"

if sys.version_info < (3, 14):
    from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

    class _Reading:
        """What the scanner wants to know: the defaults of `json.loads`."""

        strict = True
        object_hook = object_pairs_hook = None
        parse_float, parse_int = float, int
        parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__

    _scan = make_scanner(_Reading)  # type: ignore[arg-type] # which it looks at as it does at a decoder

    def loads(text: str | bytes | bytearray) -> Any:
        """Return what a JSON text says; bytes are UTF-8.

        Raises:
            ValueError: It is none; the very one of `json`.
            RecursionError: It is nested too deeply.
        """
        if not isinstance(text, str):
            text = text.decode("utf-8", "surrogatepass")
        try:
            value, end = _scan(text, len(text) - len(text.lstrip(_SPACE)))
        except (StopIteration, SystemError, ImportError, OSError):
            # The scanner raises the error of `json`, and 3.11 has none to raise where that has not been loaded.
            end = -1
        if end != len(text) and (end < 0 or text[end:].strip(_SPACE)):
            return _refused(text)
        return value

    def dumps(value: object, *, separators: tuple[str, str] = (", ", ": "), ensure_ascii: bool = True) -> str:
        """Return a value as JSON.

        Args:
            value: Of dictionaries, lists, tuples, strings, numbers, booleans and None.
            separators: Between items, and between key and value.
            ensure_ascii: Escape what is not ASCII.

        Raises:
            TypeError, ValueError: It cannot be written, or contains itself.
        """
        text = encode_basestring_ascii if ensure_ascii else encode_basestring
        encoder = make_encoder({}, _refuse, text, None, separators[1], separators[0], False, False, True)
        return "".join(encoder(value, 0))

    def _refused(text: str) -> Any:
        """Have `json` say what is wrong."""
        try:
            import json  # noqa: PLC0415 - see the head of this module
        except (ImportError, OSError) as error:
            raise ValueError("not JSON, and no descriptor is left to say why") from error
        return json.loads(text)

    def _refuse(value: object) -> object:
        raise TypeError(f"{type(value).__name__} cannot be written as JSON")

else:
    from json import dumps, loads
