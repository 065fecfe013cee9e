-- The balances of all scopes of a cap in a period.
local found = {}
for at, id in ipairs(redis.call('SMEMBERS', BASE .. 'seen:' .. ask.period_id)) do
    found[at] = redis.call('HGETALL', BASE .. 'balance:' .. id)
end
return {'seen', found}
