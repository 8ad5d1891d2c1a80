-- Commit claimed entries: count each exactly once. XACK is the judge: only the first commit of an entry gets 1, everything else follows from it.
-- XACK must be the first write: on a full Redis a script may begin with it, and may then go on writing.
-- A replayed dead letter was counted when it was set aside: it is judged and shown, adds to no total, and goes back unless a model judged it.
-- KEYS: ledger stream, totals hash, backlog counter, critical stream, dead-letter stream, replays hash, then the suspect key of each entry
-- ARGV: group, critical lines kept, dead letters kept, lifetime of verdicts in s, then per entry, flat: id, lines, critical, degraded,
--       n, n x (verdicts key, verdicts), n, n x critical line, n, n x dead letter
-- Returns 1 or 0 per entry: counted by this call, or before.
local stream, totals, backlog, critical_stream, dead_stream, replays = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local at, counted = 5, {}

local function take(width)
    local items = {}
    for _ = 1, tonumber(ARGV[at]) * width do
        at = at + 1
        items[#items + 1] = ARGV[at]
    end
    at = at + 1
    return items
end

while at <= #ARGV do
    local id, lines, critical, degraded = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    at = at + 4
    local verdicts, critical_lines, dead_letters = take(2), take(1), take(1)
    local first = redis.call('XACK', stream, ARGV[1], id)
    local letter = first == 1 and redis.call('HGET', replays, id)
    counted[#counted + 1] = letter and 0 or first
    if letter then
        redis.call('HDEL', replays, id)
        dead_letters = {}
        if degraded > 0 then
            critical_lines, dead_letters = {}, {letter}
        end
    elseif first == 1 then
        redis.call('HINCRBY', totals, 'critical', critical)
        if critical > 0 then
            redis.call('HSET', totals, 'last_critical', redis.call('TIME')[1])
        end
        redis.call('HINCRBY', totals, 'not_critical', lines - critical)
        if degraded > 0 then
            redis.call('HINCRBY', totals, 'degraded', degraded)
        end
        if #dead_letters > 0 then
            redis.call('HINCRBY', totals, 'dead', #dead_letters)
        end
    end
    if first == 1 then
        redis.call('DECRBY', backlog, lines)
        for item = 1, #verdicts, 2 do
            redis.call('SET', verdicts[item], verdicts[item + 1], 'EX', ARGV[4])
            redis.call('PUBLISH', verdicts[item], '1')
        end
        for _, line in ipairs(critical_lines) do
            redis.call('XADD', critical_stream, 'MAXLEN', '~', ARGV[2], '*', 'line', line)
        end
        for _, aside in ipairs(dead_letters) do
            redis.call('XADD', dead_stream, 'MAXLEN', '~', ARGV[3], '*', 'letter', aside)
        end
        redis.call('DEL', KEYS[6 + #counted])
        redis.call('XDEL', stream, id)
    end
end
return counted
