-- Pending or – → undone: a reservation whose answer never came, or whose caller had left, was not made.
--
-- The request may still be on its way (a paused server reads it later), so "undone" stays in its place for an hour, and
-- lets no reservation in. It is no row: it isn't listed, and what is posted or refused under this id takes its place.
local row = BASE .. 'row:' .. ask.id
local found = redis.call('HMGET', row, 'state', 'reserved', 'owner', 'started')
need_row(ask.id, found[1])
if not found[1] then
    redis.call('HSET', row, 'state', 'undone')
    redis.call('PEXPIRE', row, ask.keep_ms)
    return {'ended', 0}
end
if found[1] ~= 'pending' or found[3] == '' then -- (what was deferred has been sent)
    return {'ended', 0}
end
local ids = charged(ask.id)
redis.call('SREM', BASE .. 'pending:' .. found[3], ask.id)
move(ids, '0', less(found[2]))
local seq = redis.call('HGET', row, 'seq')
local removed = redis.call('ZREM', BASE .. 'rows', seq .. ':' .. ask.id)
redis.call('HINCRBY', KEYS[1], 'undone', removed)
add_to_spans(found[4], '', 0 - removed)
redis.call('HINCRBY', KEYS[1], 'open', 0 - redis.call('ZREM', BASE .. 'open', ask.id))
redis.call('DEL', BASE .. 'charged:' .. ask.id, row)
redis.call('HSET', row, 'state', 'undone')
redis.call('PEXPIRE', row, ask.keep_ms)
return {'ended', 1}
