-- Admit service names as label values up to a bound, first come first served.
-- KEYS: services set   ARGV: bound, service ...   Returns the services of ARGV that are admitted.
local admitted = {}
for at = 2, #ARGV do
    if redis.call('SISMEMBER', KEYS[1], ARGV[at]) == 1 then
        admitted[#admitted + 1] = ARGV[at]
    elseif redis.call('SCARD', KEYS[1]) < tonumber(ARGV[1]) then
        redis.call('SADD', KEYS[1], ARGV[at])
        admitted[#admitted + 1] = ARGV[at]
    end
end
return admitted
