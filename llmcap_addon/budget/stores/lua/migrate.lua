-- Bring a ledger of schema 1 to schema 2, so many rows at a time; gives how many are left. Sent without ledger.lua.
--
-- Schema 1 had no open, days and hours. From the first of these scripts on, the ledger has the new schema, so that older
-- LLMCaps leave it alone, and `moved`, how many rows are done, so that nobody uses it yet; a start that was broken off is
-- taken up by the next. Everything is read before the first write, for a script that fails must have changed nothing.
local base = string.sub(KEYS[1], 1, -5)
local kept = redis.call('HMGET', KEYS[1], 'schema', 'moved')
if kept[1] ~= '1' and not kept[2] then
    return 0
end
local from, count = tonumber(kept[2] or 0), tonumber(ARGV[1])
local LABELS = {'host', 'provider', 'model', 'client', 'billing', 'run'}
local found = redis.call('ZRANGE', base .. 'rows', from, from + count - 1, 'WITHSCORES')
local sums, open, done = {}, {}, #found / 2

local function add(key, field, number)
    sums[key] = sums[key] or {}
    local fields = sums[key]
    fields[field] = fields[field] or {}
    fields[field][#fields[field] + 1] = number
end

for at = 1, #found, 2 do
    local id, started = string.sub(found[at], 18), found[at + 1]
    local row = redis.call('HMGET', base .. 'row:' .. id, 'state', 'cost', unpack(LABELS))
    if not row[1] then
        error('LLMCAP LOST row')
    end
    local labels = {}
    for number, label in ipairs(LABELS) do
        labels[number] = row[number + 2] or (label == 'billing' and 'api' or '')
    end
    for name, ms in pairs({['day:'] = 86400000, ['hour:'] = 3600000}) do
        local key = base .. name .. string.format('%.0f', math.floor(tonumber(started) / ms))
        add(key, '', '1')
        if row[2] ~= '0' then
            add(key, cjson.encode(labels), row[2])
        end
    end
    if row[1] == 'pending' or row[1] == 'expired' then
        open[#open + 1] = {started, id}
    end
end
local left = redis.call('ZCARD', base .. 'rows') - from - done
redis.call('HSET', KEYS[1], 'schema', '2', 'moved', string.format('%.0f', from + done))
for key, fields in pairs(sums) do
    for field, numbers in pairs(fields) do
        for _, number in ipairs(numbers) do
            redis.call('HINCRBY', key, field, number) -- (one by one: their sum may be past what a double holds)
        end
    end
end
for _, row in ipairs(open) do
    redis.call('HINCRBY', KEYS[1], 'open', redis.call('ZADD', base .. 'open', row[1], row[2]))
end
if left == 0 then
    redis.call('HDEL', KEYS[1], 'moved')
end
return left
