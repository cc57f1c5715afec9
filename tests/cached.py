"""What tests of hotpath_cache in front of an upstream share.

    STACK = cached.options      of a module: what the fixture nginx_only runs,
                                all locations below, the fixture origin behind
                                them, also over HTTP/2 on ports["nats"]
    get(stack, path, If_None_Match='"1"')      -> Answer
    status(answer)              our member of Cache-Status, as a dictionary
    twice(stack, origin, path)  two answers, and how often the origin was asked
    stored(…)                   an answer in the zone that is stale already
    purge(stack, model="@http", key=…)         -> how many

Time is the origin's to tell: an answer with an Age beyond its max-age is stale
as soon as it is stored, so no test waits for a lifetime to end.
"""

import os

from origin import Reply
from servers import ROOT, local

HOTPATH = """
hotpath_cache_zone zone=documents:16m;
hotpath_cache_zone zone=small:4m max_entry=16k;

map $http_x_tenant $tenant {
    ""       default;
    default  $http_x_tenant;
}
"""

ROUTES = """
proxy_http_version 1.1;
proxy_set_header Connection "";
proxy_set_header Host $host;
proxy_connect_timeout 1s;
hotpath_tenant $tenant;

location / {
    proxy_pass http://origin;
    hotpath_cache documents ttl=60s negative_ttl=30s jitter=0%;
}
location /off/ { proxy_pass http://origin; }
location /key/ {
    proxy_pass http://origin;
    hotpath_cache documents jitter=0% status_key;
    hotpath_cache_key $arg_id name=things;
}
location /key/shared/ {
    proxy_pass http://origin;
    hotpath_cache documents status_key;
    hotpath_cache_key default shared;
}
location /vary/ {
    proxy_pass http://origin;
    hotpath_cache documents;
    hotpath_cache_vary X-Kind x-colour;
}
location /bypass/ {
    proxy_pass http://origin;
    hotpath_cache documents;
    hotpath_cache_bypass $http_x_fresh $arg_fresh;
}
location /control/ {
    proxy_pass http://origin;
    hotpath_cache documents request_control=1;
}
location /stale/ {
    proxy_pass http://origin;
    hotpath_cache documents ttl=60s revalidate=1h stale=1h;
}
location /ahead/ {
    proxy_pass http://origin;
    hotpath_cache documents ttl=60s refresh=50%;
}
location /heads/ {
    proxy_pass http://origin;
    proxy_buffer_size 32k;
    proxy_buffers 8 32k;
    hotpath_cache documents;
}
location /coded/ {
    proxy_pass http://origin;
    hotpath_cache documents compress=100;
}
location /tags/ {
    proxy_pass http://origin;
    hotpath_cache documents;
    hotpath_cache_tags "$upstream_http_cache_tag $upstream_http_other";
}
location /small/ {
    proxy_pass http://origin;
    hotpath_cache small;
}
location /unbuffered/ {
    proxy_pass http://origin;
    proxy_buffering off;
    hotpath_cache documents;
}
location /slow/ {
    proxy_pass http://origin;
    proxy_buffers 4 4k;
    proxy_buffer_size 4k;
    proxy_busy_buffers_size 8k;
    hotpath_cache documents;
}
location /nofile/ {
    proxy_pass http://origin;
    proxy_buffers 4 4k;
    proxy_buffer_size 4k;
    proxy_busy_buffers_size 8k;
    proxy_max_temp_file_size 0;
    hotpath_cache documents;
}
location /ignore/ {
    proxy_pass http://origin;
    proxy_ignore_headers Cache-Control Expires Set-Cookie Vary;
    hotpath_cache documents;
}
location /hide/ {
    proxy_pass http://origin;
    proxy_hide_header Cache-Control;
    hotpath_cache documents;
}
location /gzip/ {
    proxy_pass http://origin;
    gzip on;
    gzip_types application/json;
    gzip_min_length 1;
    hotpath_cache documents;
}
location /add/ {
    proxy_pass http://origin;
    add_header X-Added $request_id;
    hotpath_cache documents;
}
location /pages/ {
    proxy_pass http://origin;
    proxy_intercept_errors on;
    error_page 404 /page;
    hotpath_cache documents;
}
location = /page { internal; return 200 "the page"; }
location /files/ {
    internal;
    proxy_pass http://origin;
    hotpath_cache documents;
}
location /auth/ {
    auth_request /check;
    proxy_pass http://origin;
    hotpath_cache documents;
}
location = /check {
    internal;
    proxy_pass http://origin;
    proxy_pass_request_body off;
    hotpath_cache documents;
}
location /ssi/ {
    ssi on;
    proxy_pass http://origin;
    hotpath_cache documents;
}
location /socket/ {
    proxy_pass http://origin;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "upgrade";
    hotpath_cache documents;
}
location /moved/ {
    proxy_pass http://origin/;
    proxy_redirect http://inner/ /moved/;
    hotpath_cache documents;
}
location /scgi/ {
    scgi_param REQUEST_METHOD $request_method;
    scgi_pass 127.0.0.1:$arg_port;
    hotpath_cache documents;
}
location /rewritten/ {
    if ($http_x_mobile) { rewrite ^/rewritten(.*) /mobile$1 last; }
    proxy_pass http://origin;
    hotpath_cache documents;
}
location /mobile/ {
    proxy_pass http://origin;
    hotpath_cache documents;
}
location = /stub { stub_status; hotpath_cache documents; }
location /soft/ {
    proxy_pass http://origin;
    hotpath_cache documents ttl=60s revalidate=1h stale=1h;
    hotpath_cache_tags $upstream_http_cache_tag;
}
location = /purge {
    hotpath_purge;
    hotpath_purge_token_file TOKENS;
}
location = /health/live { hotpath_health live; }
location = /metrics { hotpath_metrics; }
"""

STALE = "max-age=10, stale-while-revalidate=1000"
ERROR = "max-age=10, stale-if-error=1000"
OVER = "max-age=10, stale-while-revalidate=0, stale-if-error=0"


def options(port):
    ports = local.free_ports()
    return {
        "ports": ports, "hotpath": HOTPATH, "routes": ROUTES.replace(
            "TOKENS", os.path.join(ROOT, "tests", "purge-tokens")),
        "backends": lambda text: "",
        "http": f"""
upstream origin {{ server 127.0.0.1:{port}; keepalive 32; }}
server {{
    listen 127.0.0.1:{ports["nats"]} http2;
    include routes.conf;
}}
"""}


def get(stack, path, **headers):
    return stack.get(path, {name.replace("_", "-"): value
                            for name, value in headers.items()})


def status(answer):
    member = answer.headers.get_all("Cache-Status")[-1].split(", ")[-1]
    name, *parameters = member.split("; ")
    assert name == "Hotpath"
    return {key: value for key, _, value in
            (each.partition("=") for each in parameters)}


def twice(stack, origin, path, **headers):
    before = origin.count(path)
    first, second = (get(stack, path, **headers) for _ in range(2))
    return first, second, origin.count(path) - before


def purge(stack, **target):
    """Purges by name, key, tag …; how many entries it has met."""
    answer = stack.request("POST", "/purge", target, {
        "Authorization": "Bearer test-token-of-sixteen-and-more"})
    assert answer.status == 200, answer.body
    return answer.json()["purged"]


def stored(stack, origin, path, body, control, **fields):
    origin[path] = Reply(body, Age="20", Cache_Control=control, **fields)
    assert "stored" in status(get(stack, path))
