"""The list of task groups of dashboards: states, filter, retrying and cancelling."""

from __future__ import annotations

import pytest

from nbqueue.client.client import Client
from nbqueue.dashboard.group_list import GroupList
from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.tables.table_model import READ_ONLY
from nbqueue.errors import UsageError


def test_groups_are_listed_filtered_and_cancelled(client: Client) -> None:
    first = client.options(name="sweep").map(abs, range(3))
    second = client.options(queue="gpu").map(divmod, [1, 2], [1, 2])
    groups = GroupList(Scope(client))
    groups.read()
    assert [(row.key, row.name, row.state) for row in groups.rows] == [
        (second.id, "divmod", "running"),
        (first.id, "sweep", "running"),
    ]
    groups.filter(text="swe")
    groups.read()
    [row] = groups.rows
    assert (row.total, row.done, row.function, row.is_complete) == (3, 0, "abs", True)
    retry, cancel = groups.row_actions(row)
    assert (retry.is_enabled, cancel.is_enabled) == (False, True)
    assert groups.act("cancel", {row.key}) == "3 tasks of sweep cancelled"
    groups.read()
    [row] = groups.rows
    assert (row.state, row.done, row.cancelled) == ("cancelled", 3, 3)
    assert groups.act("retry", {row.key}) == "0 tasks of sweep run again"
    assert "no longer in the store" in groups.act("retry", {"gone"})
    with pytest.raises(UsageError):
        groups.act("delete", {row.key})
    assert GroupList(Scope(client, read_only=True)).act("cancel", {second.id}) == READ_ONLY
    only = GroupList(Scope(client, ("gpu",)))
    only.read()
    assert [row.key for row in only.rows] == [second.id]
    assert only.csv().text.splitlines()[0].startswith("name,state,function,queue,done")
