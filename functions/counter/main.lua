-- How often was this function called? The module kv keeps values between
-- calls, for this function alone, in the platform's database.
--
-- FaaS-Go's README gets the number with kv.get, adds 1 and puts it back with
-- kv.set. Two calls at the same time can get the same number, and then one of
-- them is not counted. kv.increment adds where the value lies, in one step.
--
-- The same in Python, line by line: counter-py/main.py.
function handler(ctx, event)
  local count = kv.increment("counter")
  log.info("Counter incremented to: " .. count)
  return {
    statusCode = 200,
    headers = { ["Content-Type"] = "application/json" },
    body = json.encode({ count = count }),
  }
end
