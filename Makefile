# Everything a person does with this project, from a clean clone on: Python 3.11 or newer and make are all it needs.
# Each target installs what it needs into $(VENV), once; after that nothing here needs a network.

.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

VENV ?= .venv
PY := $(VENV)/bin/python
JOBS ?= 2
ARGS ?=
EXTRAS := build reader flattener s3writer lake demo dev
# The first interpreter that is new enough; `make PYTHON=/path/to/python3.12 …` names another one.
PYTHON ?= $(firstword $(foreach python,python3 python3.14 python3.13 python3.12 python3.11,\
  $(shell $(python) -c 'import sys; print("$(python)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))
PIP := $(PY) -m pip --disable-pip-version-check install --quiet
PYTEST := $(PY) -m pytest

##@ See it run

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nmake demo DEMO_SECONDS=20        a shorter run\nmake demo ARGS="--help"          its options\n'

demo: $(VENV)/.demo ## simulated exchange, broker, three services, a verified lake in ./demo-lake (60 s)
	@$(PY) -m cryptoflow.demo $(ARGS)

up: .env-there ## the whole suite in containers, recording the real exchange (OVERLAYS="deploy/compose.….yml" adds some)
	@$(COMPOSE) up -d --build --wait
	@$(call say_where,$(COMPOSE))

up-demo: .env-there ## the same with a simulated exchange, files every 30 s: no account, no way out needed
	@$(COMPOSE_DEMO) up -d --build --wait
	@$(call say_where,$(COMPOSE_DEMO))

down: .env-there ## drain and remove the containers of both; what they recorded stays in their volumes
	@$(COMPOSE) down
	@$(COMPOSE_DEMO) down

images: .env-there ## build the container images: reader, flattener, s3writer, cryptoflow, simulator
	@$(COMPOSE_DEMO) --profile tools build

bench: $(VENV)/.dev ## the figures: each service, the whole line beside others, latency, scaling, memory (tables, JSON in bench/out/)
	@$(PY) -m bench $(ARGS)

##@ Test

test: $(VENV)/.dev ## the whole suite (Docker tests are skipped where Docker is missing)
	@$(PYTEST) -n $(JOBS) --dist loadgroup $(ARGS)

test-unit: $(VENV)/.dev ## unit and property tests: seconds, no broker
	@$(PYTEST) tests/unit $(ARGS)

test-contract: $(VENV)/.dev ## one suite against the embedded broker and against real Kafka
	@$(PYTEST) tests/contract $(ARGS)

test-integration: $(VENV)/.dev ## real Kafka and a real S3 store, in Docker
	@$(PYTEST) tests/integration tests/faults $(ARGS)

soak: $(VENV)/.dev ## the fault matrix by seed, ten minutes (ARGS="--runs 200 --seed 1", ARGS="--help"): a table; needs Docker
	@$(PY) -m tests.matrix $(ARGS)

breakages: $(VENV)/.dev ## break each promise on purpose in a copy: the tests must go red (ARGS="nonce" picks by name; two minutes)
	@$(PY) -m tests.breakages $(ARGS)

test-spark: $(VENV)/.spark ## Spark reads the lake (installs PySpark, half a gigabyte, into .venv; needs Java 17)
	@$(PYTEST) tests/integration/test_read_spark.py $(ARGS)

test-e2e: $(VENV)/.dev ## the demo, the suite in Docker, the documents, and the repository's hygiene
	@$(PYTEST) tests/e2e $(ARGS)

CHECKS := check-lint check-format check-types check-imports check-spelling check-hygiene check-reference \
  check-shell check-docker check-prometheus

check: $(VENV)/.dev ## what CI checks besides the tests: lint, format, types, boundaries, spelling, generated pages
	@$(MAKE) --keep-going $(CHECKS)

##@ Work on it

format: $(VENV)/.dev ## format the code and fix what ruff can fix
	@$(PY) -m ruff format --quiet .
	@$(PY) -m ruff check --fix .

reference: $(VENV)/.dev ## write the generated pages: docs/metrics.md, docs/cli.md, config/config.schema.json, …
	@$(PY) -m cryptoflow.reference --write

lock: $(VENV)/.dev ## pin dependencies after a change of pyproject.toml (UPGRADE=1: to the newest)
	@for extra in $(EXTRAS); do echo "  requirements/$$extra.txt"; \
	  $(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    $(if $(UPGRADE),--upgrade) --extra $$extra pyproject.toml -o requirements/$$extra.txt \
	    --custom-compile-command 'make lock' || exit 1; done
	@echo "  requirements/spark.txt"; $(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  $(if $(UPGRADE),--upgrade) --group spark -o requirements/spark.txt --custom-compile-command 'make lock'
	@for wanted in requirements/bench-*.in; do echo "  $${wanted%.in}.txt"; \
	  $(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $(if $(UPGRADE),--upgrade) \
	    $$wanted -o $${wanted%.in}.txt --custom-compile-command 'make lock' || exit 1; done

venv: $(VENV)/.dev ## only install: everything for development, into .venv

ci: ## what CI runs: check, a short demo, all tests
	@.ci/run

clean: ## remove what runs and tests left behind (the demo's lake too)
	@rm -rf demo-lake demo-lake-* .demo bench/out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## and the environment
	@rm -rf $(VENV) *.egg-info

# --- containers -----------------------------------------------------------------------------------------------------

OVERLAYS ?=
COMPOSE = docker compose -f docker-compose.yml $(addprefix -f ,$(OVERLAYS))
COMPOSE_DEMO = docker compose -f docker-compose.yml -f deploy/compose.demo.yml $(addprefix -f ,$(OVERLAYS))

.env-there:
	@test -f .env || { echo "Compose takes its settings from .env, and there is none yet: cp .env.example .env" >&2; exit 1; }

# Where to look, and what to type next.
define say_where
running=$$($(1) ps --services); bucket=$$($(1) config --environment | sed -n 's/^S3_BUCKET=//p'); echo; \
  for page in grafana:3000 prometheus:9090 seaweedfs:8333; do \
    if echo "$$running" | grep -qx "$${page%:*}"; then printf '  %-12shttp://%s\n' "$${page%:*}" "$$($(1) port $${page%:*} $${page#*:})"; fi; \
  done; \
  echo; printf '  %s\n' "$(1) logs -f reader" "$(1) run --rm cryptoflow lake verify s3://$$bucket/lake" \
    "$(1) up -d --no-recreate --scale flattener=3 --scale s3writer=2" "make down"
endef

# --- the environment: two stamps, so that the demo does not wait for the test tools -------------------------------

$(PY):
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "CryptoFlow needs Python 3.11 or newer; $(or $(PYTHON),python3) is $$($(or $(PYTHON),python3) --version 2>&1 | head -n 1)." \
	  "Install one, or name it: make PYTHON=/path/to/python3.13 …" >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
	  echo "No virtual environment could be made. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(PY)
	@echo "Installing what the demo needs (pinned, with hashes; about a minute the first time)"
	@$(PY) -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(MAKE) $(PY); }
	@$(PIP) --require-hashes -r requirements/demo.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml $(VENV)/.demo | $(PY)
	@echo "Installing the tools for tests and checks (pinned, with hashes)"
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

# Apart from the others: no more than one file of tests wants it, and it brings nothing that they pin.
$(VENV)/.spark: requirements/spark.txt $(VENV)/.dev
	@echo "Installing PySpark (pinned, with hashes; half a gigabyte)"
	@$(PIP) --no-build-isolation --require-hashes -r requirements/spark.txt
	@touch $@

# --- the checks: each prints one line, and its output only if it fails ---------------------------------------------

define quietly
@output=$$($(2) 2>&1) && echo "  ok      $(1)" || { status=$$?; echo "  FAILED  $(1)"; echo "$$output"; exit $$status; }
endef

check-lint:
	$(call quietly,ruff check,$(PY) -m ruff check .)
check-format:
	$(call quietly,ruff format,$(PY) -m ruff format --check .)
check-types:
	$(call quietly,mypy --strict,$(PY) -m mypy)
check-imports:
	$(call quietly,import-linter,$(VENV)/bin/lint-imports)
check-spelling:
	$(call quietly,codespell,git ls-files -z | xargs -0 $(PY) -m codespell_lib)
check-hygiene:
	$(call quietly,hygiene,$(PYTEST) -q -p no:cacheprovider tests/e2e/test_repo_hygiene.py)
check-reference:
	$(call quietly,generated pages,$(PY) -m cryptoflow.reference --check)

# These speak only where there is something to check; a tool that is not to be had for this machine is named.
SHELL_FILES = $(wildcard .ci/run) $(shell grep -rlE '^\#!.*(ba)?sh$$' deploy 2>/dev/null)
DOCKERFILES = $(shell find deploy -name 'Dockerfile*' 2>/dev/null)
RULES = $(wildcard deploy/prometheus/rules/*.yml)
PROMETHEUS_IMAGE = prom/prometheus:v3.13.5

check-shell:
	@test -x $(VENV)/bin/shellcheck || { echo "  skipped shellcheck (not installed)"; exit 0; }; $(VENV)/bin/shellcheck $(SHELL_FILES) && echo "  ok      shellcheck"
check-docker:
	@test -n "$(DOCKERFILES)" || exit 0; \
	  test -x $(VENV)/bin/hadolint || { echo "  skipped hadolint (it has no wheel for this machine)"; exit 0; }; \
	  $(VENV)/bin/hadolint $(DOCKERFILES) && echo "  ok      hadolint"
check-prometheus:
	@test -n "$(RULES)" || exit 0; \
	  if command -v promtool >/dev/null; then promtool=promtool; \
	  elif docker image inspect $(PROMETHEUS_IMAGE) >/dev/null 2>&1 || docker pull --quiet $(PROMETHEUS_IMAGE) >/dev/null 2>&1; then \
	    promtool="docker run --rm --network none -v $(CURDIR)/deploy/prometheus:/prometheus.d:ro -w /prometheus.d --entrypoint promtool $(PROMETHEUS_IMAGE)"; \
	  elif test "$$CI" = true; then echo "  FAILED  promtool (neither installed nor to be had by Docker, and CI=true)"; exit 1; \
	  else echo "  skipped promtool (neither installed nor to be had by Docker)"; exit 0; fi; \
	  cd deploy/prometheus && output=$$({ $$promtool check config prometheus.yml && \
	    $$promtool check rules --lint=all --lint-fatal rules/*.yml && $$promtool test rules tests/*.yml; } 2>&1) \
	  && echo "  ok      promtool" || { echo "  FAILED  promtool"; echo "$$output"; exit 1; }

.PHONY: help demo up up-demo down images bench test test-unit test-contract test-integration soak breakages test-spark test-e2e check format \
  reference lock venv ci clean distclean $(CHECKS)
.DELETE_ON_ERROR:
