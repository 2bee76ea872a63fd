from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import CorruptFileError, RequestError
from pellucid.lens.tree import Tree, dump, parse


@st.composite
def trees(draw) -> Tree:
    """Trees of one or two prompts, grown at any node."""
    tree = Tree()
    for prompt in draw(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), min_size=1, max_size=2)):
        tree.plant(prompt)
    for _ in range(draw(st.integers(0, 12))):
        parent = draw(st.integers(0, len(tree.nodes) - 1))
        made_by = draw(st.sampled_from(["drawn", "chosen", "beam"]))
        u = draw(st.none() | st.floats(0, 1, exclude_max=True))
        tree.add(parent, draw(st.integers(0, 3)), made_by=made_by, logprob=-draw(st.floats(0, 20)), u=u)
    return tree


@given(trees())
def test_a_saved_tree_is_the_same_tree(tree: Tree) -> None:
    again, told = parse(dump(tree, {"tokenizer_sha256": "ab"}))
    assert again.nodes == tree.nodes and again.current == tree.current and told["tokenizer_sha256"] == "ab"
    for node in tree.nodes:
        assert again.text_ids(node.id) == tree.text_ids(node.id)


@given(trees())
def test_a_text_is_a_node_and_a_node_is_a_text(tree: Tree) -> None:
    texts = {tree.path(node.id)[0].id: [] for node in tree.nodes}
    for node in tree.nodes:
        texts[tree.path(node.id)[0].id].append(tree.text_ids(node.id))
    for found in texts.values():
        assert len(set(found)) == len(found)


@given(trees(), st.data())
def test_the_version_changes_with_whatever_is_seen(tree: Tree, data) -> None:
    before = tree.version, tree.current
    node = data.draw(st.integers(0, len(tree.nodes) - 1))
    tree.go(node)
    assert (tree.version == before[0]) == (node == before[1])


def test_undo_goes_back_and_deletes_nothing() -> None:
    tree = Tree()
    tree.plant([1, 2])
    tree.add(0, 3, made_by="drawn", logprob=-1.0)
    assert tree.undo().id == 0 and len(tree.nodes) == 2
    with pytest.raises(RequestError, match="no token to take back"):
        tree.undo()


def test_a_second_prompt_is_a_second_root_and_the_same_prompt_is_not() -> None:
    tree = Tree()
    tree.plant([1])
    tree.add(0, 3, made_by="drawn", logprob=-1.0)
    assert tree.plant([2]).id == 2 and tree.plant([1]).id == 0 and tree.current == 0
    assert tree.text_ids(1) == (1, 3)


@pytest.mark.parametrize("node", [-1, 1, 0.0, None, "0"])
def test_a_number_that_no_node_has_is_named(node) -> None:
    tree = Tree()
    tree.plant([1])
    with pytest.raises(RequestError, match="no such node"):
        tree.go(node)


def broken(change) -> str:
    tree = Tree()
    tree.plant([1])
    tree.add(0, 3, made_by="drawn", logprob=-1.0)
    whole = json.loads(dump(tree, {}))
    change(whole)
    return json.dumps(whole)


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole.update(format="something else"),
        lambda whole: whole.update(version=2),
        lambda whole: whole.update(current=7),
        lambda whole: whole.pop("nodes"),
        lambda whole: whole["nodes"][1].update(parent=5),
        lambda whole: whole["nodes"][1].update(parent=1),
        lambda whole: whole["nodes"][1].update(parent=None),
        lambda whole: whole["nodes"][1].update(id=0),
        lambda whole: whole["nodes"][1].update(ids=[3, 4]),
        lambda whole: whole["nodes"][0].update(ids=[]),
        lambda whole: whole["nodes"][0].update(text=7),
        lambda whole: whole["nodes"][1].update(text="a"),
        lambda whole: whole["nodes"][1].update(made_by="magic"),
        lambda whole: whole["nodes"][1].update(colour="red"),
        lambda whole: whole["nodes"].append({**whole["nodes"][1], "id": 2}),
    ],
)
def test_a_file_that_is_no_tree_is_refused(change) -> None:
    with pytest.raises(CorruptFileError):
        parse(broken(change), where="branches.json")


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"format": "pellucid-branches"}'])
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(CorruptFileError):
        parse(text)
