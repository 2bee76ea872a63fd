"""Checks a JSON Schema: whatever would not be enforced is an error that names its place. No torch.

A schema is a promise about the answer, and a keyword that is ignored breaks it silently. So the keywords that are
enforced are listed here, with their values; everything else is an error with its JSON Pointer. Annotations promise
nothing and pass. This is *not* a validator of JSON: it looks at schemas only.

Source: JSON Schema, draft 2020-12 (validation §6, core §10); RFC 6901 (JSON Pointer).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from pellucid.errors import SamplingError

ANNOTATIONS = frozenset(
    [
        "$schema",
        "$comment",
        "$anchor",
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "contentMediaType",
        "contentEncoding",
        "discriminator",
    ]
)
SCHEMAS_BY_NAME = frozenset(["properties", "patternProperties", "$defs", "definitions"])
SCHEMA_LISTS = frozenset(["anyOf", "oneOf", "allOf", "prefixItems"])
SINGLE_SCHEMAS = frozenset(["items", "additionalProperties"])
NUMBERS = frozenset(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"])
COUNTS = frozenset(["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"])
PLAIN = frozenset(["type", "const", "enum", "required", "pattern", "format", "$ref"])
ENFORCED = SCHEMAS_BY_NAME | SCHEMA_LISTS | SINGLE_SCHEMAS | NUMBERS | COUNTS | PLAIN
FORMATS = frozenset(["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"])
SAYS_WHAT = ("type", "const", "enum", "anyOf", "oneOf", "allOf", "$ref")  # one of these is needed at the root
HINTS = {
    "nullable": 'write "type": ["string", "null"]',
    "if": "write the cases out as anyOf",
    "not": "write what is allowed: enum, pattern or anyOf",
    "uniqueItems": "leave it out, and check the answer",
    "additionalItems": "write prefixItems and items, as drafts from 2020 do",
    "dependentRequired": "write the cases out as anyOf",
    "$id": "only the outermost schema may have one; write $ref as #/$defs/NAME",
}
OPTIONS = {  # how JSON is written: on one line, with or without a space after the signs
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
    "json_allowed_escapes": 'nrbtf\\"',  # no \uXXXX: a key spelled with one would dodge the schema of its name
}
LEAP_YEAR = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)"
REAL_DAY = f"^([0-9]{{4}}-(0[13-9]|1[0-2]|02-([01][0-9]|2[0-8]))|{LEAP_YEAR}-02-29)"  # the compiler's knows 29 February


class SchemaReader:
    """One schema document on its way through the check; `visited` holds the schemas found, innermost first."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.visited: dict[str, Any] = {}
        self._open: set[str] = set()

    def read(self, schema: Any, pointer: str) -> None:
        """Check a schema and all inside it. Raises SamplingError, naming the JSON Pointer."""
        if pointer in self._open or pointer in self.visited:
            return
        if not isinstance(schema, (dict, bool)):
            raise refusal("a schema must be an object, true or false", schema, pointer)
        self._open.add(pointer)
        for keyword, value in schema.items() if isinstance(schema, dict) else ():
            self._read_keyword(keyword, value, f"{pointer}/{escape(keyword)}")
        self.visited[pointer] = schema

    def _read_keyword(self, keyword: str, value: Any, pointer: str) -> None:
        if keyword in ANNOTATIONS or (keyword == "$id" and pointer == "#/$id"):
            return
        if keyword not in ENFORCED:
            raise refusal(f"the schema keyword {keyword!r} is not enforced", value, pointer, HINTS.get(keyword, ""))
        for inner, place in inner_schemas(keyword, value, pointer):
            self.read(inner, place)
        check_value(keyword, value, pointer)
        if keyword == "$ref":
            self.read(self._resolve(value, pointer), value)

    def _resolve(self, reference: str, pointer: str) -> Any:
        if reference != "#" and not reference.startswith("#/"):
            raise refusal("only references into the same schema are followed", reference, pointer, "#/$defs/NAME")
        target = self.root
        for part in unquote(reference).split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(part)] if isinstance(target, list) else target[part]
            except (KeyError, IndexError, ValueError, TypeError):
                raise refusal("the reference leads nowhere", reference, pointer) from None
        return target


def read_schema(text: str) -> SchemaReader:
    """Parse and check the text of a schema.

    >>> read_schema('{"type": "array", "uniqueItems": true}')
    Traceback (most recent call last):
    ...
    pellucid.errors.SamplingError: the schema keyword 'uniqueItems' is not enforced
      found: true
      where: #/uniqueItems
      try:   leave it out, and check the answer
    """
    try:
        root = json.loads(text)
        return check_root(root)
    except ValueError as error:
        raise SamplingError("the schema is not valid JSON", found=str(error)) from None
    except RecursionError:
        raise SamplingError("the schema is nested too deep", hint="use $ref for what repeats") from None


def check_root(root: Any) -> SchemaReader:
    """Check a parsed schema as a whole; it must say what it wants, for "anything" includes numbers without end."""
    reader = SchemaReader(root)
    reader.read(root, "#")
    if root is True or (isinstance(root, dict) and not any(key in root for key in SAYS_WHAT)):
        hint = 'say which kind of value, for example "type": "object"'
        raise refusal("the schema allows any value, even a number whose digits never end", root, "#", hint)
    if root is False:
        raise refusal("no value can meet the schema", root, "#")
    check_endings(reader.visited)
    return reader


def check_endings(schemas: Mapping[str, Any]) -> None:
    """Refuse schemas (by JSON Pointer) whose every value would hold itself, and so never end."""
    ended: set[str] = set()
    while found := {p for p, schema in schemas.items() if p not in ended and _can_end(schema, p, ended)}:
        ended |= found
    for pointer, schema in schemas.items():
        if pointer not in ended and schema is not False:
            raise refusal("a value of this schema would hold itself without end", schema, pointer)


def _can_end(schema: Any, pointer: str, ended: set[str]) -> bool:
    """Whether every value that this schema requires is known to be finite."""
    if not isinstance(schema, dict):
        return schema is True
    needed = [schema["$ref"]] if "$ref" in schema else []
    needed += [f"{pointer}/allOf/{i}" for i in range(len(schema.get("allOf", [])))]
    if schema.get("type") in ("object", ["object"]):
        named = schema.get("properties", {})
        needed += [f"{pointer}/properties/{escape(name)}" for name in schema.get("required", []) if name in named]
    if schema.get("type") in ("array", ["array"]):
        least, first = schema.get("minItems", 0), len(schema.get("prefixItems", []))
        needed += [f"{pointer}/prefixItems/{i}" for i in range(min(least, first))]
        needed += [f"{pointer}/items"] if least > first and "items" in schema else []
    options = [[f"{pointer}/{key}/{i}" for i in range(len(schema[key]))] for key in ("anyOf", "oneOf") if key in schema]
    return ended.issuperset(needed) and all(any(place in ended for place in places) for places in options)


def compiler_text(schema: dict) -> str:
    """A checked schema as the compiler gets it: with patterns for real dates and options for how JSON is written."""
    return json.dumps({**_with_real_days(schema), "x-guidance": OPTIONS}, ensure_ascii=False)


def _with_real_days(schema: Any) -> Any:
    """Schemas with a date format get a pattern beside it that knows leap years."""
    if not isinstance(schema, dict):
        return schema
    result = dict(schema)
    for keyword, value in schema.items():
        if keyword in SCHEMAS_BY_NAME:
            result[keyword] = {name: _with_real_days(inner) for name, inner in value.items()}
        elif keyword in SCHEMA_LISTS:
            result[keyword] = [_with_real_days(inner) for inner in value]
        elif keyword in SINGLE_SCHEMAS:
            result[keyword] = _with_real_days(value)
    if schema.get("format") in ("date", "date-time"):
        result["allOf"] = [*result.get("allOf", []), {"pattern": REAL_DAY}]
    return result


def inner_schemas(keyword: str, value: Any, pointer: str) -> Iterator[tuple[Any, str]]:
    """The schemas that a keyword holds, each with its JSON Pointer."""
    if keyword in SINGLE_SCHEMAS:
        if isinstance(value, list):
            raise refusal(f"{keyword} is a list", value, pointer, "write prefixItems, as drafts from 2020 do")
        yield value, pointer
    elif keyword in SCHEMA_LISTS:
        if not isinstance(value, list):
            raise refusal(f"{keyword} must be a list of schemas", value, pointer)
        yield from ((inner, f"{pointer}/{i}") for i, inner in enumerate(value))
    elif keyword in SCHEMAS_BY_NAME:
        if not isinstance(value, dict):
            raise refusal(f"{keyword} must be an object of schemas", value, pointer)
        yield from ((inner, f"{pointer}/{escape(name)}") for name, inner in value.items())


def check_value(keyword: str, value: Any, pointer: str) -> None:
    """Refuse a value for which the keyword would not hold."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if keyword in NUMBERS and not number:
        raise refusal(f"{keyword} must be a number", value, pointer, "drafts before 6 wrote true here")
    if keyword in COUNTS and not (number and value >= 0 and value == int(value)):
        raise refusal(f"{keyword} must be a count", value, pointer)
    if keyword == "required" and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        raise refusal("required must be a list of names", value, pointer)
    if keyword == "minProperties" and value > 1:
        hint = "name the properties in required"
        raise refusal("minProperties above 1 is not enforced (a key may come twice)", value, pointer, hint)
    if keyword in ("pattern", "format", "$ref") and not isinstance(value, str):
        raise refusal(f"{keyword} must be a text", value, pointer)
    if keyword == "format" and value not in FORMATS:
        raise refusal("this format is not enforced", value, pointer, "known: " + ", ".join(sorted(FORMATS)))


def refusal(what: str, found: Any, pointer: str, hint: str = "") -> SamplingError:
    """The error for one place of a schema."""
    shown = json.dumps(found, ensure_ascii=False)
    return SamplingError(what, found=shown if len(shown) <= 120 else shown[:117] + "...", where=pointer, hint=hint)


def escape(name: str) -> str:
    """A name as one part of a JSON Pointer.

    >>> escape("a/b~c")
    'a~1b~0c'
    """
    return name.replace("~", "~0").replace("/", "~1")
