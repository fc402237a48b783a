-- Lanes, leases, fences and receipts.

local function member(number, work)
  return work[LATEST] and number .. '+' or number
end

local function lane_of(work)
  return key('lane', work[RULE], work[ORDER_KEY])
end

local function change_state(number, state, name)
  bump(state.state, -1)
  bump(name)
  state.state = name
end

-- A delivery is final, without more ado about its lane.
local function close(number, work, state, name, now)
  change_state(number, state, name)
  state.ended, state.due = now, nil
  call('ZREM', lane_of(work), member(number, work))
  call('ZREM', key('open'), number)
  call('ZADD', key('ended'), exact(now), number)
  if name ~= 'done' then
    call('ZADD', key(name), number, number)
  end
  call('HSET', key('state'), number, pack(state))
end

-- Where the newest of a lane is `latest`, let only the newest wait; true if others gave way.
local function supersede(lane, now)
  local newest = call('ZRANGE', lane, -1, -1)[1]
  if newest:sub(-1) ~= '+' then
    return false
  end
  local waiting = {}
  for _, each in ipairs(call('ZRANGE', lane, 0, -1)) do
    local number = each:match('%d+')
    local state = get('state', number)
    if state.state == 'pending' or state.state == 'retrying' then
      waiting[#waiting + 1] = {number, state}
    end
  end
  if #waiting < 2 then
    return false
  end
  local winner = load_work(waiting[#waiting][1])
  for at = 1, #waiting - 1 do
    local number, state = unpack(waiting[at])
    state.reason = 'superseded by ' .. winner[ID]
    close(number, load_work(number), state, 'superseded', now or winner[CREATED])
  end
  return true
end

local function queue(rule, order_key)
  call('ZADD', key('ready', rule), 'NX', whole(bump('turn')), order_key)
end

-- Take the state of a lane from what is open in it. `ended`: its delivery that ran does not run any
-- more, so that the lane was neither ready nor delayed.
local function settle(work, now, ended)
  local lane, rule, order_key = lane_of(work), work[RULE], work[ORDER_KEY]
  local first = call('ZRANGE', lane, 0, 0)[1]
  if first and supersede(lane, now) then
    first = call('ZRANGE', lane, 0, 0)[1]
  end
  local ready, due = false, nil
  if first and (ended or call('HEXISTS', key('busy', rule), order_key) == 0) then
    local state = get('state', first:match('%d+'))
    ready, due = state.state == 'pending', state.due
  end
  if not ended then
    if not ready then
      call('ZREM', key('ready', rule), order_key)
    end
    if not due then
      call('ZREM', key('delayed', rule), order_key)
    end
  end
  if due then
    call('ZADD', key('delayed', rule), exact(due), order_key)
  elseif ready and (ended or not call('ZSCORE', key('ready', rule), order_key)) then
    queue(rule, order_key)
  end
end

-- Settle the lanes of these deliveries, each once: one with very many held ones takes its time.
local function settle_all(works, now)
  local done = {}
  for _, work in ipairs(works) do
    local lane = lane_of(work)
    if not done[lane] then
      done[lane] = true
      settle(work, now)
    end
  end
end

-- An attempt is over. `outcome` becomes part of its receipt, an array of five.
local function end_attempt(number, work, state, finish, outcome, now)
  local attempt = (state.attempts or 0) + 1
  local count = (state.receipts or 0) + 1
  local head = pack(state.fence, attempt, state.owner, finish.counted)
  call('HSET', key('receipt'), number .. '.' .. count, '\149' .. head .. outcome)
  call('ZREM', key('leases'), number)
  call('HDEL', key('busy', work[RULE]), work[ORDER_KEY])
  if state.lock then
    call('HDEL', key('locks'), state.lock)
  end
  state.receipts = count
  state.attempts = finish.counted and attempt or state.attempts
  state.lost = finish.lost and (state.lost or 0) + 1 or state.lost
  state.reason = finish.reason
  state.owner, state.claimed, state.lease_until, state.lock = nil, nil, nil, nil
  state.due = finish.retry_at
  if OPEN[finish.state] then
    change_state(number, state, finish.state)
    call('HSET', key('state'), number, pack(state))
  else
    close(number, work, state, finish.state, now)
  end
  settle(work, now, true)
end

-- The holder of a lease is gone without a result.
local function lose(number, now)
  local work, state = load_work(number), get('state', number)
  local finish = {state = 'pending', counted = false, lost = true}
  finish.reason = state.owner .. ' ended without a result'
  if (state.lost or 0) + 1 >= LOST_LIMIT then
    finish.state = 'dead'
    finish.reason = finish.reason .. ', the ' .. LOST_LIMIT
      .. 'th such attempt: the action may be what ends it'
  end
  local outcome = pack({state.claimed or now, now, 'lost', finish.reason})
  end_attempt(number, work, state, finish, outcome, now)
end

-- Leases that end by a time, in the order in which they end.
local function leases(by)
  local found = call('ZRANGEBYSCORE', key('leases'), '-inf', by, 'WITHSCORES')
  local sorted = {}
  for at = 1, #found, 2 do
    sorted[#sorted + 1] = {found[at], tonumber(found[at + 1])}
  end
  table.sort(sorted, function(a, b)
    if a[2] ~= b[2] then return a[2] < b[2] end
    return tonumber(a[1]) < tonumber(b[1])
  end)
  return sorted
end

-- Whether a delivery of this rule may begin now, under the terms that its claimer gave.
local function may_run(rule, terms)
  if not terms then
    return true
  end
  local mine = terms[rule]
  if not mine then
    return false
  end
  if mine.limit and call('HLEN', key('busy', rule)) >= mine.limit then
    return false
  end
  return not mine.lock or call('HEXISTS', key('locks'), mine.lock) == 0
end

-- The rules that may run, whose turn it is first: by the fence of the newest claim, then by name.
local function candidates(terms)
  local found = {}
  for _, rule in ipairs(call('ZRANGE', key('turns'), 0, -1)) do
    if may_run(rule, terms) and call('HEXISTS', key('paused'), rule) == 0 then
      found[#found + 1] = rule
    end
  end
  return found
end

local function wake(rule, now)
  local due = call('ZRANGEBYSCORE', key('delayed', rule), '-inf', now, 'LIMIT', 0, 1000)
  for _, order_key in ipairs(due) do
    call('ZREM', key('delayed', rule), order_key)
    queue(rule, order_key)
  end
end

-- max(the last one + 1, microseconds now), by the server's clock and by the caller's: no fence goes
-- backwards when the last one was lost in a fail-over, nor when one of the clocks is behind.
local function next_fence(now)
  local time = call('TIME')
  local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
  return set_counter('fence', math.max(counter('fence') + 1, micros, math.floor(now * 1e6)))
end

-- A delivery as the program reads it: number, work and state, an array of three.
local function delivery(number, work, state)
  return '\147' .. pack(tonumber(number)) .. work .. state
end

local function lease(rule, order_key, lock, given)
  local number = call('ZRANGE', key('lane', rule, order_key), 0, 0)[1]:match('%d+')
  local state = get('state', number)
  change_state(number, state, 'running')
  state.fence = next_fence(given.now)
  state.owner, state.claimed, state.lease_until = given.owner, given.now, given.lease_until
  state.lock, state.due = lock, nil
  local packed = pack(state)
  call('HSET', key('state'), number, packed)
  call('ZADD', key('leases'), exact(given.lease_until), number)
  call('HSET', key('busy', rule), order_key, number)
  if lock then
    call('HSET', key('locks'), lock, number)
  end
  return delivery(number, call('HGET', key('work'), number), packed)
end

relief('claim', function(given)
  for _, each in ipairs(leases(exact(given.now))) do
    lose(each[1], given.now)
  end
  local rules, claims = candidates(given.terms), {}
  for _, rule in ipairs(rules) do
    wake(rule, exact(given.now))
  end
  local at, claimed = 1, {}
  while rules[at] and #claims < given.limit do
    local rule = rules[at]
    at = at + 1
    local ready = may_run(rule, given.terms) and call('ZPOPMIN', key('ready', rule)) or {}
    if ready[1] then
      local lock = given.terms and given.terms[rule].lock or nil
      claims[#claims + 1] = lease(rule, ready[1], lock, given)
      claimed[rule] = counter('fence')
      rules[#rules + 1] = rule
    end
  end
  for rule, fence in pairs(claimed) do
    call('ZADD', key('turns'), whole(fence), rule)
  end
  return claims
end)

-- The number, work and state of a delivery if it is held under this fence.
local function held_by(id, fence)
  local number = number_of(id)
  local state = number and get('state', number)
  return number, state, state and state.state == 'running' and state.fence == fence
end

relief('extend', function(given)
  local number, state, mine = held_by(given.id, given.fence)
  if not mine then
    return 0
  end
  state.lease_until = given.lease_until
  put('state', number, state)
  call('ZADD', key('leases'), exact(given.lease_until), number)
  return 1
end)

-- Whether the same finish was done before, and its answer was lost.
local function was_finished(number, state, fence, outcome)
  for at = state.receipts or 0, 1, -1 do
    local receipt = call('HGET', key('receipt'), number .. '.' .. at)
    if select(2, unpack_one(receipt, 1)) == fence then
      return receipt:sub(-#outcome) == outcome
    end
  end
  return false
end

relief('finish', function(given, args)
  local number, state, mine = held_by(given.id, given.fence)
  if mine then
    end_attempt(number, load_work(number), state, given, args[2], given.now)
    return 1
  end
  return state and was_finished(number, state, given.fence, args[2]) and 1 or 0
end)

relief('release_leases', function(given)
  local count = 0
  for _, each in ipairs(leases('+inf')) do
    if not given.owner or get('state', each[1]).owner == given.owner then
      lose(each[1], given.now)
      count = count + 1
    end
  end
  return count
end)

-- Whether the end of a delivery that runs may let one of our rules begin.
local function concerns(number, terms, locks)
  if not terms or terms[load_work(number)[RULE]] then
    return true
  end
  local lock = get('state', number).lock
  return lock ~= nil and locks[lock] ~= nil
end

question('next_due', function(given)
  local soonest, locks = nil, {}
  local function at(time)
    soonest = math.min(soonest or time, time)
  end
  for _, rule in ipairs(candidates(given.terms)) do
    if call('EXISTS', key('ready', rule)) == 1 then
      return '0'
    end
    local first = call('ZRANGE', key('delayed', rule), 0, 0, 'WITHSCORES')
    if first[2] then
      at(tonumber(first[2]))
    end
  end
  for _, each in pairs(given.terms or {}) do
    if each.lock then
      locks[each.lock] = true
    end
  end
  for _, each in ipairs(leases('+inf')) do
    if concerns(each[1], given.terms, locks) then
      at(each[2])
      break
    end
  end
  return soonest and exact(soonest)
end)

-- What operators do

-- A final delivery is pending again, or held, at its old place in its lane.
local function reopen(number, work, state)
  call('ZREM', key('ended'), number)
  if state.state ~= 'done' then
    call('ZREM', key(state.state), number)
  end
  change_state(number, state, is_held(work) and 'held' or 'pending')
  if state.state == 'held' then
    call('ZADD', key('waiting', work[W_JOURNAL], work[W_BRANCH]), number, number)
  end
  state.attempts, state.lost, state.ended, state.reason = nil, nil, nil, nil
  state.renewed = state.fence
  call('ZADD', lane_of(work), number, member(number, work))
  call('ZADD', key('open'), number, number)
end

step('redeliver', function(given)
  local done, works = {}, {}
  for _, id in ipairs(given.ids) do
    local number = number_of(id)
    local state = number and get('state', number)
    if state and (state.state == 'retrying' or not OPEN[state.state]) then
      local work = load_work(number)
      if state.state == 'retrying' then
        state.due = given.now
      else
        reopen(number, work, state)
      end
      put('state', number, state)
      done[#done + 1], works[#works + 1] = id, work
    end
  end
  settle_all(works, given.now)
  return done
end)

relief('bury', function(given)
  local done, works = {}, {}
  for _, id in ipairs(given.ids) do
    local number = number_of(id)
    local state = number and get('state', number)
    if state and OPEN[state.state] and state.state ~= 'running' then
      local work = load_work(number)
      if state.state == 'held' then
        call('ZREM', key('waiting', work[W_JOURNAL], work[W_BRANCH]), number)
      end
      state.reason = given.reason
      close(number, work, state, 'dead', given.now)
      done[#done + 1], works[#works + 1] = id, work
    end
  end
  settle_all(works, given.now)
  return done
end)

relief('pause', function(given, args)
  return call('HSETNX', key('paused'), given.rule, args[2])
end)

relief('resume', function(given)
  return call('HDEL', key('paused'), given.rule)
end)
