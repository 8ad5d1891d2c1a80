-- Claim work for one consumer: one abandoned entry if there is any, alone (so that innocents do not share a culprit's fate), else new ones
-- until they hold the wanted lines. The first claim of a task takes the bell down; every claim puts it up again where work remains.
-- KEYS: ledger stream, bell token
-- ARGV: group, consumer, wanted lines, abandoned after ms, bell lifetime in ms, "1" to take the bell down
-- Returns {bell won, deliveries, {entry id, {field, value, ...}} per entry}.
local stream, bell = KEYS[1], KEYS[2]
local group, consumer, wanted, abandoned_ms = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local claimed, deliveries, lines = {}, 1, 0

if ARGV[6] == '1' then
    redis.call('DEL', bell)
end
-- Not XAUTOCLAIM: it looks at ten pending entries a call, and would not find one behind ten that are being worked on.
for _, abandoned in ipairs(redis.call('XPENDING', stream, group, 'IDLE', abandoned_ms, '-', '+', 1)) do
    local entry = redis.call('XCLAIM', stream, group, consumer, abandoned_ms, abandoned[1])[1]
    -- Redis 6.2 returns an entry that was deleted meanwhile as nil
    if entry and entry[2] then
        claimed[1] = entry
        deliveries = abandoned[4] + 1
    end
end
while #claimed == 0 or (deliveries == 1 and lines < wanted) do
    local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
    if not reply then
        break
    end
    local entry = reply[1][2][1]
    claimed[#claimed + 1] = entry
    lines = lines + tonumber(entry[2][2]) -- the first field of an entry is its line count
end
local waiting = redis.call('XLEN', stream) - redis.call('XPENDING', stream, group)[1]
local won = waiting > 0 and redis.call('SET', bell, '1', 'NX', 'PX', ARGV[5])
return {won and 1 or 0, deliveries, claimed}
