"""Errors come whole out of another process."""

from __future__ import annotations

import pickle

from dataengine.core.errors import UnknownName


def test_an_unknown_name_comes_out_of_another_process_as_it_was() -> None:
    error = UnknownName("field", "acton", ["state", "action"])
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "unknown field 'acton': known: action, state, did you mean 'action'?"
    assert (again.what, again.name, again.known) == ("field", "acton", ["action", "state"])
