-- pipeline.lua: wrk script; asks for the one address of the command line, so
-- many requests at a time as its argument says ("-- 16"). The requests are put
-- together once. wrk counts answers, not writes.

local burst

function init(arguments)
    burst = string.rep(wrk.format(), tonumber(arguments[1]))
end

function request()
    return burst
end
