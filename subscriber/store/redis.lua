#!lua name=zmqhooks1
-- The store on Redis or Valkey: this file, redis_intake.lua, redis_engine.lua and redis_reader.lua,
-- one behind the other, are one library of functions. Each function is one step of the contract.
--
-- Keys. P is {zmqhooks:NAME}, with braces, so that all keys of a store are in one slot.
--
--   P:store              hash    identity, format, scope, and the counters named below
--   P:journals           hash    journal -> row
--   P:chain:J            hash    branch -> sequence and SHA-256 of its newest event
--   P:continued:J        hash    branch -> journal and sequence of what it stands behind
--   P:relays             set     relays whose first WELCOME was taken
--   P:contacts           hash    relay -> when it was heard, when and how it failed
--   P:decisions:J        list    what operators decided, as the program wrote it
--   P:certificates       hash    SHA-256 -> token
--   P:uses               hash    SHA-256 -> how many stored events name it
--   P:event              hash    number -> "1" if held, else "0", and the record
--   P:places:J           zset    "number branch" by sequence: the events of a journal
--   P:nodes:XXXX         zset    "node number", by the first four digits of the node
--   P:held               set     "journal branch" of what is held
--   P:held:J:BRANCH      zset    number of each held event by sequence
--   P:waiting:J:BRANCH   zset    number of each held delivery
--   P:ids:XXXX           hash    id of a delivery -> number, by the first four characters of the id
--   P:work               hash    number -> what to do, never changed
--   P:state              hash    number -> how it stands
--   P:receipt            hash    "number.1" and so on -> how an attempt ended
--   P:refs:J             zset    number of each delivery by the first sequence that it is about
--   P:open               zset    number of each delivery that is open
--   P:dead, P:superseded zset    number of each such delivery
--   P:ended              zset    number of each final delivery by the time at which it ended
--   P:turns              zset    every rule by the fence of its newest claim
--   P:lane:RULE:KEY      zset    open deliveries of a lane, "+" behind the number if `latest`
--   P:ready:RULE         zset    order key of each ready lane by its turn
--   P:delayed:RULE       zset    order key of each delayed lane by the end of its delay
--   P:busy:RULE          hash    order key -> number of the lane's delivery that runs
--   P:leases             zset    number of each delivery that runs by the end of its lease
--   P:locks              hash    named lock -> number of the delivery that holds it
--   P:paused             hash    rule -> who paused it, when and why
--   P:followed           hash    journal -> which instance follows it, until when
--
-- What is kept is in MessagePack. The program writes records, work and outcomes; their fields are
-- counted in the order of subscriber/store/redis_forms.py. Bytes are in them as text of Latin-1,
-- since cmsgpack has no bytes. Rows and states are written here: maps without what is absent.
--
-- A step that fails must leave nothing behind, and Redis takes nothing back: so every function
-- looks first and writes then.

local REVISION = 1   -- of this library; a program loads its own where it finds an older one
local FORMAT = 1     -- of the keys
local LOST_LIMIT = 10
local STEP = 2000    -- deliveries that one call of a listing looks at
local MUCH = 2^22    -- bytes after which one call of a listing gives no further event

-- Fields of a record
local SEQUENCE, SHA256, BRANCH, CERTIFICATE, RECEIVED, HELD, NODES = 1, 2, 3, 4, 5, 6, 7
-- Fields of work
local ID, RULE, ORDER_KEY, LATEST = 1, 2, 3, 4
local W_JOURNAL, W_BRANCH, FIRST, LAST = 5, 6, 7, 8
local CREATED, EVENT_ID, W_REPO = 9, 10, 11

local OPEN = {pending = true, running = true, retrying = true, held = true}
-- The counters, by their places in what is kept; those of states have the names of the states.
local COUNTERS = {
  'fence', 'turn', 'journals', 'events', 'deliveries', 'first_delivery', 'first_event', 'span',
  'stored', 'held_events',
  'pending', 'running', 'retrying', 'held', 'done', 'dead', 'superseded',
}
local AT = {}
for place = 1, #COUNTERS do
  AT[COUNTERS[place]] = place
end

local call, pack, decode, unpack_one   -- of the server, which has none while it loads a library

-- What a call has in hand: the beginning of its keys, and the counters, an array.
local P
local counters, changed

local function key(name, first, second)
  if second then
    return P .. name .. ':' .. first .. ':' .. second
  end
  return first and P .. name .. ':' .. first or P .. name
end

local function counter(name)
  return counters[AT[name]]
end

local function set_counter(name, value)
  if counter(name) ~= value then
    counters[AT[name]], changed = value, true
  end
  return value
end

local function bump(name, by)
  return set_counter(name, counter(name) + (by or 1))
end

-- Numbers of 2^53 at most: %.0f writes them whole, where tostring would write 1e+15.
local function whole(number)
  return string.format('%.0f', number)
end

-- A time or another number as an argument, exactly.
local function exact(number)
  return string.format('%.17g', number)
end

-- A command with a long list of arguments, in pieces that fit on Lua's stack.
local function many(command, name, list)
  for at = 1, #list, 1000 do
    call(command, name, unpack(list, at, math.min(at + 999, #list)))
  end
end

local function get(name, field)
  local found = call('HGET', key(name), field)
  return found and decode(found) or nil
end

local function put(name, field, value)
  call('HSET', key(name), field, pack(value))
end

local function number_of(id)
  return call('HGET', key('ids', id:sub(1, 4)), id)
end

local function load_work(number)
  return decode(call('HGET', key('work'), number))
end

local function is_held(work)
  if counter('held_events') == 0 then
    return false
  end
  local held = key('held', work[W_JOURNAL], work[W_BRANCH])
  return call('ZCOUNT', held, whole(work[FIRST]), whole(work[LAST])) > 0
end

local function register(name, body, flags)
  redis.register_function{
    function_name = 'zmqhooks1_' .. name,
    flags = flags,
    callback = function(keys, args)
      call, pack = redis.call, cmsgpack.pack
      decode, unpack_one = cmsgpack.unpack, cmsgpack.unpack_one
      P = keys[1] .. ':'
      return body(decode(args[1]), args)
    end,
  }
end

-- Every function takes P as its key, and one argument in MessagePack before what it takes besides.
-- It must name the store that its program opened: another one may be here now, or none.
local function guarded(name, body, flags)
  register(name, function(given, args)
    local found = call('HMGET', key('store'), 'identity', 'counters')
    if found[1] ~= given.store then
      return redis.error_reply('OTHERSTORE this is another store now')
    end
    counters, changed = decode(found[2]), false
    local answer = body(given, args)
    if changed then
      call('HSET', key('store'), 'counters', pack(counters))
    end
    return answer
  end, flags)
end

-- A server whose memory is full refuses a step, unless it is one that helps to do and to forget
-- what is there.
local function step(name, body) guarded(name, body, {}) end
local function relief(name, body) guarded(name, body, {'allow-oom'}) end
local function question(name, body) guarded(name, body, {'no-writes'}) end

local function hello()
  local found = call('HMGET', key('store'), 'identity', 'format')
  return {REVISION, found[1], tonumber(found[2] or FORMAT)}
end

-- What a program asks first: what is here. `identity`: the id of a store that is made now.
register('open', function(given)
  if given.identity then
    local none = {}
    for place = 1, #COUNTERS do
      none[place] = 0
    end
    call('HSETNX', key('store'), 'identity', given.identity)
    call('HSETNX', key('store'), 'format', FORMAT)
    call('HSETNX', key('store'), 'counters', pack(none))
  end
  return hello()
end, {'allow-oom'})

register('peek', hello, {'no-writes'})
