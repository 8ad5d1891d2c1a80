-- Keep claimed entries while a long batch is worked on: reset their idle time without counting a delivery, but only those still ours.
-- KEYS: ledger stream   ARGV: group, consumer, entry id ...   Returns the number still held.
local held = 0
for at = 3, #ARGV do
    local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[at], ARGV[at], 1)[1]
    if pending and pending[2] == ARGV[2] then
        redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[at], 'JUSTID')
        held = held + 1
    end
end
return held
