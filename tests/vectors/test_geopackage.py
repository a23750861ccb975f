from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sat2map.vectors.geopackage import set_times


def test_when_and_how_often_a_file_was_written_does_not_show(tmp_path: Path) -> None:
    made = []
    for writes in (1, 3):
        path = tmp_path / f"{writes}.gpkg"
        with closing(sqlite3.connect(path)) as database:
            database.execute("create table gpkg_contents (last_change text)")
            database.execute("insert into gpkg_contents values ('')")
            for minute in range(writes):
                with database:
                    time = f"2026-11-29T08:0{minute}:00.000Z"
                    database.execute("update gpkg_contents set last_change = ?", (time,))
        made.append(path.read_bytes())
        set_times(path)
        with closing(sqlite3.connect(path)) as database:
            ((checked,),) = database.execute("pragma integrity_check").fetchall()
        assert checked == "ok"
    assert made[0] != made[1]
    assert (tmp_path / "1.gpkg").read_bytes() == (tmp_path / "3.gpkg").read_bytes()
