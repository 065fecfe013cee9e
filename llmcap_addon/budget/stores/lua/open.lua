-- Find the ledger, or begin one with the id that is handed in; gives its id, its schema and whether it is being brought
-- to that. Sent without ledger.lua.
local base = string.sub(KEYS[1], 1, -5)
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then
    if redis.call('EXISTS', base .. 'rows', base .. 'live:', base .. 'owners') > 0 then
        error('LLMCAP LOST meta')
    end
    redis.call('HSET', KEYS[1], 'id', ARGV[1], 'schema', ARGV[2], 'seq', '0', 'undone', '0')
elseif kind ~= 'hash' then
    return {'', '', 0}
end
local kept = redis.call('HMGET', KEYS[1], 'id', 'schema', 'moved')
return {kept[1] or '', kept[2] or '', kept[3] and 1 or 0}
