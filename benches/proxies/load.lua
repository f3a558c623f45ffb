-- What wrk sends. Arguments: the kind of request, and a file with one line for each session: its token, and what is asked for.
-- Sessions take turns, so that none has two statements on their way.

local kind, lines = nil, {}
local at, serial = 0, 0
local statement = [[{"sqlText":"SELECT id FROM customers WHERE country = '%s'","asyncExec":false,"sequenceId":1,"querySubmissionTime":1}]]
local kinds = { heartbeat = true, poll = true, part = true, statement = true, fresh = true }
local threads = 0

function setup(thread)
  thread:set("thread_number", threads)
  threads = threads + 1
end

function init(arguments)
  kind = arguments[1]
  assert(kinds[kind], "unknown kind of request")
  for line in io.lines(arguments[2]) do
    local token, target = line:match("^(%S+)%s*(%S*)$")
    lines[#lines + 1] = { token = token, target = target }
  end
  math.randomseed(os.time() + thread_number)
  at = math.random(#lines)
  local started = string.format("%08x-0000-4000-8000-", math.random(0, 0x7fffffff))
  for _, line in ipairs(lines) do
    local authorization = 'Snowflake Token="' .. line.token .. '"'
    local json = { ["Authorization"] = authorization, ["Content-Type"] = "application/json", ["Accept"] = "application/json" }
    line.headers = json
    if kind == "heartbeat" then
      line.request = wrk.format("POST", "/session/heartbeat?requestId=" .. started .. "000000000000", json, "{}")
    elseif kind == "poll" then
      line.request = wrk.format("GET", "/queries/" .. line.target .. "/result", json)
    elseif kind == "part" then
      line.request = wrk.format("GET", line.target, {})
    end
  end
  prefix = "/queries/v1/query-request?requestId=" .. started
end

function request()
  at = at % #lines + 1
  local line = lines[at]
  if line.request then return line.request end
  serial = serial + 1
  local value = kind == "fresh" and ("X" .. thread_number .. "-" .. serial) or "DE"
  return wrk.format("POST", prefix .. string.format("%012x", serial), line.headers, statement:format(value))
end
