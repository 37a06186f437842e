"""RemoveIdentities: nodes that pass their input on go, unless that would lose a name."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import pytest

from csscc.passes.canonical.remove_identities import RemoveIdentities
from tests.helpers import assert_same_network, names, network_of, ops, parse, settles


def _between(node: str, extra: str = "") -> str:
    return f"g (float[N,1,4,4] x) => (float[N,1,4,4] y) {extra} {{ a = Relu(x) {node} y = Neg(b) }}"


@pytest.mark.parametrize(
    "text",
    [
        _between("b = Identity(a)"),
        _between("b = Dropout(a)"),
        _between("b = Dropout(a, ratio, training)", "<float ratio = {0.5}, bool training = {0}>"),
        _between("b = Cast <to = 1> (a)"),
        _between("b = Pad(a, pads)", "<int64[8] pads = {0,0,0,0,0,0,0,0}>"),
        _between("b = Concat <axis = 1> (a)"),
        _between("b = Slice(a, s, e, k, p)", "<int64[2] s = {0, 0}, int64[2] e = {1000000000, 4}, int64[2] k = {0, 3}, int64[2] p = {1, 1}>"),
        _between("b = Slice(a, s, e)", "<int64[2] s = {0, 0}, int64[2] e = {9223372036854775807, 2147483647}>"),
    ],
)
def test_removes(text):
    model = parse(text)
    network = network_of(model)
    assert settles(RemoveIdentities(), network)
    assert ops(network) == ["Relu", "Neg"]
    assert_same_network(model, network)


@pytest.mark.parametrize(
    "text",
    [
        _between("c = Cast <to = 7> (a) b = Cast <to = 1> (c)"),
        "g (float[N,1,4,4] x) => (float[N,1,4,5] y) <int64[8] pads = {0,0,0,0,0,0,0,1}> { y = Pad(x, pads) }",
        "g (float[N,1,4,4] x) => (float[N,2,4,4] y) { y = Concat <axis = 1> (x, x) }",
        "g (float[N,4] x) => (float[N,3] y) <int64[2] s = {0, 1}, int64[2] e = {2147483647, 4}> { y = Slice(x, s, e) }",
        "g (float[N,4] x) => (float[N,3] y) <int64[2] s = {0, 0}, int64[2] e = {2147483647, 3}> { y = Slice(x, s, e) }",
        "g (float[N,4] x) => (float[M,4] y) <int64[1] s = {0}, int64[1] e = {2}> { y = Slice(x, s, e) }",
        "g (float[N,4] x) => (float[N,2] y) <int64[1] s = {0}, int64[1] e = {4}, int64[1] a = {1}, int64[1] p = {2}> { y = Slice(x, s, e, a, p) }",
    ],
)
def test_keeps_what_does_something(text):
    model = parse(text)
    network = network_of(model)
    before = ops(network)
    assert RemoveIdentities().apply(network) == 0
    assert ops(network) == before
    assert_same_network(model, network)


def test_keeps_a_dropout_in_training_mode():
    text = _between("b = Dropout(a, ratio, training)", "<float ratio = {0.5}, bool training = {1}>")
    network = network_of(parse(text))
    assert RemoveIdentities().apply(network) == 0


def test_keeps_a_dropout_whose_mask_is_read():
    model = parse(
        "g (float[N,4] x) => (float[N,4] y, bool[N,4] kept) { a = Relu(x) b, mask = Dropout(a) kept = Not(mask) y = Neg(b) }"
    )
    network = network_of(model)
    assert RemoveIdentities().apply(network) == 0
    assert_same_network(model, network)


def test_keeps_a_dropout_whose_mask_is_an_output():
    model = parse("g (float[N,4] x) => (float[N,4] y, bool[N,4] mask) { a = Relu(x) b, mask = Dropout(a) y = Neg(b) }")
    network = network_of(model)
    assert RemoveIdentities().apply(network) == 0
    assert_same_network(model, network)


def test_keeps_an_identity_between_input_and_output():
    model = parse("g (float[N,4] x) => (float[N,4] y) { y = Identity(x) }")
    network = network_of(model)
    assert RemoveIdentities().apply(network) == 0
    assert_same_network(model, network)


def test_keeps_an_identity_between_two_outputs():
    model = parse("g (float[N,4] x) => (float[N,4] a, float[N,4] y) { a = Relu(x) y = Identity(a) }")
    network = network_of(model)
    assert RemoveIdentities().apply(network) == 0
    assert_same_network(model, network)


def test_an_output_keeps_its_name_when_its_identity_goes():
    model = parse("g (float[N,4] x) => (float[N,4] y, float[N,4] z) { a = Relu(x) z = Neg(a) y = Identity(a) }")
    network = network_of(model)
    assert settles(RemoveIdentities(), network)
    assert sorted(ops(network)) == ["Neg", "Relu"]
    assert names(network.graph.outputs) == ["y", "z"]
    assert_same_network(model, network)


def test_one_part_of_a_split_keeps_its_place():
    model = parse("""
    g (float[N,4] x) => (float[N,2] y, float[N,2] z)
    { a, b = Split <axis = 1, num_outputs = 2> (x) y = Identity(b) z = Neg(a) }
    """)
    network = network_of(model)
    assert settles(RemoveIdentities(), network)
    assert_same_network(model, network)


def test_a_chain_of_identities():
    model = parse("""
    g (float[N,4] x) => (float[N,4] y)
    { a = Identity(x) b = Dropout(a) c = Relu(b) d = Identity(c) e = Cast <to = 1> (d) y = Identity(e) }
    """)
    network = network_of(model)
    assert settles(RemoveIdentities(), network)
    assert ops(network) == ["Relu"]
    assert_same_network(model, network)
