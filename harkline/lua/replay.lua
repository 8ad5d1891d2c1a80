-- Put dead letters back on the ledger, each as an entry of its own, so that one that kills again kills alone; the letter goes in the same step, so
-- whoever replays it at the same time finds it gone. The replays hash keeps it until its commit, which then counts nothing.
-- XADD comes first on purpose: a full Redis refuses it while nothing is written yet, and the letters stay.
-- KEYS: dead-letter stream, ledger stream, backlog counter, replays hash, bell token
-- ARGV: backlog bound in lines, bell lifetime in ms, then per letter: id, payload (of a batch of one line)
-- Returns {bell won, {status, entry id or backlog} per letter}; status: ok, gone, full.
local letters, stream, backlog, replays = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local answers, replayed = {}, false
for at = 3, #ARGV, 2 do
    local found = redis.call('XRANGE', letters, ARGV[at], ARGV[at])[1]
    local waiting = tonumber(redis.call('GET', backlog) or '0')
    if not found then
        answers[#answers + 1] = {'gone', ''}
    elseif waiting >= tonumber(ARGV[1]) then
        answers[#answers + 1] = {'full', tostring(waiting)}
    else
        local entry = redis.call('XADD', stream, '*', 'lines', 1, '0', ARGV[at + 1])
        redis.call('HSET', replays, entry, found[2][2])
        redis.call('XDEL', letters, ARGV[at])
        redis.call('INCR', backlog)
        answers[#answers + 1] = {'ok', entry}
        replayed = true
    end
end
local won = replayed and redis.call('SET', KEYS[5], '1', 'NX', 'PX', ARGV[2])
return {won and 1 or 0, answers}
