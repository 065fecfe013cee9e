-- How balances stand; one that is not there is worked out from the rows, and nothing is written.
local found = {}
for at, charge in ipairs(ask.charges) do
    local posted, pending = read_balance(charge.id)
    if not posted then
        posted, pending = sum_up(charge)
    end
    found[at] = {posted, pending}
end
return {'balances', found}
