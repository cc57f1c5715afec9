# Varnish: documents kept for a day, in the storage that the command line names.
# A request goes straight to the look-up: the built-in rules about cookies and
# methods are left out. The command line is in peers.py.

vcl 4.1;

backend origin {
    .host = "127.0.0.1";
    .port = "@origin@";
}

sub vcl_recv {
    return (hash);
}

sub vcl_backend_response {
    set beresp.ttl = 1d;
    return (deliver);
}
