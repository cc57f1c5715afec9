# What the tests of the workers' pure pieces need beside the rules of the
# Makefile: lib/, the stages of the drain, and their libraries. Included by the
# Makefile before its rules; alone, `make -f workers.mk check-workers` builds
# and runs them (workers/Makefile's `make check` does that).

CORE ?= ../../ngx_module/core
WORKERS ?= ../../workers
BUILD ?= ../../var/build/unit

workers_tests := workers_buffer workers_drain workers_model workers_settings
workers_cflags := -D_GNU_SOURCE -pthread -I$(WORKERS)/lib -I$(WORKERS)/drain \
	-I/usr/include/postgresql $(NATS_CFLAGS)
NATS_LIBS ?= -lnats
workers_libs := $(NATS_LIBS) -lpq -lmicrohttpd -lcrypto -lcjson -pthread
workers_sources := $(wildcard $(WORKERS)/lib/*.c) \
	$(filter-out %/main.c,$(wildcard $(WORKERS)/drain/*.c)) \
	$(addprefix $(CORE)/,hp_frame.c hp_id.c hp_json.c)

define workers_test
sources_$(1) := $(workers_sources)
cflags_$(1) := $(workers_cflags)
libs_$(1) := $(workers_libs)
endef

$(foreach test,$(workers_tests),$(eval $(call workers_test,$(test))))

# included: the Makefile's own first target stays the default
ifneq ($(notdir $(firstword $(MAKEFILE_LIST))),workers.mk)
.DEFAULT_GOAL := check
endif

.PHONY: check-workers

check-workers: $(workers_tests:%=$(BUILD)/alone/test_%)
	@for test in $^; do echo "== $$(basename $$test)"; \
		timeout 120 $$test || exit 1; done

# compiled once, linked four times
$(BUILD)/alone/workers.a: $(workers_sources) $(wildcard $(WORKERS)/*/*.h)
	@mkdir -p $(@D)/objects && rm -f $@
	@for source in $(workers_sources); do \
		$(CC) -std=gnu11 -Wall -Wextra -Werror -O1 -g -I$(CORE) \
			$(workers_cflags) -fsanitize=address,undefined \
			-fno-sanitize-recover=all -c $$source \
			-o $(@D)/objects/$$(basename $$source .c).o || exit 1; done
	@ar rc $@ $(@D)/objects/*.o

$(BUILD)/alone/test_workers_%: test_workers_%.c $(BUILD)/alone/workers.a
	$(CC) -std=gnu11 -Wall -Wextra -Werror -O1 -g -I$(CORE) \
		-DHOTPATH_SCHEMAS='"$(abspath ../../schemas)"' $(workers_cflags) \
		-fsanitize=address,undefined -fno-sanitize-recover=all -o $@ $^ \
		-lcmocka $(workers_libs)
