# What test_cache.c needs beside the rules of the Makefile: the room's own
# source, nginx's headers (package nginx-dev; NGINX_HEADERS=DIR for another
# tree's src/), and the shim. Included by the Makefile before its rules; alone,
# `make -f cache.mk check-cache` builds and runs it, and `bench-cache` prints
# nanoseconds per look-up.

CORE ?= ../../ngx_module/core
BUILD ?= ../../var/build/unit
NGINX_HEADERS ?= /usr/share/nginx/src/src

sources_cache := $(CORE)/hp_id.c
libs_cache := -lcrypto
cflags_cache := -I. -I../../ngx_module -I../unit \
	$(addprefix -isystem ,../unit/nginx $(addprefix $(NGINX_HEADERS)/,\
	core event event/modules os/unix http http/modules http/v2)) \
	-Wno-unused-parameter
rooms_cache := $(wildcard ../../ngx_module/ngx_http_hotpath_cache.[ch] \
	../../ngx_module/ngx_http_hotpath_shm.[ch]) nginx_shim.h

$(BUILD)/test_cache: $(rooms_cache)

.PHONY: check-cache bench-cache

check-cache: $(BUILD)/alone/test_cache
	@timeout 120 $<

$(BUILD)/alone/test_cache: test_cache.c support.h $(sources_cache) \
		$(rooms_cache)
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -Wall -Wextra -Werror -O1 -g -I$(CORE) \
		-DHOTPATH_SCHEMAS='"../../schemas"' $(cflags_cache) \
		-fsanitize=address,undefined -fno-sanitize-recover=all -o $@ \
		$< $(sources_cache) -lcmocka -lcjson $(libs_cache)

bench-cache: $(BUILD)/bench_cache
	@$<

$(BUILD)/bench_cache: ../bench/cache.c $(sources_cache) $(rooms_cache)
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -Wall -Wextra -Werror -O2 -I$(CORE) $(cflags_cache) \
		-o $@ $< $(sources_cache) $(libs_cache)
