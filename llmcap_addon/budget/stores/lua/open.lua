-- Find the ledger, or begin one with the id that is handed in; gives its id and schema. Sent without ledger.lua.
local base = string.sub(KEYS[1], 1, -5)
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then
    if redis.call('EXISTS', base .. 'rows', base .. 'live:', base .. 'owners') > 0 then
        error('LLMCAP LOST meta')
    end
    redis.call('HSET', KEYS[1], 'id', ARGV[1], 'schema', '1', 'seq', '0', 'undone', '0')
elseif kind ~= 'hash' then
    return {'', ''}
end
local kept = redis.call('HMGET', KEYS[1], 'id', 'schema')
return {kept[1] or '', kept[2] or ''}
