-- The balances of all scopes of a cap in a period.
local found = {}
for _, id in ipairs(redis.call('SMEMBERS', BASE .. 'seen:' .. ask.period_id)) do
    if read_balance(id) then -- (else it was lost, and is made again when it is next asked for)
        found[#found + 1] = redis.call('HGETALL', BASE .. 'balance:' .. id)
    end
end
return {'seen', found}
