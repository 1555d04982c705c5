"""The mutation harness tells apart what it must tell apart."""

from __future__ import annotations

from tests.support.child import misbehave, run_over, tally
from tests.support.mutate import mutant, mutants


def test_each_fate_has_its_name() -> None:
    given = [b"fine", b"abort", b"hang", b"grow", b"reject", b"raise", b"peak", b"fine again"]
    outcomes = run_over(misbehave, [(how.decode(), how) for how in given], file_name="how", memory_bytes=200 << 20, timeout_s=1.0)
    assert [outcome.status for outcome in outcomes] == ["ok", "died", "hung", "memory", "rejected", "error", "memory", "ok"], tally(outcomes)
    assert [outcomes[0].result, outcomes[-1].result] == [4, 10]
    assert outcomes[1].detail == "SIGABRT"
    assert outcomes[4].detail == "file: expected sense, found nonsense"
    assert "KeyError: 'boom'" in outcomes[5].detail
    assert "died 1" in tally(outcomes)
    assert "died abort: SIGABRT" in tally(outcomes)


def test_mutants_are_the_same_each_time_and_never_the_original() -> None:
    data = bytes(range(256)) * 40
    first = list(mutants(data, 64, seed=3))
    assert first == list(mutants(data, 64, seed=3))
    assert first[13] == mutant(data, 3, 13)
    assert first != list(mutants(data, 64, seed=4))
    assert all(broken != data for _, broken in first)
    kinds = {name.split("-", 1)[1].split("@")[0].split("+")[0] for name, _ in first}
    assert {"truncate", "flip", "int", "zero", "grow", "swap", "scatter", "noise", "insert", "extend", "remove", "float"} <= kinds
    assert any(kind.startswith("copy") for kind in kinds)


def test_tiny_and_empty_files_can_be_broken_too() -> None:
    assert [len(broken) for _, broken in mutants(b"", 3, seed=0)] == [0, 1, 2]
    assert len(list(mutants(b"ab", 40, seed=0))) == 40
