# Every recipe here is what CI runs (.ci/run); scripts/ does the set-up, so that Rust, gcc and git are enough.

CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help build demo test fuzz servers peers dashboard dashboard-types bench bench-consume bench-page soak pictures fmt fmt-check lint doc ci

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the release program, target/release/streamgauge
	$(CARGO) build --release --locked

demo: ## Show it at work on a private Redis, which is found or installed
	@server=$$(scripts/servers.sh any) && echo "demo: on $$server" >&2 && \
	STREAMGAUGE_REDIS_SERVER="$$server" $(CARGO) run --release --locked -- demo

test: ## Run all tests, against every server that is there; one is installed if there is none
	@for peer in prometheus-alertmanager prometheus chromium redis-cli; do scripts/peers.sh $$peer || \
	echo "test: without it, some tests are left out, and say so" >&2; done
	@server=$$(scripts/servers.sh any) && echo "test: against each version among" >&2 && scripts/servers.sh list >&2 && \
	STREAMGAUGE_REDIS_SERVER="$$server" $(CARGO) test --workspace --locked

fuzz: ## Fuzz each target for a minute (FUZZ_FLAGS='--seconds 600 globs': one, and longer; scripts/fuzz.sh tells the rest)
	@scripts/fuzz.sh $(FUZZ_FLAGS)

servers: ## Bring Redis 6.2, 7.0, 8.2 and Valkey 8.1, 9.1 under target/servers for the tests
	scripts/servers.sh all

peers: ## Bring Chromium, curl, openssl, Prometheus, Alertmanager, redis-cli and prometheus-redis-exporter under target/peers, for the tests that need them
	scripts/peers.sh all

dashboard: ## Write dashboards/streamgauge.json anew from dashboards/generator
	@text=$$($(CARGO) run -q --locked --example dashboard) && printf '%s\n' "$$text" >dashboards/streamgauge.json

dashboard-types: ## Hold it against the types that Grafana publishes; needs npm
	scripts/dashboard-types.sh

bench: ## Compare with prometheus-redis-exporter in one run, then bench-page (BENCH_FLAGS=--quick: only check that it works)
	scripts/peers.sh prometheus-redis-exporter
	@server=$$(scripts/servers.sh any) && echo "bench: on $$server" >&2 && \
	STREAMGAUGE_REDIS_SERVER="$$server" $(CARGO) bench --locked --bench comparison -- $(BENCH_FLAGS)
	@$(MAKE) --no-print-directory bench-page

bench-consume: ## Measure the reference consumer beside a bare loop on one server in one run
	@server=$$(scripts/servers.sh any) && echo "bench-consume: on $$server" >&2 && \
	STREAMGAUGE_REDIS_SERVER="$$server" $(CARGO) bench --locked --bench consume -- $(BENCH_FLAGS)

bench-page: ## Measure the status page, and groups as JSON, of 10,000 groups
	$(CARGO) bench --locked --bench page -- $(BENCH_FLAGS)

soak: ## Put the released program through an hour of trouble (SOAK=15m: another time, SEED=4711: the same troubles again)
	@server=$$(scripts/servers.sh any) && echo "soak: on each version among" >&2 && scripts/servers.sh list >&2 && \
	STREAMGAUGE_REDIS_SERVER="$$server" STREAMGAUGE_SOAK="$(or $(SOAK),1h)" STREAMGAUGE_SOAK_SEED="$(SEED)" \
	$(CARGO) test --release --locked --test soak

pictures: ## Take the pictures of the README anew, from real servers, into docs/pictures
	@scripts/peers.sh chromium
	@server=$$(scripts/servers.sh any) && mkdir -p docs/pictures && echo "pictures: on $$server, for three minutes" >&2 && \
	STREAMGAUGE_REDIS_SERVER="$$server" STREAMGAUGE_REQUIRE_PEERS=chromium STREAMGAUGE_PICTURES="$$PWD/docs/pictures" \
	$(CARGO) test --locked --test page pictures::

fmt: ## Format the sources
	$(CARGO) fmt --all

fmt-check: ## Check that the sources are formatted
	$(CARGO) fmt --all --check

lint: ## Run clippy on all targets; a warning is an error
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc: ## Build the documentation; a warning is an error
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

ci: ## Run all that CI runs
	.ci/run
