-- random.lua: wrk script; asks for documents drawn at random from those numbered
-- 1 to a count, several in one write. Arguments: the count, and how many in a
-- write. Everything is put together before wrk begins.

local bursts, at = {}, 0

function init(arguments)
    local count, depth = tonumber(arguments[1]), tonumber(arguments[2])
    local requests = {}
    math.randomseed(count)
    for i = 1, math.floor(300000 / depth) do
        for j = 1, depth do
            requests[j] = "GET " .. wrk.path .. math.random(count)
                .. " HTTP/1.1\r\nHost: bench\r\n\r\n"
        end
        bursts[i] = table.concat(requests, "", 1, depth)
    end
end

function request()
    at = at % #bursts + 1
    return bursts[at]
end
