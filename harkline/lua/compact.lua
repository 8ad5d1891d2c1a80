-- Copy a stream (one without groups) portion by portion, and at the end put the copy in its place: XDEL and XTRIM only mark an entry, and its bytes
-- stay in memory, and in every file that Redis writes, until all entries of its node are gone.
-- EXPIRE must be the first write: on a full Redis a script may begin with it, and may then go on writing.
-- KEYS: stream, its copy   ARGV: entries of a portion, lifetime of an unfinished copy in s
-- Returns 0 while there is more to copy, 1 when the copy is in place, -1 where entries left meanwhile, so that it must begin anew.
local stream, copy, portion = KEYS[1], KEYS[2], tonumber(ARGV[1])
redis.call('EXPIRE', copy, ARGV[2])
local newest = redis.call('XREVRANGE', copy, '+', '-', 'COUNT', 1)[1]
local entries = redis.call('XRANGE', stream, newest and '(' .. newest[1] or '-', '+', 'COUNT', portion)
for _, entry in ipairs(entries) do
    redis.call('XADD', copy, entry[1], unpack(entry[2]))
end
if #entries == portion then
    redis.call('EXPIRE', copy, ARGV[2])
    return 0
end
local length = redis.call('XLEN', stream)
if length ~= redis.call('XLEN', copy) then -- the copy is never short of one, so it has too many
    redis.call('DEL', copy)
    return -1
end
if length > 0 then
    local info = redis.call('XINFO', 'STREAM', stream)
    for at = 1, #info, 2 do
        if info[at] == 'last-generated-id' then -- no id is given twice
            redis.call('XSETID', copy, info[at + 1])
        end
    end
    redis.call('RENAME', copy, stream)
    redis.call('PERSIST', stream)
end
return 1
