-- Renew this process's lease, by the clock of Redis, and expire what processes hold whose lease is over.
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
return {'expired', count, evicts() or ''}
