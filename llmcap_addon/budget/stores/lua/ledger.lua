-- What all scripts share; each is sent to Redis with this text before its own.
--
-- KEYS[1] is "{prefix}:meta", ARGV[1] a JSON object `ask`. The braces put all keys into one slot of a cluster:
--   meta             hash: id of the ledger, schema, moved (see migrate.lua), seq (number of the newest row), undone (how
--                    many rows were taken away again), open and live:RUN (how many members those sets have), beat and
--                    grace (see heartbeat.lua)
--   row:ID           hash: one call; state is pending, posted, voided, expired, refused, or undone (see undo.lua)
--   charged:ID       the balances that a pending or expired row counts in: ids, with blanks between
--   rows             sorted set: "SEQ:ID" of all rows, by the start of their calls
--   open             sorted set: ids of the pending and expired rows, by the start of their calls
--   day:N, hour:N    hash: what was posted of calls that began in that day or hour (of UTC, counted since 1970), by their
--                    labels as a JSON list; and how many rows began in it, by ""
--   pending:OWNER    set: ids of the rows that a process holds
--   deferred         sorted set: ids of the pending rows that nobody holds, by the time at which they expire
--   owners           sorted set: processes, by the end of their leases on the clock of Redis
--   balance:ID       hash: one balance
--   live:RUN         sorted set: ids of the balances per run (all others: of run ""), by their reset
--   seen:PERIOD_ID   set: ids of a cap's balances in one period
--   note:KEY         the end of a note's time, a blank, the note; gone after that time
--   notes            sorted set: keys of the notes, by that end
--
-- Amounts are decimal strings of nano-dollars. They are added by HINCRBY, in 64-bit integers, and compared as Lua's
-- doubles, which are exact up to 2^53. A script that fails has changed nothing: Redis takes the first write of a script
-- or none, so that writes follow only after everything is checked.
--
-- A Redis that evicts throws single keys away. Of a ledger that has lost some, all that can be told to be still right
-- is used: a balance is made again from the rows, a day or hour that does not know all its rows is summed up from them,
-- and where rows are missing too, a script fails with "LLMCAP LOST".

local MOST = 9007199254740991
local SCHEMA = '2'
local BASE = string.sub(KEYS[1], 1, -5)

local ask = cjson.decode(ARGV[1])
local meta = redis.call('HMGET', KEYS[1], 'id', 'schema', 'seq', 'undone', 'moved', 'open')

local function lost(what)
    error('LLMCAP LOST ' .. what)
end

local function plain(number)
    return string.format('%.0f', number)
end

local function amount(text)
    local number = tonumber(text)
    if not number or number < 0 or number > MOST or number ~= math.floor(number) then
        error('LLMCAP amount ' .. tostring(text) .. ' is not an integer from 0 to 2^53 - 1')
    end
    return number
end

local function now_ms()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- ── matching ──

local ANY, MANY = -1, -2

local function codepoints(text)
    local points = {}
    for char in string.gmatch(text, '[%z\1-\127\194-\244][\128-\191]*') do
        local first = string.byte(char, 1)
        local point = first
        if first >= 240 then
            point = first - 240
        elseif first >= 224 then
            point = first - 224
        elseif first >= 194 then
            point = first - 192
        end
        for at = 2, #char do
            point = point * 64 + string.byte(char, at) - 128
        end
        points[#points + 1] = point
    end
    return points
end

-- One token against one character: a code point, ANY, or the list {from, to, from, to, …} of a set's ranges.
local function fits(token, point)
    if type(token) == 'number' then
        return token == ANY or token == point
    end
    for at = 1, #token, 2 do
        if point >= token[at] and point <= token[at + 1] then
            return true
        end
    end
    return false
end

local function glob_matches(tokens, points)
    local at, token = 1, 1
    local star, resume = nil, nil
    while at <= #points do
        local want = tokens[token]
        if want == MANY then
            star, resume = token, at
            token = token + 1
        elseif want ~= nil and fits(want, points[at]) then
            at, token = at + 1, token + 1
        elseif star then
            resume = resume + 1
            at, token = resume, star + 1
        else
            return false
        end
    end
    while tokens[token] == MANY do
        token = token + 1
    end
    return token > #tokens
end

-- Whether a list of tokens matches; remembered for this script, for thousands of rows have few different labels.
local known = {}
local function tokens_match(tokens, value)
    local answers = known[tokens]
    if not answers then
        answers = {}
        known[tokens] = answers
    end
    if answers[value] == nil then
        answers[value] = glob_matches(tokens, codepoints(value))
    end
    return answers[value]
end

-- `globs` is {label: [glob, …]}; a glob is a string that matches only itself, or a list of tokens.
-- Rows of before there was billing were paid by the token; a balance of before then counts no other.
local function matches(globs, labels)
    if not globs.billing and labels.billing and labels.billing ~= 'api' then
        return false
    end
    for label, choices in pairs(globs) do
        local value = labels[label] or (label == 'billing' and 'api' or '')
        local found = false
        for _, glob in ipairs(choices) do
            if type(glob) == 'string' then
                found = glob == value
            else
                found = tokens_match(glob, value)
            end
            if found then
                break
            end
        end
        if not found then
            return false
        end
    end
    return true
end

-- ── balances ──

-- A sum of many amounts, exact beyond 2^53: dollars and nano-dollars apart.
local function add(sum, number)
    local small = sum.small + number % 1e9
    sum.large = sum.large + math.floor(number / 1e9) + math.floor(small / 1e9)
    sum.small = small % 1e9
end

-- The same for an amount as it is stored, which may be a sum past 2^53 already.
local function in_parts(text)
    local cut = math.max(#text - 9, 0)
    return tonumber(string.sub(text, 1, cut)) or 0, tonumber(string.sub(text, cut + 1))
end

local function add_parts(sum, large, small)
    add(sum, small)
    sum.large = sum.large + large
end

local function written(sum)
    if sum.large == 0 then
        return plain(sum.small)
    end
    return plain(sum.large) .. string.format('%09.0f', sum.small)
end

-- Whether the list of all rows is as long as it was made.
local function need_rows()
    if redis.call('ZCARD', BASE .. 'rows') < tonumber(meta[3]) - tonumber(meta[4] or 0) then
        lost('rows')
    end
end

-- Whether the list of rows that can still change what they count for is as long as it was made.
local function need_open()
    if redis.call('ZCARD', BASE .. 'open') < tonumber(meta[6] or 0) then
        lost('open')
    end
end

local LABELS = {'host', 'provider', 'model', 'client', 'billing', 'run'}

-- A row's labels, as HMGET gives them from an index on.
local function named(values, from)
    local labels = {}
    for at, label in ipairs(LABELS) do
        labels[label] = values[from + at - 1] or (label == 'billing' and 'api' or '')
    end
    return labels
end

local function labels_field(labels)
    local values = {}
    for at, label in ipairs(LABELS) do
        values[at] = labels[label]
    end
    return cjson.encode(values)
end

local function sum_rows(sum, globs, from, to)
    local first = redis.call('ZCOUNT', BASE .. 'rows', '-inf', '(' .. plain(from))
    local last = first + redis.call('ZCOUNT', BASE .. 'rows', plain(from), '(' .. plain(to)) - 1
    for at = first, last, 1000 do
        for _, member in ipairs(redis.call('ZRANGE', BASE .. 'rows', at, math.min(at + 999, last))) do
            local row = redis.call('HMGET', BASE .. 'row:' .. string.sub(member, 18), 'cost', unpack(LABELS))
            if not row[1] then -- (an undone reservation is no member, so every member had its row)
                lost('row')
            end
            if row[1] ~= '0' and matches(globs, named(row, 2)) then
                add(sum, tonumber(row[1]))
            end
        end
    end
end

-- Days and hours as they were read, for all charges of a script: {labels as JSON, dollars, nano-dollars, …}, or false when not all of
-- their rows are in them (their key was lost for a while).
local read_spans, read_labels = {}, {}
local function read_span(key, from, to)
    if read_spans[key] == nil then
        local found = redis.call('HGETALL', BASE .. key)
        local spent, count = {}, 0
        for at = 1, #found, 2 do
            if found[at] == '' then
                count = tonumber(found[at + 1])
            else
                local next = #spent + 1
                spent[next], spent[next + 1], spent[next + 2] = found[at], in_parts(found[at + 1])
            end
        end
        local is_whole = count == redis.call('ZCOUNT', BASE .. 'rows', plain(from), '(' .. plain(to))
        read_spans[key] = is_whole and spent
    end
    return read_spans[key]
end

-- Adds what rows begun in a time have posted: whole days, then whole hours, then row by row.
local SPANS = {{name = 'day:', ms = 86400000}, {name = 'hour:', ms = 3600000}}
local function sum_posted(sum, globs, fitting, from, to, level)
    if from >= to then
        return
    end
    local span = SPANS[level]
    if not span then
        sum_rows(sum, globs, from, to)
        return
    end
    local first, last = math.ceil(from / span.ms), math.floor(to / span.ms)
    if first >= last then
        sum_posted(sum, globs, fitting, from, to, level + 1)
        return
    end
    sum_posted(sum, globs, fitting, from, first * span.ms, level + 1)
    for number = first, last - 1 do
        local begins, ends = number * span.ms, (number + 1) * span.ms
        local spent = read_span(span.name .. plain(number), begins, ends)
        if not spent then
            sum_posted(sum, globs, fitting, begins, ends, level + 1)
        else
            for at = 1, #spent, 3 do
                local labels = spent[at]
                if fitting[labels] == nil then
                    read_labels[labels] = read_labels[labels] or named(cjson.decode(labels), 1)
                    fitting[labels] = matches(globs, read_labels[labels])
                end
                if fitting[labels] then
                    add_parts(sum, spent[at + 1], spent[at + 2])
                end
            end
        end
    end
    sum_posted(sum, globs, fitting, last * span.ms, to, level + 1)
end

-- What the rows that a charge counts have posted and pending, and which of them can still change that.
local function sum_up(charge)
    need_rows()
    need_open()
    local posted, pending, open = {large = 0, small = 0}, {large = 0, small = 0}, {}
    local globs = cjson.decode(charge.globs)
    local oldest = redis.call('ZRANGE', BASE .. 'rows', 0, 0, 'WITHSCORES')
    local newest = redis.call('ZRANGE', BASE .. 'rows', -1, -1, 'WITHSCORES')
    if oldest[2] then
        local from = math.max(tonumber(charge.starts), tonumber(oldest[2]))
        local to = math.min(tonumber(charge.resets == 'inf' and newest[2] + 1 or charge.resets), newest[2] + 1)
        sum_posted(posted, globs, {}, from, to, 1)
    end
    local resets = charge.resets == 'inf' and '+inf' or '(' .. charge.resets
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', BASE .. 'open', charge.starts, resets)) do
        local row = redis.call('HMGET', BASE .. 'row:' .. id, 'reserved', unpack(LABELS))
        if not row[1] then
            lost('row')
        end
        if matches(globs, named(row, 2)) then
            add(pending, tonumber(row[1]))
            open[#open + 1] = id
        end
    end
    return written(posted), written(pending), open
end

local function read_caps(row)
    return cjson.decode(redis.call('HGET', row, 'caps'))
end

local function write_caps(row, caps)
    redis.call('HSET', row, 'caps', #caps == 0 and '[]' or cjson.encode(caps))
end

-- Makes a balance from the rows of its period that match it, so that a cap that is new counts what was spent before.
local function make_balance(charge)
    local posted, pending, open = sum_up(charge)
    redis.call('HSET', BASE .. 'balance:' .. charge.id, 'cap', charge.cap, 'key', charge.key, 'scope', charge.scope,
        'period', charge.period, 'starts', charge.starts, 'resets', charge.resets, 'match', charge.match,
        'globs', charge.globs, 'posted', posted, 'pending', pending)
    local added = redis.call('ZADD', BASE .. 'live:' .. charge.run, charge.resets, charge.id)
    redis.call('HINCRBY', KEYS[1], 'live:' .. charge.run, added)
    redis.call('SADD', BASE .. 'seen:' .. charge.period_id, charge.id)
    for _, id in ipairs(open) do
        -- (A balance that was lost stands in its rows already. A row whose list was lost keeps none: begun anew with this
        -- balance alone it would be settled past all others.)
        local written = redis.call('GET', BASE .. 'charged:' .. id)
        if written and not string.find(written, charge.id, 1, true) then
            redis.call('APPEND', BASE .. 'charged:' .. id, ' ' .. charge.id)
            local caps = read_caps(BASE .. 'row:' .. id)
            caps[#caps + 1] = charge.cap
            write_caps(BASE .. 'row:' .. id, caps)
        end
    end
    return posted, pending
end

-- How a balance stands; nothing when it is not there, or only what was moved since it was lost.
local function read_balance(id)
    local found = redis.call('HMGET', BASE .. 'balance:' .. id, 'posted', 'pending', 'starts')
    if found[3] then
        return found[1], found[2]
    end
end

-- The charges' balances, made where they are not there yet.
local function hold(charges)
    local held = {}
    for at, charge in ipairs(charges) do
        local posted, pending = read_balance(charge.id)
        if not posted then
            posted, pending = make_balance(charge)
        end
        held[at] = {id = charge.id, cap = charge.cap, limit = amount(charge.limit), posted = posted, pending = pending}
    end
    return held
end

-- The ids of balances that count a call too, though it was not charged to them.
local function find_others(held, labels, started)
    local own, others = {}, {}
    for _, one in ipairs(held) do
        own[one.id] = true
    end
    local runs = labels.run == '' and {''} or {'', labels.run}
    for _, run in ipairs(runs) do
        local live = redis.call('HGET', KEYS[1], 'live:' .. run)
        if live and redis.call('ZCARD', BASE .. 'live:' .. run) < tonumber(live) then
            lost('live')
        end
        for _, id in ipairs(redis.call('ZRANGEBYSCORE', BASE .. 'live:' .. run, '(' .. started, '+inf')) do
            if not own[id] then
                local found = redis.call('HMGET', BASE .. 'balance:' .. id, 'starts', 'globs')
                -- (one that was lost is made again from the rows when it is next asked for)
                if found[1] and tonumber(found[1]) <= tonumber(started) and matches(cjson.decode(found[2]), labels) then
                    others[#others + 1] = id
                end
            end
        end
    end
    return others
end

-- What is left of the limit. Exact wherever it is not below 0: limits are at most 2^53 - 1.
local function room(one)
    return one.limit - tonumber(one.posted) - tonumber(one.pending)
end

local function standing(held)
    local found = {}
    for at, one in ipairs(held) do
        found[at] = {one.posted, one.pending}
    end
    return found
end

local function move(ids, posted, pending)
    for _, id in ipairs(ids) do
        if posted ~= '0' then
            redis.call('HINCRBY', BASE .. 'balance:' .. id, 'posted', posted)
        end
        if pending ~= '0' then
            redis.call('HINCRBY', BASE .. 'balance:' .. id, 'pending', pending)
        end
    end
end

-- ── rows ──

local function less(text)
    return text == '0' and '0' or '-' .. text
end

local function charged(id)
    local ids = {}
    local written = redis.call('GET', BASE .. 'charged:' .. id)
    if not written then
        lost('charged')
    end
    for one in string.gmatch(written, '%S+') do
        ids[#ids + 1] = one
    end
    return ids
end

-- Raises for a call whose row was lost while it held money; `state` is its row's.
local function need_row(id, state)
    if not state and redis.call('EXISTS', BASE .. 'charged:' .. id) == 1 then
        lost('row')
    end
end

local function keep_lease()
    redis.call('ZADD', BASE .. 'owners', 'NX', plain(now_ms() + tonumber(ask.lease_ms)), ask.owner)
end

-- Adds to a field of the day and of the hour in which a call began.
local function add_to_spans(started, field, number)
    for _, span in ipairs(SPANS) do
        redis.call('HINCRBY', BASE .. span.name .. plain(math.floor(tonumber(started) / span.ms)), field, number)
    end
end

-- Writes the row of `ask.entry`: `fields` are the entry's own, in pairs.
local function insert(state, reserved, ids, caps, note)
    local entry = ask.entry
    local row = BASE .. 'row:' .. entry.id
    local seq = string.format('%016.0f', redis.call('HINCRBY', KEYS[1], 'seq', 1))
    redis.call('PERSIST', row)
    redis.call('HSET', row, 'seq', seq, 'owner', ask.owner, 'state', state, 'started', entry.started, 'reserved', reserved,
        'cost', '0', 'usage', '{}', 'status', '0', 'note', note, unpack(entry.fields))
    write_caps(row, caps)
    redis.call('ZADD', BASE .. 'rows', entry.started, seq .. ':' .. entry.id)
    add_to_spans(entry.started, '', 1)
    if state == 'pending' then
        keep_lease()
        redis.call('SADD', BASE .. 'pending:' .. ask.owner, entry.id)
        redis.call('HINCRBY', KEYS[1], 'open', redis.call('ZADD', BASE .. 'open', entry.started, entry.id))
        redis.call('SET', BASE .. 'charged:' .. entry.id, table.concat(ids, ' '))
    end
end

local function labels_of(entry)
    local labels = {}
    for at = 1, #entry.fields, 2 do
        labels[entry.fields[at]] = entry.fields[at + 1]
    end
    return labels
end

local function caps_of(held)
    local caps = {}
    for at, one in ipairs(held) do
        caps[at] = one.cap
    end
    return caps
end

local function words(marks)
    local set = {}
    for word in string.gmatch(marks or '', '%S+') do
        set[word] = true
    end
    return set
end

local function joined(set)
    local list = {}
    for word in pairs(set) do
        list[#list + 1] = word
    end
    table.sort(list)
    return table.concat(list, ' ')
end

-- Ends a row. The SREM comes first: on a full server Redis lets a script go on that has begun with a write which needs
-- no memory, and what a call cost must get in. What was deferred has no owner.
local function finish(id, owner, state, cost, marks, ended, posted, pending)
    local ids = charged(id)
    redis.call('SREM', BASE .. 'pending:' .. owner, id)
    if owner == '' then
        redis.call('ZREM', BASE .. 'deferred', id)
    end
    move(ids, posted, pending)
    if posted ~= '0' then
        local row = redis.call('HMGET', BASE .. 'row:' .. id, 'started', unpack(LABELS))
        add_to_spans(row[1], labels_field(named(row, 2)), posted)
    end
    redis.call('HSET', BASE .. 'row:' .. id, 'state', state, 'reserved', '0', 'cost', cost, 'marks', joined(marks),
        'settled', ended.settled, 'usage', ended.usage, 'status', ended.status, 'response_model', ended.model,
        'note', ended.note)
    if state ~= 'expired' then
        redis.call('DEL', BASE .. 'charged:' .. id)
        redis.call('HINCRBY', KEYS[1], 'open', 0 - redis.call('ZREM', BASE .. 'open', id))
    end
end

local function settle(id, settlement)
    local found = redis.call('HMGET', BASE .. 'row:' .. id, 'state', 'reserved', 'cost', 'marks', 'owner')
    local state = found[1]
    need_row(id, state)
    if state ~= 'pending' and state ~= 'expired' then
        return 0
    end
    local reserved, posted, cost = tonumber(found[2]), tonumber(found[3]), amount(settlement.cost)
    local marks, added = words(found[4]), words(settlement.marks)
    if state == 'expired' then
        if cost <= posted then
            return 0
        end
        marks.expired, marks.estimated = nil, nil
    end
    for word in pairs(added) do
        marks[word] = true
    end
    if cost > reserved + posted then
        marks.overrun = true
    end
    marks.deferred = nil
    finish(id, found[5], 'posted', settlement.cost, marks, settlement, plain(cost - posted), less(found[2]))
    return 1
end

-- Rows that were lost, or what they counted in, stay as they are: what they hold stays reserved.
local function expire_rows(ids, owner, settled, note)
    for _, id in ipairs(ids) do
        local found = redis.call('HMGET', BASE .. 'row:' .. id, 'reserved', 'marks')
        if found[1] and redis.call('EXISTS', BASE .. 'charged:' .. id) == 1 then
            local marks = words(found[2])
            marks.expired, marks.estimated = true, true
            local ended = {settled = settled, usage = '{}', status = '0', model = '', note = note}
            finish(id, owner, 'expired', found[1], marks, ended, found[1], less(found[1]))
        end
    end
    return #ids
end

local function expire(owner, settled)
    local ids = redis.call('SMEMBERS', BASE .. 'pending:' .. owner)
    redis.call('ZREM', BASE .. 'owners', owner)
    return expire_rows(ids, owner, settled, 'its process ended before it was settled')
end

-- ── does Redis keep what it is given? ──

-- The policy by which Redis throws keys away when it is full; nothing when it throws none, or may not be asked. Takes
-- 20 us, so `ask.look` is set once in a while only.
local function evicts()
    local told = ask.look and redis.pcall('INFO', 'memory')
    if type(told) ~= 'string' then
        return nil
    end
    local policy = string.match(told, 'maxmemory_policy:([%w-]+)')
    if policy and policy ~= 'noeviction' and not string.find(told, 'maxmemory:0%s') then
        return policy
    end
end

-- ── is it still the ledger that was opened? ──

if meta[1] ~= ask.ledger then
    return {'replaced'}
end
if meta[2] ~= SCHEMA then
    return {'schema', meta[2] or ''}
end
if meta[5] then
    return {'moving'}
end
