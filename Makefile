# Hotpath: every command of the project. The logic is in deploy/local/, tests/
# and the rooms' own Makefiles; this file only names the order.
#
#   make run     packages, build, local stack, demo; then stop, status, logs
#   make test    packages, build, unit, integration and fault tests
#   make help    the whole list
#
# Ports of the local stack: make run HOTPATH_PORT=8081 (see make help). Nothing
# outside var/ and the package manager is touched.

SHELL := /bin/bash
PYTHON := /usr/bin/python3
BUILD := $(CURDIR)/var/build
export PYTHONDONTWRITEBYTECODE := 1
export LC_ALL := C.UTF-8

STACK := $(PYTHON) deploy/local/stack.py
PYTEST := $(PYTHON) -m pytest -p no:cacheprovider

.NOTPARALLEL:
.PHONY: help run stop status logs build build-module build-workers test \
	unit integration faults chaos sanitize fuzz bench bench-peers \
	bench-instructions lint clean packages-run packages-test

help: ## what you are reading
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)
	@$(STACK) ports

run: packages-run build ## packages, build, the local stack, and the demo against it
	@$(STACK) up
	@$(PYTHON) deploy/local/demo.py

stop: ## stop the local stack; its data stays in var/run
	@$(STACK) down

status: ## what of the local stack runs, and where
	@$(STACK) status

logs: ## the end of every server's log
	@$(STACK) logs

packages-run:
	@deploy/local/packages run

packages-test:
	@deploy/local/packages test

build: build-module build-workers ## module and workers, into var/build

build-module: ## the module; NGINX_SRC=DIR: in that nginx tree; CC=clang works
	@deploy/local/build-module

build-workers: ## hotpath-drain, hotpath-project, hotpathctl
	@umask 022; $(MAKE) -s -C workers BUILD=$(BUILD)/workers

test: packages-test build unit integration faults ## packages, build, and every test below but fuzz

unit: ## core and workers, in C, under sanitizers
	@$(MAKE) -s -C tests/unit BUILD=$(BUILD)/unit

integration: ## the chain on real servers of its own
	@$(PYTEST) tests/integration

faults: ## servers killed, frozen and cut off under load
	@$(PYTEST) tests/faults

# Ends by itself: ten minutes for the one, four for the other at the most.
chaos: packages-test build ## 100,000 keys through two instances; 20,000 requests waiting
	@HOTPATH_CHAOS_KEYS=100000 $(PYTEST) -s tests/faults/test_two_instances.py
	@HOTPATH_WAITING=20000 $(PYTEST) -s tests/faults/test_waiting.py

sanitize: ## the integration tests, the module under ASan and UBSan
	@BUILD=$(BUILD)/sanitize SANITIZE=address,undefined \
		deploy/local/build-module
	@HOTPATH_MODULE=$(BUILD)/sanitize/ngx_http_hotpath_module.so \
		HOTPATH_PRELOAD=$$(gcc -print-file-name=libasan.so) \
		$(PYTEST) tests/integration

fuzz: ## bounded fuzzing of what reads foreign bytes
	@deploy/local/packages fuzz
	@$(MAKE) -s -C tests/fuzz BUILD=$(BUILD)/fuzz

BENCH := $(PYTHON) tests/bench/bench.py $(if $(QUICK),--quick) \
	$(if $(ROWS),--only $(ROWS))

bench: ## the measured table and var/bench.json; QUICK=1, ROWS="get_cached_*"
	@deploy/local/packages bench
	@$(MAKE) -s build
	@$(MAKE) -s -C tests/bench BUILD=$(BUILD)/bench
	@$(BENCH)

bench-peers: ## the same work by other caches and services; QUICK=1, ROWS=
	@deploy/local/packages peers
	@$(MAKE) -s build
	@$(MAKE) -s -C tests/bench/peers BUILD=$(BUILD)/peers
	@$(BENCH) --peers

bench-instructions: ## instructions per request, function by function
	@deploy/local/packages bench
	@$(MAKE) -s build
	@$(PYTHON) tests/bench/instructions.py $(if $(ROWS),--only $(ROWS))

lint: ## format, dependency arrows, documentation, scripts
	@deploy/local/packages lint
	@tests/lint/run

# The stack's data is below var/ too: stop it first.
clean: ## stop the local stack and remove var/
	@$(STACK) down
	@rm -rf var
