-- Questions, and forgetting what is done.

question('journals', function()
  return call('HGETALL', key('journals'))
end)

question('first_contact', function(given)
  return 1 - call('SISMEMBER', key('relays'), given.relay)
end)

question('contacts', function()
  return call('HGETALL', key('contacts'))
end)

question('paused', function()
  return call('HVALS', key('paused'))
end)

question('held', function()
  local found = {}
  for _, place in ipairs(call('SMEMBERS', key('held'))) do
    local journal, branch = place:match('^(%S+) (.*)$')
    local held = call('ZRANGE', key('held', journal, branch), 0, -1, 'WITHSCORES')
    local lowest = tonumber(held[1])
    for at = 1, #held, 2 do
      lowest = math.min(lowest, tonumber(held[at]))
    end
    found[#found + 1] = {
      journal, branch, call('HGET', key('event'), held[1]), held[2], held[#held], #held / 2, lowest,
    }
  end
  return found
end)

question('decisions', function(given)
  return call('LRANGE', key('decisions', given.journal), 0, -1)
end)

question('chain', function(given)
  return call('HGETALL', key('chain', given.journal))
end)

local function at_place(journal, sequence)
  local place = whole(sequence)
  local found = call('ZRANGEBYSCORE', key('places', journal), place, place)[1]
  return found and found:match('%d+')
end

local function event(number)
  return {tonumber(number), call('HGET', key('event'), number)}
end

question('event', function(given)
  local number = at_place(given.journal, given.sequence)
  return number and event(number)
end)

question('parts', function(given)
  local places = key('places', given.journal)
  local found, last = {}, whole(given.last)
  for _, place in ipairs(call('ZRANGEBYSCORE', places, whole(given.first), last)) do
    local number, branch = place:match('^(%d+) (.*)$')
    if branch == given.branch then
      found[#found + 1] = call('HGET', key('event'), number)
    end
  end
  return found
end)

question('certificate', function(given)
  return call('HGET', key('certificates'), given.sha256)
end)

question('counters', function()
  local found = {}
  for place, name in ipairs(COUNTERS) do
    found[#found + 1] = name
    found[#found + 1] = whole(counters[place])
  end
  return found
end)

-- When the first open delivery was made.
question('oldest_open', function()
  local number = call('ZRANGE', key('open'), 0, 0)[1]
  return number and exact(load_work(number)[CREATED])
end)

-- Events by number: {next number to ask for, or false at the end, what was found}.
question('events', function(given)
  local first = math.max(given.after + 1, counter('first_event'))
  local last = math.min(counter('events'), first + given.limit - 1)
  local found, bytes = {}, 0
  for number = first, last do
    local text = call('HGET', key('event'), number)
    if text then
      found[#found + 1] = {number, text}
      bytes = bytes + #text
    end
    if bytes > MUCH then
      last = number
      break
    end
  end
  return {last < counter('events') and last or false, found}
end)

question('trace', function(given)
  local nodes, seen, numbers = key('nodes', given.node:sub(1, 4)), {}, {}
  local found = call('ZRANGEBYLEX', nodes, '[' .. given.node, '(' .. given.node .. '\255')
  for _, each in ipairs(found) do
    local number = tonumber(each:match(' (%d+)$'))
    if not seen[number] then
      seen[number] = true
      numbers[#numbers + 1] = number
    end
  end
  table.sort(numbers)
  local events = {}
  for at = 1, math.min(given.limit, #numbers) do
    events[at] = event(whole(numbers[at]))
  end
  return events
end)

local function told(number)
  local work = call('HGET', key('work'), number)
  return work and delivery(number, work, call('HGET', key('state'), number))
end

question('delivery', function(given)
  local number = number_of(given.id)
  return number and told(number)
end)

question('receipts', function(given)
  local number = number_of(given.id)
  local found = {}
  for at = 1, number and get('state', number).receipts or 0 do
    found[at] = call('HGET', key('receipt'), number .. '.' .. at)
  end
  return found
end)

-- Listing deliveries. A listing walks through the smallest set of numbers that holds all it wants,
-- from `from` upwards or downwards, at most STEP of them in one call.

local function sorted(numbers, given)
  table.sort(numbers, function(a, b)
    if given.newest then return a > b end
    return a < b
  end)
  while #numbers > STEP do
    numbers[#numbers] = nil
  end
  return numbers
end

local function walk(name, given, numbers)
  local found
  if given.newest then
    local top = given.from and whole(given.from) or '+inf'
    found = call('ZREVRANGEBYSCORE', key(name), top, whole(given.after + 1), 'LIMIT', 0, STEP)
  else
    found = call('ZRANGEBYSCORE', key(name), whole(given.from), '+inf', 'LIMIT', 0, STEP)
  end
  for _, number in ipairs(found) do
    numbers[#numbers + 1] = tonumber(number)
  end
end

-- Keep a number where the listing goes.
local function add_number(each, given, numbers)
  local number, from = tonumber(each), given.from
  local there = not from or given.newest and number <= from or not given.newest and number >= from
  if there and number > given.after then
    numbers[#numbers + 1] = number
  end
end

-- An event's deliveries begin at most `span` sequences before it.
local function of_event(given, numbers)
  local journal, sequence = given.event_id:match('^(.*)/(%d+)$')
  if journal then
    local last = tonumber(sequence)
    local refs, first = key('refs', journal), whole(last - counter('span'))
    for _, each in ipairs(call('ZRANGEBYSCORE', refs, first, whole(last))) do
      add_number(each, given, numbers)
    end
  end
end

local function of_id(given, numbers)
  local found = call('HGETALL', key('ids', given.id:sub(1, 4)))
  for at = 1, #found, 2 do
    if found[at]:sub(1, #given.id) == given.id then
      add_number(found[at + 1], given, numbers)
    end
  end
end

local function of_all(given, numbers)
  local last, first = counter('deliveries'), math.max(given.after + 1, counter('first_delivery'))
  if given.newest then
    last = math.min(given.from or last, last)
    for number = last, math.max(first, last - STEP + 1), -1 do
      numbers[#numbers + 1] = number
    end
  else
    first = math.max(first, given.from)
    for number = first, math.min(last, first + STEP - 1) do
      numbers[#numbers + 1] = number
    end
  end
end

local function choose(given)
  local numbers = {}
  if given.id and #given.id >= 4 then
    of_id(given, numbers)
  elseif given.event_id then
    of_event(given, numbers)
  elseif not given.states or given.states.done then
    of_all(given, numbers)
  else
    local open = false
    for name in pairs(given.states) do
      if OPEN[name] then
        open = true
      else
        walk(name, given, numbers)
      end
    end
    if open then
      walk('open', given, numbers)
    end
  end
  return sorted(numbers, given)
end

local function fits(work, state, given)
  local created = work[CREATED]
  return (not given.id or work[ID]:sub(1, #given.id) == given.id)
    and (not given.states or given.states[state.state])
    and (not given.rule or work[RULE] == given.rule)
    and (not given.repo or work[W_REPO] == given.repo)
    and (not given.branch or work[W_BRANCH] == given.branch)
    and (not given.event_id or work[EVENT_ID] == given.event_id)
    and (not given.since or created >= given.since)
    and (not given.till or created < given.till)
end

-- {where to go on, or false at the end, what was found}.
question('deliveries', function(given)
  local numbers, found = choose(given), {}
  for at, number in ipairs(numbers) do
    local work = call('HGET', key('work'), number)
    local state = work and call('HGET', key('state'), number)
    if work and fits(decode(work), decode(state), given) then
      found[#found + 1] = delivery(number, work, state)
      if #found == given.limit then
        return {false, found}
      end
    end
  end
  local onward = numbers[#numbers] and numbers[#numbers] + (given.newest and -1 or 1)
  return {#numbers == STEP and onward or false, found}
end)

-- Pruning

local function forget(number)
  local work, state = load_work(number), get('state', number)
  for at = 1, state.receipts or 0 do
    call('HDEL', key('receipt'), number .. '.' .. at)
  end
  if state.state ~= 'done' then
    call('ZREM', key(state.state), number)
  end
  call('HDEL', key('ids', work[ID]:sub(1, 4)), work[ID])
  call('HDEL', key('work'), number)
  call('HDEL', key('state'), number)
  call('ZREM', key('ended'), number)
  call('ZREM', key('refs', work[W_JOURNAL]), number)
  bump(state.state, -1)
end

local function forget_event(journal, place)
  local number = place:match('%d+')
  local _, record = unpack_one(call('HGET', key('event'), number), 1)
  for _, node in ipairs(record[NODES]) do
    call('ZREM', key('nodes', node:sub(1, 4)), node .. ' ' .. number)
  end
  call('HDEL', key('event'), number)
  call('ZREM', key('places', journal), place)
  call('HINCRBY', key('uses'), record[CERTIFICATE], -1)
  bump('stored', -1)
end

-- From the beginning of a journal: how many events were forgotten.
local function prune_journal(journal, before, limit)
  local needed = tonumber(call('ZRANGE', key('refs', journal), 0, 0, 'WITHSCORES')[2])
  local count, pruned = 0, nil
  local places = call('ZRANGE', key('places', journal), 0, limit - 1, 'WITHSCORES')
  for at = 1, #places, 2 do
    local place, sequence = places[at], tonumber(places[at + 1])
    local event = call('HGET', key('event'), place:match('%d+'))
    local _, record = unpack_one(event, 1)
    if event:sub(1, 1) == '1' or record[RECEIVED] >= before or (needed and sequence >= needed) then
      break
    end
    forget_event(journal, place)
    count, pruned = count + 1, sequence
  end
  if pruned then
    local row = row_of(journal)
    row.pruned = pruned
    put('journals', journal, row)
  end
  return count
end

local function prune_certificates()
  local uses = call('HGETALL', key('uses'))
  for at = 1, #uses, 2 do
    if tonumber(uses[at + 1]) == 0 then
      call('HDEL', key('uses'), uses[at])
      call('HDEL', key('certificates'), uses[at])
    end
  end
end

-- Listings begin at the first number that is still there.
local function skip(name, hash, last)
  local first, limit = counter(name), counter(name) + STEP
  while first < limit and first <= last and call('HEXISTS', key(hash), first) == 0 do
    first = first + 1
  end
  set_counter(name, first)
end

relief('prune', function(given)
  local before, limit = exact(given.before), math.min(given.limit, STEP)
  if limit <= 0 then
    return 0
  end
  local gone = call('ZRANGEBYSCORE', key('ended'), '-inf', '(' .. before, 'LIMIT', 0, limit)
  for _, number in ipairs(gone) do
    forget(number)
  end
  local count = #gone
  for _, journal in ipairs(call('HKEYS', key('journals'))) do
    if count < limit then
      count = count + prune_journal(journal, given.before, limit - count)
    end
  end
  if count > #gone then
    prune_certificates()
  end
  skip('first_delivery', 'work', counter('deliveries'))
  skip('first_event', 'event', counter('events'))
  return count
end)
