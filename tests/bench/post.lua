-- post.lua: wrk script; POSTs one event after the other, each with a key of its
-- own, 157 bytes of body. Bodies are made once and only their numbers change,
-- so that wrk does not become what is measured.

local run = string.format("%08x", os.time() % 0x100000000)
local thread = 0

function setup(thread_)
    thread_:set("id", thread)
    thread = thread + 1
end

function init()
    local path = wrk.path
    head = "POST " .. path .. " HTTP/1.1\r\nHost: bench\r\n"
        .. "Content-Type: application/json\r\nContent-Length: 157\r\n\r\n"
        .. '{"idempotencyKey":"' .. run .. string.format("%02x", id)
    tail = '","eventType":"page_view","payload":{"page":"/products/42",'
        .. '"referrer":"https://example.org/","ms":17,"session":"a1b2c3d"}}'
    local key = 157 - (#'{"idempotencyKey":"' + 10 + #tail)
    format = "%0" .. key .. "x"
    number = 0
end

function request()
    number = number + 1
    return head .. string.format(format, number) .. tail
end
