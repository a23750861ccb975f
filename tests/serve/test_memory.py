from __future__ import annotations

from sat2map.serve.memory import RecentMemory


def test_what_was_not_used_for_the_longest_time_is_forgotten_first() -> None:
    memory: RecentMemory[bytes] = RecentMemory(10, len)
    memory.put("a", b"1234")
    memory.put("b", b"1234")
    assert memory.get("a") == b"1234"
    memory.put("c", b"1234")
    assert [memory.get(key) for key in "abc"] == [b"1234", None, b"1234"]
    memory.put("a", b"123456")  # in place of the other, so both still fit
    assert [memory.get(key) for key in "ac"] == [b"123456", b"1234"]
    memory.put("d", b"x" * 20)  # larger than all that is kept, and alone
    assert [len(memory.get(key) or b"") for key in "acd"] == [0, 0, 20]
