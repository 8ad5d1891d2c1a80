-- Take lines off the ledger that nobody counted yet: their entry goes, and what is left of it comes back as a new one. XDEL is the judge: an entry
-- is in the stream until it is counted, and whoever holds it claimed finds at its commit that it is gone.
-- KEYS: ledger stream, backlog counter, totals hash, replays hash, suspect key of the entry
-- ARGV: group, entry id, lines erased, lines left, then per request that has lines left: payload
-- Returns 1, or 0 where the entry was counted meanwhile.
local stream, erased, left = KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('XDEL', stream, ARGV[2]) == 0 then
    return 0
end
redis.call('XACK', stream, ARGV[1], ARGV[2])
redis.call('DEL', KEYS[5])
redis.call('DECRBY', KEYS[2], erased)
if redis.call('HDEL', KEYS[4], ARGV[2]) == 0 then -- a replayed line was counted before
    redis.call('HINCRBY', KEYS[3], 'forgotten', erased)
end
if left > 0 then
    local fields = {}
    for at = 5, #ARGV do
        fields[#fields + 1] = tostring(at - 5)
        fields[#fields + 1] = ARGV[at]
    end
    redis.call('XADD', stream, '*', 'lines', left, unpack(fields))
end
return 1
