"""What Redis is asked to do in one step, and how its answers are read."""

from __future__ import annotations

from typing import Any

from redis.exceptions import RedisError

# One MGET, answered in one piece: the length of each value, or -1, then all values. redis-py executes more
# byte code for each value of a list than all else that reads a value of ours.
READ = """
    local stored = redis.call('MGET', unpack(KEYS))
    local sizes = {}
    for place = 1, #KEYS do
        sizes[place] = stored[place] and #stored[place] or -1
        stored[place] = stored[place] or ''
    end
    return table.concat(sizes, ' ') .. '\\n' .. table.concat(stored)
"""

# Replaces the value of each key only if that is older, has not the form of a value, or has this digest,
# because a reader has found it to be wrong. Then reads the key back: the answer has a 1 for each key that
# holds our very value, a 0 for each other one, and what those others hold. A value that stands there need not
# travel back: reading it took the process as long as writing it. Nothing is written for an empty value. GET
# of a key with another type is an error; SET replaces any type.
REPLACE_OLDER = """
    local held, others = {}, {}
    for place, key in ipairs(KEYS) do
        local value, wrong = ARGV[2 * place], ARGV[2 * place + 1]
        local stored = redis.pcall('GET', key)
        local newer = false
        if type(stored) == 'string' and redis.sha1hex(stored) ~= wrong then
            local version, written_at = string.match(stored, '^(%d+) (%d+) ')
            if version then
                local ours, ours_written_at = string.match(value, '^(%d+) (%d+) ')
                version, ours = tonumber(version), tonumber(ours)
                newer = value == '' or version > ours
                    or (version == ours and tonumber(written_at) >= tonumber(ours_written_at))
            end
        end
        if value ~= '' and not newer then
            redis.call('SET', key, value, 'PX', ARGV[1])
        end
        stored = redis.pcall('GET', key)
        if value ~= '' and stored == value then
            held[place] = '1'
        else
            held[place] = '0'
            others[#others + 1] = type(stored) == 'string' and stored
        end
    end
    return {table.concat(held), others}
"""

# Removes the stored value only if it has this digest.
REMOVE_SAME = """
    local stored = redis.pcall('GET', KEYS[1])
    if type(stored) ~= 'string' or redis.sha1hex(stored) ~= ARGV[1] then
        return 0
    end
    return redis.call('DEL', KEYS[1])
"""


def values_of(answer: Any, count: int) -> list[bytes | None]:
    """The answer to READ. Raises RedisError if it is none: something else than Redis may have answered."""
    try:
        head, _, body = answer.partition(b"\n")
        sizes = [int(size) for size in head.split(b" ")]
    except (AttributeError, TypeError, ValueError):
        sizes, body = [], b""
    values: list[bytes | None] = []
    begin = 0
    for size in sizes:
        values.append(body[begin : begin + size] if size >= 0 else None)
        begin += max(size, 0)
    if len(values) != count or begin != len(body):
        raise RedisError("this is not the answer to a reading")
    return values


def read_back_of(answer: Any, count: int) -> tuple[list[bool], list[bytes | None]]:
    """The answer to REPLACE_OLDER: which keys hold what was written, and what the others hold."""
    match answer:
        case [bytes(held), [*others]] if (
            len(held) == count and not held.strip(b"01") and len(others) == held.count(b"0")
        ):
            return [each == b"1"[0] for each in held], others
    raise RedisError("this is not the answer to a write")
