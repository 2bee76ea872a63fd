from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pellucid.data.document import Document
from pellucid.data.settings import DataSettings
from pellucid.data.split import Split, choose_split, divide
from pellucid.data.survey import Survey, survey


def documents_of(texts: Sequence[Sequence[str]]) -> list[Document]:
    return [
        Document(text=part, origin=str(index), part=number, last=number == len(parts) - 1)
        for index, parts in enumerate(texts)
        for number, part in enumerate(parts)
    ]


def side(divided: list[tuple[str, Document]], name: str) -> list[Document]:
    return [document for where, document in divided if where == name]


def well_formed(documents: list[Document]) -> bool:
    """Parts count up from 0 and the last of each document is marked."""
    expected = 0
    for document in documents:
        if document.part != expected:
            return False
        expected = 0 if document.last else document.part + 1
    return expected == 0


PARTS = st.lists(st.lists(st.text("ab你", min_size=1, max_size=5), min_size=1, max_size=3), min_size=1, max_size=6)


@given(PARTS, st.integers(0, 60))
def test_a_cut_divides_the_text_at_its_character(texts: list[list[str]], cut: int) -> None:
    documents = documents_of(texts)
    whole = "".join(document.text for document in documents)
    divided = list(divide(documents, Split(method="cut", reason="", cut=cut)))
    train, valid = side(divided, "train"), side(divided, "valid")
    assert "".join(document.text for document in train) == whole[:cut]
    assert "".join(document.text for document in valid) == whole[cut:]
    assert well_formed(train) and well_formed(valid)


@given(PARTS)
def test_by_document_keeps_every_part_with_its_first(texts: list[list[str]]) -> None:
    documents = documents_of(texts)
    split = Split(method="documents", reason="", fraction=0.5)
    divided = list(divide(documents, split))
    assert [document for _, document in divided] == documents
    assert all(well_formed(side(divided, name)) for name in ("train", "valid"))


def test_nothing_held_out_is_everything_trained_on() -> None:
    documents = documents_of([["ab", "c"], ["d"]])
    divided = list(divide(documents, Split(method="none", reason="")))
    assert divided == [("train", document) for document in documents]


TEXTS = st.lists(st.text("abcd"), max_size=40)


@given(TEXTS, TEXTS, st.floats(0, 1), st.floats(0, 1))
def test_what_was_trained_on_is_never_held_out_later(texts: list[str], more: list[str], one: float, two: float) -> None:
    def held_out(texts: list[str], fraction: float) -> set[str]:
        split = Split(method="documents", reason="", fraction=fraction)
        return {document.text for document in side(list(divide(documents_of([[t] for t in texts]), split)), "valid")}

    # More text means the same fraction, or a smaller one when the held-out bytes are capped.
    assert held_out(texts + more, min(one, two)) & set(texts) <= held_out(texts, max(one, two))


def test_equal_texts_stand_on_one_side() -> None:
    texts = [[f"text {number % 50}"] for number in range(500)]
    divided = list(divide(documents_of(texts), Split(method="documents", reason="", fraction=0.2)))
    train, valid = ({d.text for d in side(divided, name)} for name in ("train", "valid"))
    assert valid and not train & valid


def test_a_survey_counts_whole_documents() -> None:
    seen = survey(documents_of([["你好", "ab", "c"], ["abcd"]]))
    assert seen == Survey(num_documents=2, num_characters=9, num_bytes=13, largest=9)


def survey_of(num_documents: int, num_bytes: int, largest: int = 1) -> Survey:
    return Survey(num_documents=num_documents, num_characters=num_bytes, num_bytes=num_bytes, largest=largest)


def test_one_long_text_is_cut_as_published() -> None:
    split = choose_split(survey_of(1, 1_115_394), DataSettings())
    assert (split.method, split.cut, 1_115_394 - split.cut) == ("cut", 1_003_854, 111_540)


def test_many_documents_are_chosen_by_hash() -> None:
    assert choose_split(survey_of(1000, 10**6), DataSettings()).method == "documents"
    assert choose_split(survey_of(79, 10**6), DataSettings()).method == "cut"


def test_a_giant_among_many_is_cut_instead_of_carried_over() -> None:
    assert choose_split(survey_of(1000, 10**6, largest=99_999), DataSettings()).method == "documents"
    split = choose_split(survey_of(1000, 10**6, largest=100_001), DataSettings())
    assert (split.method, split.cut) == ("cut", 900_000)


def test_the_held_out_text_is_capped_in_bytes() -> None:
    split = choose_split(survey_of(10**6, 10**9), DataSettings(valid_bytes=2_000_000))
    assert (split.method, split.fraction) == ("documents", 0.002)
    split = choose_split(survey_of(1, 10**9), DataSettings(valid_bytes=2_000_000))
    assert 10**9 - split.cut == 2_000_000


def test_tiny_texts_hold_nothing_out() -> None:
    assert choose_split(survey_of(1, 2), DataSettings()).method == "none"
    assert choose_split(survey_of(300, 1500), DataSettings()).method == "none"
    assert choose_split(survey_of(1000, 10**6), DataSettings(valid_fraction=0)).method == "none"
