-- How balances stand; one that is not there is worked out from the rows, and nothing is written.
local found = {}
for at, charge in ipairs(ask.charges) do
    local one = redis.call('HMGET', BASE .. 'balance:' .. charge.id, 'posted', 'pending')
    if not one[1] then
        local posted, pending = sum_rows(charge)
        one = {posted, pending}
    end
    found[at] = one
end
return {'balances', found}
