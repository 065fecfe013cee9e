-- One page of rows begun since then, oldest first; gives them and whether there are more.
--
-- `after` is the page before's last member and its start, both empty for the first page. When that row was undone
-- meanwhile, all of its moment come again.
need_rows()
local rows = BASE .. 'rows'
local total = redis.call('ZCARD', rows)
local from
if ask.after == '' then
    from = redis.call('ZCOUNT', rows, '-inf', '(' .. ask.since)
    if ask.limit ~= '' then
        from = math.max(from, total - tonumber(ask.limit))
    end
else
    from = redis.call('ZRANK', rows, ask.after)
    from = from and from + 1 or redis.call('ZCOUNT', rows, '-inf', '(' .. ask.after_start)
end
local found = {}
local last = from + tonumber(ask.page) - 1
if from < total then
    for at, member in ipairs(redis.call('ZRANGE', rows, from, last)) do
        -- As one text: a client takes ten times as long to take a page apart.
        local row = redis.call('HGETALL', BASE .. 'row:' .. string.sub(member, 18))
        if #row == 0 then
            lost('row')
        end
        found[at] = {member, row}
    end
end
return {'rows', #found == 0 and '[]' or cjson.encode(found), last + 1 < total and 1 or 0}
