"""The steps that the server takes as one, in Lua.

A *gauge* is a hash beside a sorted set. In the set are the holds: `id:amount`, by the time when their lease
ends; `held` of the hash is the sum of their amounts. Both end together, some time after the last lease.

Times are microseconds since November 2023 by the server's clock: since 1970, a double could not tell half
microseconds.
"""

from __future__ import annotations

from ghostllm.cluster.link import Script

MINUTE = 60_000_000  # microseconds

_COMMON = """
local function clock()
  local t = redis.call('TIME')
  return (tonumber(t[1]) - 1700000000) * 1000000 + tonumber(t[2])
end
local function drop(gauge, holds, member, amount)
  if redis.call('ZREM', holds, member) == 1 then
    redis.call('HINCRBY', gauge, 'held', string.format('%.0f', 0 - tonumber(amount)))
  end
end
local function free_the_dead(gauge, holds, now)
  local dead = redis.call('ZRANGEBYSCORE', holds, '-inf', string.format('%.0f', now))
  for _, member in ipairs(dead) do
    drop(gauge, holds, member, string.match(member, ':(%d+)$'))
  end
end
local function field(gauge, name)
  return tonumber(redis.call('HGET', gauge, name) or '0')
end
local function touch(gauge, holds, keep)
  redis.call('PEXPIRE', gauge, keep)
  redis.call('PEXPIRE', holds, keep)
end
"""

RESERVE = Script(
    _COMMON
    + """
-- KEYS: gauge, holds of each subject. ARGV: id, tokens, lease and keep in ms, then of each subject its limits
-- of requests and tokens a minute and at one time, -1 where there is none. Gives {1, then of each: requests
-- left, microseconds until all are, tokens left, the same} or {0, subject (from 0), which limit, microseconds
-- to wait, -1 if that helps nothing}.
local now = clock()
local id, cost, lease, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local minute = 60000000
local rows = {}
for i = 1, #KEYS / 2 do
  local gauge, holds = KEYS[2 * i - 1], KEYS[2 * i]
  local requests, tokens = tonumber(ARGV[2 + 3 * i]), tonumber(ARGV[3 + 3 * i])
  local slots = tonumber(ARGV[4 + 3 * i])
  free_the_dead(gauge, holds, now)
  local row = {gauge, holds, requests, tokens, 0, 0, 0}
  if slots >= 0 and redis.call('ZCARD', holds) >= slots then
    return {0, i - 1, 'concurrent', -1}
  end
  if requests >= 0 then
    local step = minute / math.max(requests, 1)
    row[5] = math.max(field(gauge, 'requests'), now) + step
    local wait = row[5] - minute - now
    if requests == 0 then return {0, i - 1, 'requests', -1} end
    if wait > math.min(0.5, step / 2) then return {0, i - 1, 'requests', math.ceil(wait)} end
  end
  if tokens >= 0 then
    if cost > tokens or tokens == 0 then return {0, i - 1, 'tokens', -1} end
    local step = minute / tokens
    row[6] = math.max(field(gauge, 'tokens'), now)
    row[7] = math.max(field(gauge, 'held'), 0) + cost
    local wait = row[6] + row[7] * step - minute - now
    if wait > math.min(0.5, step / 2) then return {0, i - 1, 'tokens', math.ceil(wait)} end
  end
  rows[i] = row
end
local out = {1}
for _, row in ipairs(rows) do
  local gauge, holds, requests, tokens = row[1], row[2], row[3], row[4]
  redis.call('ZADD', holds, string.format('%.0f', now + lease * 1000), id .. ':' .. ARGV[2])
  redis.call('HINCRBY', gauge, 'held', ARGV[2])
  local left = {-1, 0, -1, 0}
  if requests >= 0 then
    redis.call('HSET', gauge, 'requests', string.format('%.3f', row[5]))
    left[1] = math.floor((now + minute - row[5]) / minute * requests + 0.001)
    left[2] = math.ceil(row[5] - now)
  end
  if tokens >= 0 then
    local used = (row[6] - now) / minute * tokens + row[7]
    left[3] = math.max(0, math.floor(tokens - used + 0.001))
    left[4] = math.ceil(used / tokens * minute)
  end
  touch(gauge, holds, keep)
  for _, figure in ipairs(left) do out[#out + 1] = figure end
end
return out
"""
)

SETTLE = Script(
    _COMMON
    + """
-- KEYS as above. ARGV: id, tokens held, tokens used, keep in ms, then of each subject its tokens a minute or
-- -1.
local now = clock()
for i = 1, #KEYS / 2 do
  local gauge, holds, tokens = KEYS[2 * i - 1], KEYS[2 * i], tonumber(ARGV[4 + i])
  drop(gauge, holds, ARGV[1] .. ':' .. ARGV[2], ARGV[2])
  local keep = tonumber(ARGV[4])
  if tokens > 0 then
    local at = math.max(field(gauge, 'tokens'), now) + tonumber(ARGV[3]) * 60000000 / tokens
    redis.call('HSET', gauge, 'tokens', string.format('%.3f', at))
    keep = math.max(keep, math.ceil((at - now) / 1000))
  end
  touch(gauge, holds, keep)
end
return 1
"""
)

RENEW = Script(
    _COMMON
    + """
-- KEYS: gauge, holds of each hold. ARGV: lease and keep in ms, keep 0 where they end at a time of their own,
-- then of each hold its id:amount.
local now = clock()
for i = 1, #KEYS / 2 do
  local gauge, holds = KEYS[2 * i - 1], KEYS[2 * i]
  redis.call('ZADD', holds, 'XX', string.format('%.0f', now + ARGV[1] * 1000), ARGV[2 + i])
  if redis.call('PTTL', holds) < tonumber(ARGV[2]) then touch(gauge, holds, ARGV[2]) end
end
return 1
"""
)

SPEND = Script(
    _COMMON
    + """
-- KEYS: gauge, holds of each budget. ARGV: id, amount, lease in ms, then of each its limit or -1, and the
-- second since 1970 when it may be forgotten. Gives {-1, then what each has spent} or {budget (from 0),
-- spent, held}.
local now = clock()
for i = 1, #KEYS / 2 do
  local gauge, holds, limit = KEYS[2 * i - 1], KEYS[2 * i], tonumber(ARGV[2 + 2 * i])
  free_the_dead(gauge, holds, now)
  local spent, held = field(gauge, 'spent'), math.max(field(gauge, 'held'), 0)
  if limit >= 0 and (spent >= limit or spent + held + tonumber(ARGV[2]) > limit) then
    return {i - 1, string.format('%.0f', spent), string.format('%.0f', held)}
  end
end
local out = {-1}
for i = 1, #KEYS / 2 do
  local gauge, holds = KEYS[2 * i - 1], KEYS[2 * i]
  redis.call('ZADD', holds, string.format('%.0f', now + ARGV[3] * 1000), ARGV[1] .. ':' .. ARGV[2])
  redis.call('HINCRBY', gauge, 'held', ARGV[2])
  redis.call('EXPIREAT', gauge, ARGV[3 + 2 * i])
  redis.call('EXPIREAT', holds, ARGV[3 + 2 * i])
  out[i + 1] = redis.call('HGET', gauge, 'spent') or '0'
end
return out
"""
)

SPENT = Script(
    _COMMON
    + """
-- KEYS: gauge, holds of each budget. ARGV: id, amount held, amount spent, then of each when it may be
-- forgotten.
for i = 1, #KEYS / 2 do
  local gauge, holds = KEYS[2 * i - 1], KEYS[2 * i]
  drop(gauge, holds, ARGV[1] .. ':' .. ARGV[2], ARGV[2])
  redis.call('HINCRBY', gauge, 'spent', ARGV[3])
  redis.call('EXPIREAT', gauge, ARGV[3 + i])
end
return 1
"""
)

RAISE = Script(
    """
-- KEYS: gauge of a budget. ARGV: at least so much is spent, when it may be forgotten. For a server that lost
-- it.
local spent = tonumber(redis.call('HGET', KEYS[1], 'spent') or '0')
if spent < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'spent', ARGV[1]) end
redis.call('EXPIREAT', KEYS[1], ARGV[2])
return redis.call('HGET', KEYS[1], 'spent') or '0'
"""
)

POST = Script(
    """
-- KEYS: entries, version. ARGV: channel, name, value, milliseconds that it counts, most entries.
-- An entry is `until:value`; those that no longer count go when there are too many.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
redis.call('HSET', KEYS[1], ARGV[2], string.format('%.0f', now + ARGV[4]) .. ':' .. ARGV[3])
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[5]) then
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    if tonumber(string.match(all[i + 1], '^%d+')) <= now then redis.call('HDEL', KEYS[1], all[i]) end
  end
end
local version = redis.call('INCR', KEYS[2])
redis.call('PUBLISH', ARGV[1], string.format('%.0f', version) .. ' ' .. ARGV[2])
return version
"""
)

READ = Script(
    """
-- KEYS: entries, version. ARGV: names. Gives {version, milliseconds now, name, entry, ...}.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local out = {redis.call('GET', KEYS[2]) or '0', string.format('%.0f', now)}
for _, name in ipairs(ARGV) do
  local entry = redis.call('HGET', KEYS[1], name)
  if entry then
    out[#out + 1] = name
    out[#out + 1] = entry
  end
end
return out
"""
)
