-- Append the requests of one coalesced write as ONE entry of the ledger, or drop those that were seen, or refuse those past the bound.
-- KEYS: ledger stream, backlog counter, bell token, then one idempotency key per request that carries one (in order)
-- ARGV: backlog bound in lines, idempotency lifetime in s, bell lifetime in ms, then per request: "1" if it has an idempotency key else "0",
--       digest of its body, lines, payload
-- Returns {bell won, entry id or "", {status, batch id} per request}; status: ok, seen, conflict, full.
local stream, backlog_key, bell = KEYS[1], KEYS[2], KEYS[3]
local bound, lifetime, bell_ms = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local backlog = tonumber(redis.call('GET', backlog_key) or '0')
local answers, fields, accepted = {}, {}, {}
local lines, position, next_key = 0, 0, 4

for at = 4, #ARGV, 4 do
    local key = nil
    if ARGV[at] == '1' then
        key = KEYS[next_key]
        next_key = next_key + 1
    end
    local seen = key and redis.call('GET', key)
    local twin = key and accepted[key]
    local count = tonumber(ARGV[at + 2])
    if seen then
        local digest, batch = string.match(seen, '^(%S+) (%S+)$')
        answers[#answers + 1] = {digest == ARGV[at + 1] and 'seen' or 'conflict', batch}
    elseif twin then -- the same key twice within one coalesced write
        answers[#answers + 1] = {twin.digest == ARGV[at + 1] and 'seen' or 'conflict', twin.position}
    elseif backlog + lines + count > bound then
        answers[#answers + 1] = {'full', tostring(backlog)}
    else
        fields[#fields + 1] = tostring(position)
        fields[#fields + 1] = ARGV[at + 3]
        answers[#answers + 1] = {'ok', position}
        if key then
            accepted[key] = {digest = ARGV[at + 1], position = position}
        end
        lines = lines + count
        position = position + 1
    end
end

if position == 0 then
    return {0, '', answers}
end
local entry = redis.call('XADD', stream, '*', 'lines', lines, unpack(fields))
redis.call('INCRBY', backlog_key, lines)
for key, taken in pairs(accepted) do
    redis.call('SET', key, taken.digest .. ' ' .. entry .. '-' .. taken.position, 'EX', lifetime)
end
for _, answer in ipairs(answers) do
    if type(answer[2]) == 'number' then
        answer[2] = entry .. '-' .. answer[2]
    end
end
local won = redis.call('SET', bell, '1', 'NX', 'PX', bell_ms)
return {won and 1 or 0, entry, answers}
