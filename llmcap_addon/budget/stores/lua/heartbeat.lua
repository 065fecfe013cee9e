-- Renew this process's lease, by the clock of Redis, and expire what processes hold whose lease is over. Expire what was
-- deferred until now, by the clock of who asks, and drop notes, a thousand of each at a time.
--
-- When nobody has beaten for a whole lease, Redis itself was away (or nobody was there): the living get another lease's
-- time to come back before anything is expired.
local now, lease = now_ms(), tonumber(ask.lease_ms)
local ends = redis.call('ZSCORE', BASE .. 'owners', ask.owner)
if ask.is_first and ends and tonumber(ends) > now then
    return {'taken'}
end
-- Takes nothing away: a first write that needs no memory, so that leases are renewed on a full server too.
redis.call('ZREM', BASE .. 'owners', '')
local found = redis.call('HMGET', KEYS[1], 'beat', 'grace')
local beat, grace = tonumber(found[1] or now), tonumber(found[2] or 0)
if now - beat > lease then
    grace = now + lease
end
redis.call('HSET', KEYS[1], 'beat', plain(now), 'grace', plain(grace))
if not ask.is_first then
    redis.call('ZADD', BASE .. 'owners', plain(now + lease), ask.owner)
end
local count = 0
if now >= grace then
    for _, owner in ipairs(redis.call('ZRANGEBYSCORE', BASE .. 'owners', '-inf', plain(now))) do
        count = count + expire(owner, ask.settled)
    end
end
redis.call('ZADD', BASE .. 'owners', plain(now + lease), ask.owner)
local due = redis.call('ZRANGEBYSCORE', BASE .. 'deferred', '-inf', ask.settled, 'LIMIT', 0, 1000)
count = count + expire_rows(due, '', ask.settled, 'its bill did not come in time')
for _, id in ipairs(due) do
    redis.call('ZREM', BASE .. 'deferred', id) -- (also those whose rows were lost)
end
local old = redis.call('ZRANGEBYSCORE', BASE .. 'notes', '-inf', ask.settled, 'LIMIT', 0, 1000)
local surplus = redis.call('ZCARD', BASE .. 'notes') - ask.max_notes
if #old == 0 and surplus > 0 then
    old = redis.call('ZRANGE', BASE .. 'notes', 0, math.min(surplus, 1000) - 1)
end
for _, key in ipairs(old) do
    redis.call('ZREM', BASE .. 'notes', key)
    redis.call('DEL', BASE .. 'note:' .. key)
end
return {'expired', count, evicts() or ''}
