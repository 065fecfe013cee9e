-- – → pending, if it fits everywhere.
local wanted = amount(ask.amount)
local policy = evicts()
if policy then
    return {'evicts', policy}
end
need_rows()
local state = redis.call('HGET', BASE .. 'row:' .. ask.entry.id, 'state')
if state and state ~= 'pending' then
    return {'ended', state}
end
local held = hold(ask.charges)
if state == 'pending' then
    return {'reserved', standing(held)}
end
local lacking = {}
for at, one in ipairs(held) do
    if room(one) < wanted then
        lacking[#lacking + 1] = at - 1
    end
end
if #lacking > 0 then
    return {'short', standing(held), lacking}
end
local ids = find_others(held, labels_of(ask.entry), ask.entry.started)
for _, one in ipairs(held) do
    ids[#ids + 1] = one.id
    one.pending = plain(tonumber(one.pending) + wanted)
end
insert('pending', ask.amount, ids, caps_of(held), '')
move(ids, '0', ask.amount)
return {'reserved', standing(held)}
