-- – → posted; else as settle.
local state = redis.call('HGET', BASE .. 'row:' .. ask.entry.id, 'state')
if not state or state == 'undone' then
    local held = hold(ask.charges)
    local ids = find_others(held, labels_of(ask.entry), ask.entry.started)
    for _, one in ipairs(held) do
        ids[#ids + 1] = one.id
    end
    -- A reservation of nothing, settled at once: so both ways write the same row.
    insert('pending', '0', ids, caps_of(held), '')
end
return {'ended', settle(ask.entry.id, ask.settlement)}
