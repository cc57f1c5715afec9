# What the tests of the workers' pure pieces need beside the rules of the
# Makefile, which includes this: lib/, the stages of the drain, their libraries.

workers_tests := workers_buffer workers_drain workers_model workers_settings
NATS_LIBS ?= -lnats
workers_cflags := -D_GNU_SOURCE -pthread -I$(WORKERS)/lib -I$(WORKERS)/drain \
	-I/usr/include/postgresql $(NATS_CFLAGS)
workers_libs := $(NATS_LIBS) -lpq -lmicrohttpd -lcrypto -lcjson -pthread
workers_sources := $(wildcard $(WORKERS)/lib/*.c) \
	$(filter-out %/main.c,$(wildcard $(WORKERS)/drain/*.c)) \
	$(addprefix $(CORE)/,hp_frame.c hp_id.c hp_json.c)

define workers_test
sources_$(1) := $(BUILD)/workers.a
cflags_$(1) := $(workers_cflags)
libs_$(1) := $(workers_libs)
endef

$(foreach test,$(workers_tests),$(eval $(call workers_test,$(test))))

# Compiled once, linked into each of them.
$(BUILD)/workers.a: $(workers_sources) $(wildcard $(WORKERS)/*/*.h $(CORE)/*.h)
	@mkdir -p $(BUILD)/workers && rm -f $@
	@for source in $(workers_sources); do \
		$(CC) $(FLAGS) $(CFLAGS) $(SANITIZE) $(workers_cflags) -c $$source \
			-o $(BUILD)/workers/$$(basename $$source .c).o || exit 1; done
	@ar rc $@ $(BUILD)/workers/*.o
