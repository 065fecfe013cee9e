-- Keep a note for so many milliseconds, also on a full server (see `finish`).
redis.call('ZREM', BASE .. 'notes', ask.key)
redis.call('DEL', BASE .. 'note:' .. ask.key)
if tonumber(ask.lasts_ms) > 0 then
    redis.call('SET', BASE .. 'note:' .. ask.key, ask['until'] .. ' ' .. ask.value, 'PX', ask.lasts_ms)
    redis.call('ZADD', BASE .. 'notes', ask['until'], ask.key)
end
return {'ended', 1}
