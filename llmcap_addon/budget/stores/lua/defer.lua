-- Pending → deferred: nobody's, until its time.
local row = BASE .. 'row:' .. ask.id
local found = redis.call('HMGET', row, 'state', 'owner', 'marks')
need_row(ask.id, found[1])
if found[1] ~= 'pending' then
    return {'ended', 0}
end
-- First, for it needs no memory: on a full server too a call that was sent must not expire with its process.
redis.call('SREM', BASE .. 'pending:' .. found[2], ask.id)
local marks = words(found[3])
marks.deferred = true
redis.call('HSET', row, 'owner', '', 'marks', joined(marks))
redis.call('ZADD', BASE .. 'deferred', ask['until'], ask.id)
return {'ended', 1}
