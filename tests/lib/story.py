# SPDX-License-Identifier: GPL-2.0-or-later
"""What the journal tells of one window, and nothing else: no property, no reply, no file of posternd's."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

LOG_H = (Path(__file__).parents[2] / "include/postern/log.h").read_text()
# MESSAGE_ID: "asked", "granted", …
KINDS = {ident: name.lower() for name, ident in re.findall(r'^#define MESSAGE_(\w+)\s+"([0-9a-f]{32})"', LOG_H, flags=re.M)}
IDS = {name: ident for ident, name in KINDS.items()}

Record = Mapping[str, str]


def kind(record: Record) -> str | None:
    return KINDS.get(record.get("MESSAGE_ID"))


def of_window(records: Iterable[Record], window: str) -> list[Record]:
    """Its own records, and before them those of the calls it came from."""
    records = list(records)
    own = [record for record in records if record.get("POSTERN_WINDOW") == window]
    requests = {record["POSTERN_REQUEST"] for record in own if "POSTERN_REQUEST" in record}
    return [record for record in records if record in own or record.get("POSTERN_REQUEST") in requests]


@dataclass
class Story:
    """Of a window that is closed. Times are CLOCK_REALTIME in microseconds."""

    profile: str
    ports: str
    asked_by: int
    asked_for_usec: int
    opened_at: int
    deadline: int
    closed_at: int
    gate: str | None
    exit_status: int
    result: str
    admitted: int
    hint: str | None
    kinds: list[str]
    joined_by: list[int] = field(default_factory=list)
    output: list[str] = field(default_factory=list)


def tell(records: Iterable[Record], window: str) -> Story:
    told = of_window(records, window)

    def only(name: str) -> Record:
        (record,) = (record for record in told if kind(record) == name and not is_of_joiner(record))
        return record

    joiners = {record["POSTERN_REQUEST"]: int(record["POSTERN_UID"]) for record in told if kind(record) == "joined"}

    def is_of_joiner(record: Record) -> bool:
        return record.get("POSTERN_REQUEST") in joiners

    asked, granted, opened, ended, closed = map(only, ("asked", "granted", "opened", "run_ended", "closed"))
    story = [asked, granted, opened, ended, closed]
    for name in ("POSTERN_PROFILE", "POSTERN_REQUEST", "POSTERN_UID", "POSTERN_PORTS", "POSTERN_DURATION_USEC"):
        assert len({record[name] for record in story}) == 1, f"they do not agree on {name}: {story}"
    for name in ("POSTERN_OPENED_AT_USEC", "POSTERN_DEADLINE_USEC"):
        assert opened[name] == ended[name] == closed[name]
    assert {record["POSTERN_ACTION"] for record in (asked, granted)} == {"org.postern.renewal1.request-window"}
    return Story(
        profile=asked["POSTERN_PROFILE"],
        ports=asked["POSTERN_PORTS"],
        asked_by=int(asked["POSTERN_UID"]),
        asked_for_usec=int(asked["POSTERN_DURATION_USEC"]),
        opened_at=int(opened["POSTERN_OPENED_AT_USEC"]),
        deadline=int(opened["POSTERN_DEADLINE_USEC"]),
        closed_at=int(closed["POSTERN_CLOSED_AT_USEC"]),
        gate=opened.get("POSTERN_GATE"),
        exit_status=int(closed["POSTERN_EXIT_STATUS"]),
        result=closed["POSTERN_RESULT"],
        admitted=int(closed["POSTERN_ADMITTED"]),
        hint=closed.get("POSTERN_HINT"),
        kinds=[kind(record) for record in told if kind(record)],
        joined_by=list(joiners.values()),
        output=[record["MESSAGE"] for record in told if kind(record) == "output"],
    )
