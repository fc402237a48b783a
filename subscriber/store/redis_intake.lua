-- Journals, positions, events, and what they make.

local function row_of(journal)
  return get('journals', journal)
end

local function note(relay, heads, now)
  for _, head in ipairs(heads) do
    local row = row_of(head.journal)
    if row then
      row.relay, row.head = relay, head.head
    else
      row = {repo = head.repo, relay = relay, scanned = head.scanned, since = head.since}
      row.head, row.first_seen, row.number = head.head, now, bump('journals')
    end
    put('journals', head.journal, row)
  end
end

step('learn', function(given)
  if call('SADD', key('relays'), given.relay) == 0 then
    return 0
  end
  note(given.relay, given.heads, given.now)
  return 1
end)

step('note_heads', function(given)
  note(given.relay, given.heads, given.now)
end)

-- Whether who reads by a scope may go on.
local function reads(scope)
  local now = scope and call('HGET', key('store'), 'scope')
  return not now or now == scope
end

step('follow', function(given)
  local before = call('HGET', key('store'), 'scope')
  if before == given.scope then
    return 0
  end
  call('HSET', key('store'), 'scope', given.scope)
  for _, journal in ipairs(call('HKEYS', key('journals'))) do
    local row = row_of(journal)
    if row.scanned then
      row.origin = row.scanned
      put('journals', journal, row)
    end
  end
  return before and 1 or 0
end)

relief('stop_journal', function(given)
  local row = row_of(given.journal)
  if not row then
    return 0
  end
  row.stopped = given.reason
  put('journals', given.journal, row)
  return 1
end)

relief('heard', function(given)
  local contact = get('contacts', given.relay) or {}
  contact.seen = given.now
  put('contacts', given.relay, contact)
end)

relief('failed', function(given)
  local contact = get('contacts', given.relay) or {}
  contact.failed, contact.error = given.now, given.error
  put('contacts', given.relay, contact)
end)

-- Free the held events of one journal's branch up to a sequence; how many these were.
local function free(journal, branch, up_to)
  local held = key('held', journal, branch)
  local numbers = call('ZRANGEBYSCORE', held, '-inf', whole(up_to))
  for _, number in ipairs(numbers) do
    local event = call('HGET', key('event'), number)
    call('HSET', key('event'), number, '0' .. event:sub(2))
    call('ZREM', held, number)
  end
  if call('EXISTS', held) == 0 then
    call('SREM', key('held'), journal .. ' ' .. branch)
  end
  bump('held_events', -#numbers)
  return #numbers
end

-- Let what waited for the held events of a branch go on, in the order in which it came.
local function let_go(journals, branch)
  local numbers = {}
  for _, journal in ipairs(journals) do
    for _, number in ipairs(call('ZRANGE', key('waiting', journal, branch), 0, -1)) do
      numbers[#numbers + 1] = number
    end
  end
  table.sort(numbers, function(a, b) return tonumber(a) < tonumber(b) end)
  local free = {}
  for _, number in ipairs(numbers) do
    local work = load_work(number)
    if not is_held(work) then
      local state = get('state', number)
      change_state(number, state, 'pending')
      put('state', number, state)
      call('ZREM', key('waiting', work[W_JOURNAL], branch), number)
      free[#free + 1] = work
    end
  end
  settle_all(free)
end

-- Free what is held of a branch, and of the journals that its own continues, backwards.
local function release(journal, branch, up_to)
  local seen, journals, count = {}, {}, 0
  while not seen[journal] do
    seen[journal] = true
    journals[#journals + 1] = journal
    count = count + free(journal, branch, up_to)
    local before = get('continued:' .. journal, branch)
    if before then
      journal, up_to = before[1], before[2]
    end
  end
  if count > 0 then
    let_go(journals, branch)
  end
  return count
end

step('release', function(given)
  return release(given.journal, given.branch, given.up_to)
end)

step('decide', function(given, args)
  local row = row_of(given.journal)
  if not row then
    return -1
  end
  call('RPUSH', key('decisions', given.journal), args[2])
  if given.verb == 'admit' or given.verb == 'vouch' then
    row.stopped = nil
    put('journals', given.journal, row)
    return 0
  end
  return release(given.journal, given.branch, given.sequence)
end)

-- What of a batch is new: the records, and the places of their texts in the arguments. A record
-- that was stored by other bytes ends it.
local function sift(given, args, pruned)
  local places = key('places', given.journal)
  local top = tonumber(call('ZREVRANGE', places, 0, 0, 'WITHSCORES')[2] or 0)
  local new = {}
  for at = 2, given.records + 1 do
    local record = decode(args[at])
    local sequence, found = record[SEQUENCE], nil
    if sequence > pruned and sequence <= top then
      found = call('ZRANGEBYSCORE', places, whole(sequence), whole(sequence))[1]
    end
    if found then
      local _, stored = unpack_one(call('HGET', key('event'), found:match('%d+')), 1)
      if stored[SHA256] ~= record[SHA256] then
        return nil, {'fork', whole(sequence), stored[SHA256], record[SHA256]}
      end
    elseif sequence > pruned then
      new[#new + 1] = {record, args[at]}
    end
  end
  return new
end

-- The first certificate, by name, that records name and nobody has.
local function missing(new, certificates)
  local asked, worst = {}, nil
  for _, each in ipairs(new) do
    local name = each[1][CERTIFICATE]
    if asked[name] == nil then
      asked[name] = certificates[name] ~= nil
        or call('HEXISTS', key('certificates'), name) == 1
    end
    if not asked[name] and (not worst or name < worst) then
      worst = name
    end
  end
  return worst
end

local function move(given, row, fresh)
  if not row or row.scanned ~= given.scanned or fresh then
    row = row or {first_seen = given.seen, number = bump('journals')}
    row.stopped = nil
  end
  row.repo, row.relay, row.scanned, row.since = given.repo, given.relay, given.scanned, nil
  row.head = math.max(row.head or 0, given.scanned)
  row.origin = given.origin or row.origin
  put('journals', given.journal, row)
end

local function store_events(journal, new)
  local events, places, uses = {}, {}, {}
  for _, each in ipairs(new) do
    local record, text = each[1], each[2]
    local number, branch = whole(bump('events')), record[BRANCH]
    local sequence = whole(record[SEQUENCE])
    events[#events + 1], events[#events + 2] = number, (record[HELD] and '1' or '0') .. text
    places[#places + 1], places[#places + 2] = sequence, number .. ' ' .. branch
    uses[record[CERTIFICATE]] = (uses[record[CERTIFICATE]] or 0) + 1
    for _, node in ipairs(record[NODES]) do
      call('ZADD', key('nodes', node:sub(1, 4)), 0, node .. ' ' .. number)
    end
    if record[HELD] then
      call('ZADD', key('held', journal, branch), sequence, number)
      call('SADD', key('held'), journal .. ' ' .. branch)
      bump('held_events')
    end
  end
  many('HSET', key('event'), events)
  many('ZADD', key('places', journal), places)
  for name, count in pairs(uses) do
    call('HINCRBY', key('uses'), name, count)
  end
  bump('stored', #new)
end

local function store_rest(given)
  for name, token in pairs(given.certificates) do
    if call('HSETNX', key('certificates'), name, token) == 1 then
      call('HINCRBY', key('uses'), name, 0)
    end
  end
  for branch, link in pairs(given.heads) do
    put('chain:' .. given.journal, branch, link)
  end
  for branch, before in pairs(given.continues) do
    put('continued:' .. given.journal, branch, before)
  end
  for _, each in ipairs(given.release) do
    release(given.journal, each[1], each[2])
  end
end

-- Make a delivery; gives its work back if its lane is to be settled.
local function add(text, pruned)
  local work = decode(text)
  local known = number_of(work[ID])
  if known or work[LAST] <= pruned(work[W_JOURNAL]) then
    return
  end
  local number = whole(bump('deliveries'))
  local name = is_held(work) and 'held' or 'pending'
  bump(name)
  call('HSET', key('ids', work[ID]:sub(1, 4)), work[ID], number)
  call('HSET', key('work'), number, text)
  call('HSET', key('state'), number, pack({state = name}))
  call('ZADD', key('refs', work[W_JOURNAL]), whole(work[FIRST]), number)
  call('ZADD', key('open'), number, number)
  call('ZADD', key('turns'), 'NX', 0, work[RULE])
  set_counter('span', math.max(counter('span'), work[LAST] - work[FIRST]))
  if name == 'held' then
    call('ZADD', key('waiting', work[W_JOURNAL], work[W_BRANCH]), number, number)
  end
  local lane = lane_of(work)
  call('ZADD', lane, number, member(number, work))
  return (work[LATEST] or call('ZCARD', lane) == 1) and work
end

step('accept', function(given, args)
  if not reads(given.scope) then
    return {'scope'}
  end
  local row = row_of(given.journal)
  local new, fork = sift(given, args, row and row.pruned or 0)
  if fork then
    return fork
  end
  local position = row and row.scanned or nil
  if position ~= given.expected then
    if position == given.scanned and #new == 0 then
      return {'accepted', 0}
    end
    return {'conflict', position and whole(position) or false}
  end
  local unknown = missing(new, given.certificates)
  if unknown then
    return {'certificate', unknown}
  end
  move(given, row, #new > 0)
  store_events(given.journal, new)
  store_rest(given)
  local ends = {}
  local function pruned(journal)
    ends[journal] = ends[journal] or (row_of(journal) or {}).pruned or 0
    return ends[journal]
  end
  local made = {}
  for at = given.records + 2, #args do
    made[#made + 1] = add(args[at], pruned) or nil
  end
  settle_all(made)
  return {'accepted', #new}
end)

-- Which instance follows a journal.

local function yield(instance)
  for _, journal in ipairs(call('HKEYS', key('followed'))) do
    if get('followed', journal).instance == instance then
      call('HDEL', key('followed'), journal)
    end
  end
end

relief('lease_journals', function(given)
  if not reads(given.scope) then
    yield(given.instance)
    return {}
  end
  for _, journal in ipairs(given.journals) do
    local now = get('followed', journal)
    if not now or now.instance == given.instance or now.till <= given.now then
      put('followed', journal, {instance = given.instance, till = given.till})
    end
  end
  local mine, all = {}, call('HGETALL', key('followed'))
  for at = 1, #all, 2 do
    local now = decode(all[at + 1])
    if now.instance == given.instance and now.till > given.now then
      mine[#mine + 1] = all[at]
    end
  end
  return mine
end)

relief('yield_journals', function(given) yield(given.instance) end)
