-- Pending → pending, with more; gives what was granted.
local wanted, at_least = amount(ask.amount), amount(ask.at_least)
local policy = evicts()
if policy then
    return {'evicts', policy}
end
need_rows()
local row = BASE .. 'row:' .. ask.id
local found = redis.call('HMGET', row, 'state', 'reserved')
need_row(ask.id, found[1])
if found[1] ~= 'pending' then
    return {'granted', '0'}
end
local held = hold(ask.charges)
-- Read only now: a balance that was just made has put itself into the row.
local ids, caps = charged(ask.id), read_caps(row)
local has_id, has_cap = {}, {}
for _, id in ipairs(ids) do
    has_id[id] = true
end
for _, cap in ipairs(caps) do
    has_cap[cap] = true
end
local left = MOST - tonumber(found[2])
local is_new = false
for _, one in ipairs(held) do
    if not has_id[one.id] then
        is_new = true
        move({one.id}, '0', found[2])
        one.pending = plain(tonumber(one.pending) + tonumber(found[2]))
        ids[#ids + 1] = one.id
    end
    if not has_cap[one.cap] then
        is_new = true
        caps[#caps + 1] = one.cap
    end
    left = math.min(left, room(one))
end
local granted = 0
if wanted <= left then
    granted = wanted
elseif left >= at_least then
    granted = left
end
if is_new then
    redis.call('SET', BASE .. 'charged:' .. ask.id, table.concat(ids, ' '))
    write_caps(row, caps)
end
if granted > 0 then
    redis.call('HINCRBY', row, 'reserved', plain(granted))
    move(ids, '0', plain(granted))
end
return {'granted', plain(granted)}
