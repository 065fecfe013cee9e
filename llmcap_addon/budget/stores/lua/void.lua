-- Pending → voided.
local found = redis.call('HMGET', BASE .. 'row:' .. ask.id, 'state', 'reserved', 'marks', 'owner')
need_row(ask.id, found[1])
if found[1] ~= 'pending' then
    return {'ended', 0}
end
local marks = words(found[3])
marks.deferred = nil
finish(ask.id, found[4], 'voided', '0', marks, ask.settlement, '0', less(found[2]))
return {'ended', 1}
