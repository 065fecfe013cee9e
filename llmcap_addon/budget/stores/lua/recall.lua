-- Read a note whose time has not passed by the clock of who asks.
local found = redis.call('GET', BASE .. 'note:' .. ask.key)
local ends, value = string.match(found or '', '^(%-?%d+) (.*)$')
return {'note', ends and tonumber(ends) > tonumber(ask.now) and value or false}
