-- Ring where work waits and no bell is up: what makes a lost bell, a dead worker or a restarted Redis cost nothing.
-- KEYS: ledger stream, bell token, critical stream, dead-letter stream
-- ARGV: group, abandoned after ms, bell lifetime in ms, a consumer is forgotten after ms, critical lines and dead letters are kept for ms
-- Returns 1 if the caller must ring. Forgets consumers of dead processes, but never one that still holds entries: deleting it would discard them.
local stream, bell, group = KEYS[1], KEYS[2], ARGV[1]
-- First, since it also makes room. Not `~`: that would keep up to a hundred lines for as long as no more come.
local oldest = string.format('%d', redis.call('TIME')[1] * 1000 - ARGV[5])
redis.call('XTRIM', KEYS[3], 'MINID', oldest)
redis.call('XTRIM', KEYS[4], 'MINID', oldest)
if redis.call('EXISTS', stream) == 0 then
    return 0
end
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local name, pending, idle
    for at = 1, #info, 2 do
        if info[at] == 'name' then name = info[at + 1] end
        if info[at] == 'pending' then pending = info[at + 1] end
        if info[at] == 'idle' then idle = info[at + 1] end
    end
    if pending == 0 and idle > tonumber(ARGV[4]) then
        redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
    end
end
local waiting = redis.call('XLEN', stream) - redis.call('XPENDING', stream, group)[1]
local abandoned = redis.call('XPENDING', stream, group, 'IDLE', ARGV[2], '-', '+', 1)
if (waiting > 0 or #abandoned > 0) and redis.call('SET', bell, '1', 'NX', 'PX', ARGV[3]) then
    return 1
end
return 0
