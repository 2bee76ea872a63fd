"""Constraints: whatever the model prefers, a finished answer has its form; and what is not enforced is refused.

The judges are written by others: Python's `re` and the `jsonschema` validator.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
from types import SimpleNamespace

import click
import hypothesis.strategies as st
import jsonschema
import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings

from pellucid.cli.constrain import constraint_options, read_constraint
from pellucid.engine.constraints import grammar_trial
from pellucid.engine.constraints.constrain import Constraint, build_constraint
from pellucid.engine.constraints.json_schema import ENFORCED, REAL_DAY, read_schema
from pellucid.engine.constraints.settings import ConstraintSettings
from pellucid.engine.generate import generate
from pellucid.engine.request import Request
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.errors import MissingExtraError, SamplingError
from pellucid.events import MemoryRecorder
from pellucid.tokens.byte_characters import BYTE_TOKENS
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_characters

TREE = {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}, "名": {"type": "string", "maxLength": 5}}}
SCHEMAS = [
    {"type": "object"},
    {"type": "array"},
    {"type": ["string", "null"], "maxLength": 4},
    {"type": "integer", "minimum": -20, "exclusiveMaximum": 500},
    {"type": "integer", "multipleOf": 7, "minimum": 1},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 2.5},
    {"enum": [1, "två", None, {"deep": [True, "\n"]}]},
    {"const": {"一": [1, 2]}},
    {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
    {"type": "string", "pattern": "ab+", "minLength": 6, "maxLength": 9},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}], "items": False, "minItems": 2},
    {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False},
    {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
    {"type": "object", "patternProperties": {"^n": {"type": "integer"}}, "additionalProperties": False},
    {"type": "object", "properties": {"nn": {"maximum": 9}}, "patternProperties": {"^n": {"type": "integer"}}},
    {"type": "object", "minProperties": 1, "maxProperties": 2, "additionalProperties": {"type": "null"}},
    {"type": "object", "properties": {"a": {}, "b": True}, "required": ["b", "c"]},
    {"anyOf": [{"type": "string", "maxLength": 2}, {"type": "integer"}], "maximum": 12},
    {"oneOf": [{"type": "string"}, {"type": "integer"}]},
    {"allOf": [{"type": "object", "required": ["x"]}, {"properties": {"x": {"type": "null"}}}], "type": "object"},
    {"$ref": "#/$defs/tree", "$defs": {"tree": TREE}},
    {"type": "object", "properties": {"k": {"$ref": "#/$defs/a~1b%20c"}}, "$defs": {"a/b c": {"const": "x"}}},
    {  # as pydantic writes it
        "title": "Order",
        "type": "object",
        "$defs": {
            "Card": {
                "type": "object",
                "properties": {"by": {"const": "card"}, "digits": {"type": "string", "pattern": "^\\d{4}$"}},
                "required": ["by", "digits"],
            },
            "Cash": {"type": "object", "properties": {"by": {"const": "cash", "default": "cash"}}, "required": ["by"]},
        },
        "properties": {
            "payment": {
                "oneOf": [{"$ref": "#/$defs/Card"}, {"$ref": "#/$defs/Cash"}],
                "discriminator": {"propertyName": "by"},
            },
            "note": {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}], "default": None},
        },
        "required": ["payment"],
        "additionalProperties": False,
    },
    *({"type": "string", "format": name} for name in ("date-time", "date", "time", "email", "ipv4", "ipv6", "uuid")),
    *({"type": "string", "format": name} for name in ("duration", "hostname", "uri")),
]
REGEXES = [
    "[a-z]{3}",
    "(ab|cd)*e?",
    "你好(世界)?!*",
    r"\d+(\.\d{1,2})?",
    "a/b|c\\\\d",
    "",
    ".{2,6}",
    "(?i)yes|no",
    "^x$",
    "é+|\t\n",
]
# Bytes that bring an answer to its end, whatever its form, when they are drawn with these logits.
CLOSING = {b'@"}]:YMDHS': 5.0, b"0123456789,.Z": 2.0, b"abcdefghijklmnopqrstuvwxyz": 1.0}
PATIENCE = 30  # tokens after which a test leaves the preferences of its model for those


JUDGES = jsonschema.FormatChecker({"date", "email", "ipv4", "ipv6", "uuid"})  # its "time" is draft 3's, without a zone


def instant(text: str) -> str:
    """A time or date-time of RFC 3339 as Python reads one: on a day, without a leap second or year 0."""
    whole = text.upper() if "-" in text[:5] and ":" not in text[:5] else "2000-01-01T" + text.upper()
    whole = re.sub(r":60", ":59", whole)
    return re.sub(r"^0000", "2000", re.sub(r"\.[0-9]+", "", whole))


@pytest.fixture(scope="session")
def character_tokenizer() -> Tokenizer:
    return train_characters(["hello 你好 {}[]0123456789"])


@pytest.fixture(scope="session", params=["byte_tokenizer", "merged_tokenizer", "character_tokenizer"])
def any_tokenizer(request) -> Tokenizer:
    return request.getfixturevalue(request.param)


def for_schema(schema: object) -> ConstraintSettings:
    return ConstraintSettings(json_schema=json.dumps(schema, ensure_ascii=False))


def closing_row(tokenizer: Tokenizer) -> np.ndarray:
    """Logits that end any form sooner or later, when drawn from."""
    logits = {byte: logit for these, logit in CLOSING.items() for byte in these}
    single = (data[0] if len(data) == 1 else None for data in tokenizer.vocabulary.token_bytes)
    row_V = np.array([logits.get(byte, -50.0 if byte != ord("[") else -60.0) for byte in single])
    row_V[tokenizer.eos_id] = 50.0
    return row_V


def draw(row_V: np.ndarray, seed: int, position: int) -> int:
    """A sample of softmax, by the Gumbel trick."""
    return int((row_V + np.random.default_rng((seed, position)).gumbel(size=row_V.size)).argmax())


def allowed(constraint: Constraint, new_ids: list[int]) -> np.ndarray:
    """Which tokens may follow these: the ones whose logit stays."""
    zeros_V = np.zeros(constraint._num_known, np.float32)
    return constraint.apply(zeros_V, SimpleNamespace(ids=new_ids, num_prompt=0)) > -np.inf


def write(constraint: Constraint, tokenizer: Tokenizer, next_row, seed: int | None) -> str:
    """Write one answer: as `next_row` prefers, greedily or drawn, and after a while towards an end."""
    history = SimpleNamespace(ids=[0], num_prompt=1)
    while history.ids[-1] != tokenizer.eos_id:
        patient = len(history.ids) < PATIENCE
        row_V = constraint.apply(next_row(history.ids) if patient else closing_row(tokenizer), history)
        assert row_V.max() > -np.inf
        greedy = seed is None and patient
        history.ids.append(int(row_V.argmax()) if greedy else draw(row_V, seed or 0, len(history.ids)))
        assert len(history.ids) < 400, tokenizer.decode(history.ids)
    return tokenizer.decode_bytes(history.ids[1:]).decode("utf-8")  # strictly: no broken character either


def random_rows(tokenizer: Tokenizer, seed: int):
    rows = np.random.default_rng(seed).normal(scale=4, size=(PATIENCE, tokenizer.vocab_size))
    return lambda ids: rows[len(ids)]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:60])
def test_every_answer_meets_its_schema(schema, any_tokenizer):
    """Random logits, greedy and drawn; judged by jsonschema."""
    constraint = build_constraint(for_schema(schema), any_tokenizer)
    validator = jsonschema.Draft202012Validator(schema, format_checker=JUDGES)
    for seed in range(6):
        text = write(constraint, any_tokenizer, random_rows(any_tokenizer, seed), seed if seed % 2 else None)
        validator.validate(json.loads(text))
        if schema.get("format") in ("time", "date-time"):
            datetime.datetime.fromisoformat(instant(json.loads(text)))
        assert "\n" not in text  # one line: no endless blanks either


@pytest.mark.parametrize("pattern", REGEXES)
def test_every_answer_matches_its_regex(pattern, any_tokenizer):
    constraint = build_constraint(ConstraintSettings(regex=pattern), any_tokenizer)
    for seed in range(6):
        text = write(constraint, any_tokenizer, random_rows(any_tokenizer, seed), seed if seed % 2 else None)
        assert re.fullmatch(pattern, text), text


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_a_model_with_random_weights_writes_valid_json(seed, merged_tokenizer, tiny_model):
    """Through the runner, with a cache, as generation does it; rows longer than the vocabulary."""
    runner = TorchRunner(tiny_model(merged_tokenizer.vocab_size + 7, context_length=400))
    sequence = runner.start([0, 5, 9], max_length=400)
    schema = SCHEMAS[13]
    constraint = build_constraint(for_schema(schema), merged_tokenizer)
    logits_V = runner.read([sequence])[0]
    closing = np.pad(closing_row(merged_tokenizer), (0, 7))
    while sequence.ids[-1] != merged_tokenizer.eos_id:
        row_V = constraint.apply(logits_V if len(sequence.ids) < 60 else closing, sequence)
        assert row_V.dtype == logits_V.dtype or len(sequence.ids) >= 60
        greedy = seed is None and len(sequence.ids) < 60
        chosen = int(row_V.argmax()) if greedy else draw(row_V, seed or 0, len(sequence.ids))
        sequence.extend([chosen])
        logits_V = runner.read([sequence])[0]
    jsonschema.validate(json.loads(merged_tokenizer.decode(sequence.ids[3:])), schema)


@pytest.mark.parametrize("temperature", [0, 1])
def test_generate_streams_an_answer_of_the_form(temperature, merged_tokenizer, tiny_model):
    runner = TorchRunner(tiny_model(merged_tokenizer.vocab_size, context_length=60))
    form = ConstraintSettings(regex="(你好|hello){3}[!?]")
    sampling = SamplingSettings(temperature=temperature, seed=None if temperature == 0 else 5)
    request = Request(prompt_ids=[0, 7, 3], sampling=sampling, constraint=form, explain=True)
    steps = list(generate(runner, merged_tokenizer, request))
    assert re.fullmatch("(你好|hello){3}[!?]", "".join(step.text for step in steps))
    assert steps[-1].finish_reason == "eos"
    assert "regex" in [stage.name for stage in steps[0].account.stages]


small = st.one_of(
    st.sampled_from([{"type": "null"}, {"type": "boolean"}, {"type": "string", "maxLength": 3}, {"enum": ["a", 2]}]),
    st.integers(-50, 50).map(lambda low: {"type": "integer", "minimum": low, "maximum": low + 30}),
)
nested = st.recursive(
    small,
    lambda inner: st.one_of(
        inner.map(lambda items: {"type": "array", "items": items, "maxItems": 3}),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
        st.tuples(st.dictionaries(st.sampled_from('abc"\\é你'), inner, max_size=3), st.booleans()).map(
            lambda pair: {
                "type": "object",
                "properties": pair[0],
                "required": sorted(pair[0])[:1],
                "additionalProperties": pair[1],
            }
        ),
    ),
    max_leaves=5,
)


@given(schema=nested, seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_schema_any_logits(schema, seed, merged_tokenizer):
    constraint = build_constraint(for_schema(schema), merged_tokenizer)
    text = write(constraint, merged_tokenizer, random_rows(merged_tokenizer, seed), seed)
    jsonschema.validate(json.loads(text), schema)


def test_choices_are_reached_exactly(any_tokenizer):
    choices = ("New", "New York", "新しい", 'a "quoted"\\\n line', "<eos>")
    constraint = build_constraint(ConstraintSettings(choices=choices), any_tokenizer)
    written = {write(constraint, any_tokenizer, random_rows(any_tokenizer, seed), seed) for seed in range(40)}
    assert written == set(choices)


def test_a_grammar_and_the_schema_in_it(merged_tokenizer):
    """A context-free form: brackets that balance, around JSON."""
    grammar = 'start: "(" start ")" | value\nvalue: %json {"type": "integer", "minimum": 0, "maximum": 99} "!"'
    constraint = build_constraint(ConstraintSettings(grammar=grammar), merged_tokenizer)
    for seed in range(10):
        text = write(constraint, merged_tokenizer, random_rows(merged_tokenizer, seed), seed)
        depth = text.count("(")
        assert re.fullmatch(rf"\({{{depth}}}[0-9]{{1,2}}!\){{{depth}}}", text)


def test_the_end_is_allowed_when_complete_and_alone_when_nothing_follows(byte_tokenizer):
    constraint = build_constraint(ConstraintSettings(regex="ab|abc"), byte_tokenizer)
    eos_id, ids = byte_tokenizer.eos_id, list(byte_tokenizer.encode("abc").ids)
    found = [set(np.flatnonzero(allowed(constraint, ids[:n])).tolist()) for n in range(4)]
    assert found == [{ids[0]}, {ids[1]}, {ids[2], eos_id}, {eos_id}]
    assert set(np.flatnonzero(allowed(constraint, [*ids, eos_id]))) <= {eos_id}


def test_what_is_kept_keeps_its_logit_and_the_input_is_not_touched(byte_tokenizer):
    constraint = build_constraint(ConstraintSettings(regex="a|b"), byte_tokenizer)
    row_V = np.arange(byte_tokenizer.vocab_size + 3, dtype=np.float32)
    kept = np.flatnonzero(constraint.apply(row_V, SimpleNamespace(ids=[0, 1], num_prompt=2)) > -np.inf)
    assert [byte_tokenizer.token_bytes(i) for i in kept] == [b"a", b"b"]
    assert (row_V == np.arange(row_V.size)).all()


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_mask_is_a_function_of_the_history(data, merged_tokenizer, grown):
    """One stage that is shown cut, forked and alternating histories answers as a new one does."""
    travelled, texts = grown
    for _ in range(6):
        ids = data.draw(st.sampled_from(texts))
        ids = ids[: data.draw(st.integers(0, len(ids)))]
        fresh = Constraint("fresh", travelled._start, merged_tokenizer)
        assert (allowed(travelled, ids) == allowed(fresh, ids)).all()


@pytest.fixture(scope="session")
def grown(merged_tokenizer):
    """A constraint, and some answers it accepts, their <eos> included."""
    constraint = build_constraint(for_schema({"$ref": "#/$defs/tree", "$defs": {"tree": TREE}}), merged_tokenizer)
    texts = ['{"left": {}, "名": "hello"}', '{"left": {"left": {}}}', '{"名":"你好\\n"}', "{}", '{"x": [1.5, null]}']
    return constraint, [[*merged_tokenizer.encode(text).ids, merged_tokenizer.eos_id] for text in texts]


def test_a_history_outside_the_form_is_an_error_and_harms_nothing(byte_tokenizer):
    constraint = build_constraint(ConstraintSettings(regex="ab"), byte_tokenizer)
    good, bad = (list(byte_tokenizer.encode(text).ids) for text in ("a", "xx"))
    before = allowed(constraint, good)
    with pytest.raises(SamplingError, match="outside the form"):
        allowed(constraint, bad)
    assert (allowed(constraint, good) == before).all()


def test_the_space_that_decoding_drops_is_not_counted():
    """SentencePiece files drop the first space of a text: the form is that of the text as people see it."""
    tokens = ("<s>", "</s>", *BYTE_TOKENS, "▁", "h", "▁h", "▁▁")
    engine = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            {token: i for i, token in enumerate(tokens)}, [("▁", "h"), ("▁", "▁")], byte_fallback=True
        )
    )
    spaces = [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    engine.normalizer = tokenizers.normalizers.Sequence(spaces)
    engine.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    engine.add_special_tokens(["<s>", "</s>"])
    tokenizer = Tokenizer.from_json(engine.to_str())
    constraint = build_constraint(ConstraintSettings(regex=" ?h h"), tokenizer)
    first = np.flatnonzero(allowed(constraint, []))
    assert {tokenizer.token_bytes(i) for i in first} == {b"h"}
    for seed in range(8):
        assert re.fullmatch(" ?h h", write(constraint, tokenizer, random_rows(tokenizer, seed), seed))


def test_special_tokens_never_spell_text(merged_tokenizer):
    constraint = build_constraint(ConstraintSettings(regex=r"[<>a-z|_]+"), merged_tokenizer)
    specials = sorted(merged_tokenizer.specials.values())
    assert not allowed(constraint, [])[specials].any()


def test_a_plain_character_is_not_lost_to_its_byte(character_tokenizer):
    """A character tokenizer has `h` twice, as a character and as a byte: the one that the model knows stays possible."""
    for pattern in ("h", "[a-z]+", "h|e"):
        allowed_V = allowed(build_constraint(ConstraintSettings(regex=pattern), character_tokenizer), [])
        assert allowed_V[character_tokenizer.encode("h").ids[0]]


ENDLESS = {"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}, "required": ["x"]}
REFUSED = [
    ({"type": "array", "uniqueItems": True}, "#/uniqueItems"),
    ({"type": "object", "properties": {"a/b": {"not": {}}}}, "#/properties/a~1b/not"),
    ({"type": "object", "$defs": {"x": {"if": {}}}}, "#/$defs/x/if"),
    ({"type": "array", "items": {"contains": {}}}, "#/items/contains"),
    ({"type": "array", "prefixItems": [{}, {"dependentRequired": {}}]}, "#/prefixItems/1/dependentRequired"),
    ({"anyOf": [{"type": "null"}, {"propertyNames": {}}]}, "#/anyOf/1/propertyNames"),
    ({"type": "string", "format": "ipv7"}, "#/format"),
    ({"type": "object", "minProperties": 2}, "#/minProperties"),
    ({"type": "array", "items": [{}]}, "#/items"),
    ({"type": "integer", "minimum": 3, "exclusiveMinimum": True}, "#/exclusiveMinimum"),
    ({"type": "string", "nullable": True}, "#/nullable"),
    ({"type": "string", "x-guidance": {"lenient": True}}, "#/x-guidance"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#"}}}, "#/$defs/a"),
    ({"type": "array", "minItems": 1, "items": {"$ref": "#"}}, "#/items"),
    ({"type": "array", "items": {"allOf": [{"$ref": "#/$defs/a"}]}, "$defs": {"a": ENDLESS}}, "#/$defs/a/properties/x"),
    ({"$ref": "https://example.org/s.json"}, "#/$ref"),
    ({"$ref": "#/$defs/none"}, "#/$ref"),
    ({"$ref": "#/examples/0", "examples": [{"unevaluatedItems": False}]}, "#/examples/0/unevaluatedItems"),
    ({"type": "object", "properties": {"a": {"$id": "x"}}}, "#/properties/a/$id"),
    ({"type": "object", "additionalProperties": 3}, "#/additionalProperties"),
    ({}, "#"),
    ({"properties": {"a": {}}}, "#"),
    (True, "#"),
    (False, "#"),
    ([], "#"),
]


@pytest.mark.parametrize(("schema", "pointer"), REFUSED, ids=lambda value: json.dumps(value)[:50])
def test_what_is_not_enforced_is_refused_at_its_place(schema, pointer):
    with pytest.raises(SamplingError) as caught:
        read_schema(json.dumps(schema))
    assert caught.value.where == pointer


COMPILED = [
    ({"type": "object", "properties": {"p": {"oneOf": [{"type": "string"}, {"const": "a"}]}}}, "#/properties/p", "oneOf"),
    ({"type": "array", "items": {"$ref": "#/$defs/n"}, "minItems": 1, "$defs": {"n": {"type": "integer", "minimum": 3, "maximum": 2}}}, "#/$defs/n", "minimum"),
    ({"type": "array", "items": {"type": "string", "pattern": "(?=a)"}}, "#/items", "look-around"),
    ({"type": "object", "required": ["b"], "additionalProperties": False}, "#", "required property 'b'"),
    ({"type": "string", "const": 3}, "#", "Unsatisfiable"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "pointer", "words"), COMPILED, ids=lambda value: json.dumps(value)[:50])
def test_what_cannot_be_compiled_or_met_is_refused_at_its_place(schema, pointer, words, byte_tokenizer):
    with pytest.raises(SamplingError, match=words) as caught:
        build_constraint(for_schema(schema), byte_tokenizer)
    assert caught.value.where == pointer


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        ({"regex": "(a"}, "unclosed group"),
        ({"regex": r"[^\s\S]"}, "no text can meet it"),
        ({"regex": r"(a)\1"}, "backreferences"),
        ({"grammar": "start: nowhere"}, "nowhere"),
        ({"grammar": 'start: x\nx[max_tokens=3, temperature=0.5]: "a"'}, "temperature= in a grammar"),
        ({"grammar": 'start: %json {"not": {}}'}, "'not' is not enforced"),
        ({"grammar": "start: %json {'a'}"}, "not valid JSON"),
        ({"json_schema": "{"}, "not valid JSON"),
        ({"json_schema": '{"items":' * 5000 + "{}" + "}" * 5000}, "nested too deep"),
        ({"regex": "a" * (1 << 21)}, "too long"),
        ({}, "no constraint is given"),
    ],
)  # fmt: skip
def test_broken_constraints_say_what_is_wrong(constraint, words, byte_tokenizer):
    with pytest.raises(SamplingError) as caught:
        build_constraint(ConstraintSettings(**constraint), byte_tokenizer)
    assert words in str(caught.value)


def test_every_enforced_keyword_is_exercised_above():
    assert set(re.findall(r'"([$\w]+)":', json.dumps(SCHEMAS))) | {"definitions"} >= ENFORCED


def test_compile_time_is_bounded(byte_tokenizer):
    """Intersections whose cost grows without measure: a child process takes the time, and is stopped."""
    schema = {"type": "string", "allOf": [{"pattern": f"(.*a.*){{{n}}}"} for n in range(1, 30)]}
    with pytest.raises(SamplingError, match="takes too long"):
        build_constraint(ConstraintSettings(json_schema=json.dumps(schema), compile_seconds=0.5), byte_tokenizer)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit on memory")
def test_a_compiler_that_runs_out_of_memory_takes_nobody_along(monkeypatch, byte_tokenizer):
    monkeypatch.setattr(grammar_trial, "MEMORY_BYTES", 1 << 20)
    with pytest.raises(SamplingError, match="too much memory to compile") as caught:
        build_constraint(ConstraintSettings(regex="never tried before"), byte_tokenizer)
    assert "broke down" in caught.value.found


def test_a_step_that_costs_too_much_names_its_stage(monkeypatch, byte_tokenizer):
    monkeypatch.setitem(grammar_trial.LIMITS, "step_lexer_fuel", 50)
    monkeypatch.setattr(grammar_trial, "try_grammar", lambda grammar, seconds: "")
    with pytest.raises(SamplingError) as caught:
        constraint = build_constraint(ConstraintSettings(regex=r"(\w{1,50} ){1,9}[a-z]+"), byte_tokenizer)
        allowed(constraint, list(byte_tokenizer.encode("abcdefgh").ids))
    assert caught.value.where == "regex"


@given(st.integers(1, 9999), st.integers(1, 12), st.integers(1, 31))
def test_days_exist(year, month, day):
    try:
        exists = bool(datetime.date(year, month, day))
    except ValueError:
        exists = False
    possible = day <= (29 if month == 2 else 30 if month in (4, 6, 9, 11) else 31)  # what the compiler knows itself
    assert exists == (possible and bool(re.search(REAL_DAY, f"{year:04}-{month:02}-{day:02}")))


def test_the_decision_is_reported_and_the_extra_is_named(monkeypatch, byte_tokenizer):
    recorder = MemoryRecorder()
    build_constraint(ConstraintSettings(choices=("a",)), byte_tokenizer, recorder=recorder)
    assert recorder.names() == ["engine.constrained"]
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingExtraError, match="llguidance"):
        build_constraint(ConstraintSettings(choices=("a",)), byte_tokenizer)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["--regex", "a+"], "regex"),
        (["--choice", "a", "--choice", "b, c"], "choices"),
        (["--json-schema", "schema.json"], "json_schema"),
        (["--grammar", "form.lark"], "grammar"),
        ([], None),
    ],
)
def test_the_options_of_the_command_line(arguments, kind, byte_tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schema.json").write_text('{"type": "integer"}', encoding="utf-8")
    (tmp_path / "form.lark").write_text('start: "好"', encoding="utf-8")
    read = []

    @click.command()
    @constraint_options
    def verb(**options):
        read.append(read_constraint(**options))

    verb.main(arguments, standalone_mode=False)
    assert [form.kind for form in read] == [kind]
    if kind:
        build_constraint(read[0], byte_tokenizer)
