-- Posts one receipt per request, for the messages of the file $IDS ("channel id<TAB>message id" a line) from line
-- $FIRST on: no message comes twice before all have come.
dofile(os.getenv("READ_LUA"))

local lines = {}
for line in io.lines(os.getenv("IDS")) do
  lines[#lines + 1] = line
end
local position = tonumber(os.getenv("FIRST"))
local path, body = os.getenv("TARGET"), os.getenv("BODY")
local before, after = body:match("^(.*)@ID@(.*)$")
local headers = { ["Content-Type"] = "application/json", ["Authorization"] = os.getenv("AUTHORIZATION") }

request = function()
  local channel, id = lines[position % #lines + 1]:match("^(.-)\t(.*)$")
  position = position + 1
  return wrk.format("POST", path:gsub("@CHANNEL@", channel, 1), headers, before .. id .. after)
end
