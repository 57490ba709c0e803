# Every target works on a fresh machine with Go, Node and Python: what is
# missing is fetched by the target that needs it. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# A source archive has no git, and a new repository no commit.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT := $(shell git rev-parse -q --verify HEAD 2>/dev/null || echo unknown)

# The binary is static, and all but the race detector works without a C compiler.
export CGO_ENABLED := 0

DASHBOARD := embed/dashboard
FUZZTIME ?= 60s
# Run where they are asked for, and in no go.mod of ours.
GOSEC := github.com/securego/gosec/v2/cmd/gosec@v2.30.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
STATICCHECK := go tool -modfile=.ci/tools/go.mod staticcheck
GO_FILES = find . \( -name '.?*' -o -name node_modules -o -name pikarc-data \) -prune -o -name '*.go' -print0

say = @printf '\n==> %s\n' '$(1)'

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## build, then serve on http://localhost:8000 with its data in ./pikarc-data
	@echo
	@echo 'Once it says that it serves:'
	@echo '  open the dashboard that it names and register: it shows the API key for your agents, and what to do next'
	@echo '  (or, in another terminal: ./pikarc create-user --email you@example.com)'
	@echo
	@exec ./pikarc serve

# The stages of `make test`, three at a time: most keep one core busy, and wait for a third of the time. What fails soonest
# comes first. Each shows what it has to say when it ends, and that of a stage stays together.
STAGES := lint dashboard-test build race published-clients postgres browser clients-suite mcp-gateway adapters-typescript \
	adapters-python schemathesis acme catalogue
TOGETHER := -j3 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

# Without the paths of this machine in what they compile, all stages share it.
.PHONY: test
test: ## everything: linters, Go tests with -race, dashboard tests, the published clients, a browser and schemathesis against the binary
	@.ci/debian.sh browser compiler postgresql proxies venv
	@export GOFLAGS="$$(go env GOFLAGS) -trimpath"; \
	$(MAKE) $(TOGETHER) $(addprefix stage-,$(STAGES)); \
	printf '\n==> all passed in %d s\n' $$SECONDS

stage-%:
	@printf '\n==> %s begins\n' $*; $(MAKE) $*; printf '==> %s passed in %d s\n' $* $$SECONDS

# Both write what the dashboard's packages and types are.
stage-build: stage-dashboard-test
# The binary embeds what others would build anew under the tests' feet. No test runs before the source is sound.
$(addprefix stage-,$(filter-out lint dashboard-test build,$(STAGES))): stage-lint stage-build
# One uses the other's virtual environment.
stage-browser stage-clients-suite: stage-published-clients
# One builds the TypeScript client that the other uses.
stage-adapters-typescript: stage-clients-suite
# One looks through what the other has found.
stage-adapters-python: stage-adapters-typescript

.PHONY: check
check: format ## the inner loop: gofmt, go vet, go test
	go vet ./...
	go test ./...

.PHONY: crash
crash: ## kill the server 100 times under load and 100 times while a review is decided, and check every answer and the books (minutes)
	go test ./tests/e2e -run 'TestEveryAnswerOutlivesAKill|TestOneApprovalIsOneExecution' -count 1 -v -timeout 30m -args \
		-kills 100 -start-within 2s -review-kills 100

.PHONY: ha
ha: postgresql build ## kill PostgreSQL's primary and our nodes under load, ten times each, behind Patroni and HAProxy (10 minutes)
	@if ! command -v patroni >/dev/null || ! command -v etcd >/dev/null || ! command -v haproxy >/dev/null; then \
		printf '\n==> install patroni, etcd and haproxy\n'; \
		apt-get update -q; apt-get install -qy --no-install-recommends patroni python3-etcd python3-psycopg2 etcd-server haproxy; \
	fi
	$(call say,a cluster that is broken under load)
	cd tests/ha && go vet . && go run .

.PHONY: bench
bench: postgresql ## decisions a second beside a bare httprouter and PocketBase, on SQLite and PostgreSQL (8 minutes; see bench/main.go)
	cd bench && go run .

.PHONY: hook-bench
hook-bench: ## how long a coding agent waits for its hook: a thousand, p99 30 ms at most
	go test ./tests/e2e -run TestAHookIsQuick -count 1 -v -args -hook-runs 1000 -hook-p99 30ms

.PHONY: soak
soak: ## 30 minutes of mixed load, backups and verifications; fails if memory, goroutines, files or the WAL grow
	cd bench && go run . -soak 30m

.PHONY: bench-policies
bench-policies: ## what policies cost a decision, a backtest of a million steps, notifications a second, and how soon an approval is heard (5 minutes)
	cd bench && go run . -policies

.PHONY: bench-crowd
bench-crowd: ## memory and speed with a million users and 100,000 open runs (5 minutes)
	cd bench && go run . -crowd

.PHONY: bench-growth
bench-growth: ## the same at 0, 1, 5 and 10 million steps, with lists, start-up and retention (1.5 GB stay in bench/.cache)
	cd bench && go run . -growth

.PHONY: bench-copy
bench-copy: postgresql ## pikarc copy to PostgreSQL and back, and verify of both: STEPS=10000000 for ten million (3 minutes for one)
	cd bench && go run . -copy $(or $(STEPS),1000000)

.PHONY: clients-real-time
clients-real-time: venv build ## 20 s of silence of the server, for each client and by the clock (2 minutes)
	clients/suite/run.sh ./pikarc real-time

.PHONY: clients-load
clients-load: venv build ## 100,000 guarded calls of each client, after which nothing may be left behind (3 minutes)
	clients/suite/run.sh ./pikarc load

.PHONY: clients-overhead
clients-overhead: venv build ## what a guarded call takes beside httpx, fetch and net/http making the same two requests (2 minutes)
	clients/suite/run.sh ./pikarc overhead

.PHONY: dashboard
dashboard: $(DASHBOARD)/node_modules/.package-lock.json ## build the dashboard, which the binary then carries
	$(call say,build the dashboard)
	cd $(DASHBOARD) && npm run --silent build

.PHONY: dashboard-test
dashboard-test: $(DASHBOARD)/node_modules/.package-lock.json ## types, lint, format and unit tests of the dashboard
	$(call say,dashboard: types and lint and format)
	cd $(DASHBOARD) && npm run --silent check
	$(call say,dashboard: unit tests and the size budget)
	cd $(DASHBOARD) && npm test --silent

.PHONY: adapters
adapters: venv build ## the adapters of all frameworks and Claude Code (2.5 GB of them at first use), and docs/adapters.md of what was found
	clients/adapters/typescript/run.sh ./pikarc
	clients/adapters/typescript-claude/run.sh ./pikarc
	clients/adapters/claude-code/run.sh ./pikarc
	cd clients/adapters/go && go vet ./... && PIKARC_BINARY=$(CURDIR)/pikarc go test -count=1 ./...
	clients/adapters/python/run.sh --set light --set google-adk --set claude-agent-sdk --set crewai ./pikarc
	python3 clients/adapters/page.py

.PHONY: claude-code
claude-code: build ## Claude Code itself under the guard of its hook, with a stand-in for its model (400 MB at first use)
	clients/adapters/claude-code/run.sh ./pikarc

.PHONY: screenshots
screenshots: build ## every page at three sizes, light and dark, into tests/browser/screenshots
	tests/browser/run.sh ./pikarc screenshots

.PHONY: dashboard-performance
dashboard-performance: build ## how fast the dashboard loads and scrolls, with the processor slowed down four times
	tests/browser/run.sh ./pikarc performance

.PHONY: build
build: ## build ./pikarc, with the dashboard and the clients where npm and Python are there: one static file
	@if command -v npm >/dev/null; then $(MAKE) dashboard; else \
		printf '\n==> no npm: the binary gets the page that says how to build the dashboard, unless one was built before\n'; fi
	@clients/pack.sh || [ $$? -eq 3 ] # then GET /clients/ says how
	$(call say,build ./pikarc $(VERSION))
	go build -trimpath -buildvcs=false -ldflags '-s -w -X github.com/pikarc/server/cli.version=$(VERSION) -X github.com/pikarc/server/cli.commit=$(COMMIT)' -o pikarc .

.PHONY: release
release: ## binaries for linux, darwin and windows with checksums and lists of parts, in dist
	$(call say,release $(VERSION))
	.ci/release.sh $(VERSION) $(COMMIT)

.PHONY: schema
schema: build ## 20,000 requests that schemathesis makes from the OpenAPI document (10 minutes)
	tests/schema/run.sh --full ./pikarc

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (60s)
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			printf '\n==> %s %s\n' "$$package" "$$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

.PHONY: slow
slow: ## what 200 slow clients do to others
	cd bench && go run . -slow

.PHONY: prices
prices: ## remake the price catalogue from its pinned data set; ACCEPT="--accept PROVIDER/ID" lets a price jump
	$(call say,the catalogue of prices (in a virtual environment of its own))
	catalogue/run.sh make $(ACCEPT)

.PHONY: gosec
gosec: ## read the source for security mistakes (docs/security.md says which rules are off, and why)
	go run $(GOSEC) -quiet -exclude=G101,G104,G115,G304,G404,G407,G703 -exclude-rules="storage/sqlite/.*:G103" -exclude-dir=bench -exclude-dir=tests -exclude-dir=testdata -exclude-dir=.ci ./...

.PHONY: vulncheck
vulncheck: ## look for known vulnerabilities (needs vuln.go.dev)
	go run $(GOVULNCHECK) ./...

.PHONY: fmt
fmt: ## format the Go source
	$(GO_FILES) | xargs -0 gofmt -w

.PHONY: clients
clients: ## make the wire types of the clients from server/openapi.json
	cd clients/generate && go run . ../..

# Analyzing makes much garbage, whose collection took a quarter of the time.
.PHONY: lint
lint: export GOGC := 400
lint: export GOMEMLIMIT := 3GiB
lint: format ## gofmt, go vet, staticcheck, what asks about contexts and errors (.ci/tools/lint), and stale types of the clients, changing nothing
	$(call say,go vet)
	go vet ./...
	$(call say,staticcheck (built at first use from .ci/tools/go.mod))
	$(STATICCHECK) ./...
	$(call say,contextcheck and errorlint and rowserrcheck and noctx and transactions (built from .ci/tools))
	@dir=$$(mktemp -d); trap 'rm -r "$$dir"' EXIT; \
	go build -C .ci/tools -o "$$dir/lint" ./lint; \
	go vet -vettool="$$dir/lint" ./...
	$(call say,the wire types of the clients)
	cd clients/generate && go vet ./... && go test ./...

# Below are parts of the targets above.

$(DASHBOARD)/node_modules/.package-lock.json: $(DASHBOARD)/package-lock.json
	$(call say,install the packages of the dashboard from its lock file)
	cd $(DASHBOARD) && npm ci --no-audit --no-fund
	@touch $@

.PHONY: published-clients
published-clients:
	$(call say,the published Python clients against ./pikarc (installs them in a venv of its own))
	tests/client/run.sh ./pikarc

.PHONY: clients-suite
clients-suite:
	$(call say,our clients: types and one suite of behaviours against ./pikarc (in a virtual environment of its own))
	clients/suite/run.sh ./pikarc

.PHONY: mcp-gateway
mcp-gateway:
	$(call say,the MCP gateway between the reference SDKs (in a virtual environment and a node_modules of its own))
	tests/mcp/run.sh ./pikarc

.PHONY: adapters-typescript
adapters-typescript:
	$(call say,the adapters of the TypeScript client against ./pikarc (with the frameworks themselves))
	clients/adapters/typescript/run.sh ./pikarc
	node clients/typescript/test-examples.mjs ./pikarc

.PHONY: adapters-python
adapters-python:
	$(call say,the light adapters of the Python client against ./pikarc (with the frameworks themselves))
	clients/adapters/python/run.sh ./pikarc
	python3 clients/adapters/page.py --check

.PHONY: browser
browser:
	$(call say,the dashboard in a real browser against ./pikarc (installs Chromium where it is missing and it may))
	tests/browser/run.sh ./pikarc

.PHONY: schemathesis
schemathesis:
	$(call say,schemathesis against ./pikarc (in a venv of its own))
	tests/schema/run.sh ./pikarc

.PHONY: catalogue
catalogue:
	$(call say,the price catalogue against its data set (in a virtual environment of its own))
	cd catalogue && go vet ./...
	catalogue/run.sh test

.PHONY: acme
acme:
	$(call say,a certificate from pebble (in a module of its own))
	cd tests/acme && go vet ./... && go test -count=1 ./...

.PHONY: format
format:
	$(call say,gofmt)
	@files=$$($(GO_FILES) | xargs -0 gofmt -l); \
	if [ -n "$$files" ]; then printf 'not formatted (run make fmt):\n%s\n' "$$files"; exit 1; fi

# Tests run in random order, which also keeps go test from answering from its cache.
# SQLite's C, translated to Go, is not ours and has locks that the detector does not know: watching it finds nothing,
# and makes the tests of the store take several times as long. That package alone: one that uses sync's generic types
# would share its unwatched copies of them with everybody, and the detector would see races that are none.
.PHONY: race
race:
	@.ci/debian.sh compiler postgresql proxies
	$(call say,Go tests with the race detector)
	CGO_ENABLED=1 go test -race -vet=off -gcflags='modernc.org/sqlite/lib=-race=false' -shuffle=on -timeout 30m ./...

# The store's tests that are not about SQLite's file, on PostgreSQL. They start a server of their own.
.PHONY: postgres
postgres: postgresql
	$(call say,the tests of the store on PostgreSQL)
	go test -vet=off -shuffle=on -timeout 20m ./storage -args -engine postgres

.PHONY: postgresql
postgresql:
	@.ci/debian.sh postgresql

# The clients are packed and tested in virtual environments.
.PHONY: venv
venv:
	@.ci/debian.sh venv
