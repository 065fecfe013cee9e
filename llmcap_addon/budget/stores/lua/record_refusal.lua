-- – → refused.
local state = redis.call('HGET', BASE .. 'row:' .. ask.entry.id, 'state')
if not state or state == 'undone' then
    insert('refused', '0', {}, ask.caps, ask.note)
end
return {'ended', 1}
