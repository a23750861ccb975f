"""What outputs say of their making: whole, the same for the same work, and without secrets."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sat2map import provenance
from sat2map.errors import DataError
from sat2map.provenance import Digests, Ingredient, Provenance, fingerprint_files

MADE = Provenance(
    "image",
    Ingredient("town.tif", "ab" * 16),
    Ingredient("streets", "cd" * 16, "CC0-1.0"),
    {"mode": "deterministic", "window": 1024, "reading": {"bands": None}},
    "openvino 2026.4.1 on cpu, GDAL 3.10.3",
    "int8",
    "0.1.0",
    attribution="© somebody",
)


def test_it_comes_back_whole() -> None:
    vectors = replace(MADE, layer="vectors", model=None, runtime=None, made_from=MADE)
    for made in (MADE, vectors):
        assert Provenance.from_text(made.to_text(), "file") == made
    assert len(MADE.to_text().splitlines()) == 1
    assert Provenance.from_text(None, "file") is None


def test_a_name_that_is_not_utf_8_is_written_as_far_as_it_is() -> None:
    made = replace(MADE, source=Ingredient("caf\udce9.tif", "ab" * 16))
    for text in (made.to_text(), made.to_ascii()):
        text.encode()
        found = Provenance.from_text(text, "file")
        assert found is not None
        assert found.source.name == "caf\ufffd.tif"


def _without(key: str) -> str:
    return json.dumps({name: value for name, value in MADE.to_json().items() if name != key})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 1}',
        _without("source"),
        _without("settings_fingerprint"),
        MADE.to_text().replace("1024", "512"),
        MADE.to_text().replace('"name"', '"nome"'),
        "[" * 100_000,
    ],
)
def test_what_is_damaged_is_one_line(text: str) -> None:
    with pytest.raises(DataError, match=r"^map\.tif: is damaged where it says .* Make it anew"):
        Provenance.from_text(text, "map.tif")


def test_a_later_version_is_named() -> None:
    with pytest.raises(DataError, match=r"a later version's words.*Upgrade"):
        Provenance.from_text(MADE.to_text().replace('"format": 1', '"format": 2'), "map.tif")


def test_people_read_what_was_chosen() -> None:
    lines = replace(MADE, layer="vectors", made_from=MADE).describe().splitlines()
    assert lines[:3] == [
        "holds               vectors",
        f"made of             town.tif ({'ab' * 16})",
        f"by model            streets ({'cd' * 16})",
    ]
    assert any("mode deterministic, window 1024 (" in line for line in lines)
    assert not any("bands" in line for line in lines), "nobody chose them"
    assert "town.tif says:" in lines


def test_a_fingerprint_is_of_contents_alone(tmp_path: Path) -> None:
    one, other = tmp_path / "a.tif", tmp_path / "b.tif"
    one.write_bytes(b"pixels")
    before = fingerprint_files([one])
    one.rename(other)
    beside = tmp_path / "b.tif.aux.xml"
    beside.write_text("statistics")
    assert fingerprint_files([other, beside]) == before
    other.write_bytes(b"pixelz")
    assert fingerprint_files([other]) != before


def test_contents_are_read_once_while_size_and_time_stay(tmp_path: Path, monkeypatch: Any) -> None:
    file, read = tmp_path / "photo.tif", []
    file.write_bytes(b"pixels")

    def digest(opened: Any, name: str) -> Any:
        read.append(opened.name)
        time.sleep(0.05)  # so that the others come meanwhile
        return hashlib.new(name, opened.read())

    monkeypatch.setattr(hashlib, "file_digest", digest)
    digests = Digests()
    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(lambda _: fingerprint_files([file], digests), range(8)))
    assert found == {fingerprint_files([file], pickle.loads(pickle.dumps(digests)))}
    assert len(read) == 2  # once, and once in what another process would have
    file.write_bytes(b"others")
    os.utime(file, ns=(0, 0))
    assert fingerprint_files([file], digests) not in found
    file.unlink()
    assert fingerprint_files([file], digests) not in found


def test_a_large_file_is_known_by_parts_of_it(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(provenance, "WHOLE", 1000)
    monkeypatch.setattr(provenance, "_SAMPLE", 10)
    file = tmp_path / "large.tif"
    file.write_bytes(bytes(range(250)) * 20)
    before = fingerprint_files([file])
    assert fingerprint_files([file]) == before
    file.write_bytes(bytes(range(250)) * 19 + bytes(249) + b"!")
    assert fingerprint_files([file]) != before, "the end is looked at"
    file.write_bytes(bytes(range(250)) * 20 + b"!")
    assert fingerprint_files([file]) != before, "and the size"
