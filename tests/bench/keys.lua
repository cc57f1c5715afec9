-- keys.lua: wrk script; asks for one document after the other, each request
-- another key. Arguments: the first key, how many keys there are, and where to
-- begin; keys are numbers that follow the path of the command line.

local first, count, number, head

function init(arguments)
    first = tonumber(arguments[1])
    count = tonumber(arguments[2])
    number = tonumber(arguments[3])
    head = "GET " .. wrk.path
end

function request()
    number = (number + 1) % count
    return string.format("%s%d HTTP/1.1\r\nHost: bench\r\n\r\n", head,
        first + number)
end
