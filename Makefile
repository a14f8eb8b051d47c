# `make` alone lists the targets. Everything happens in one virtual environment, $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTEST_ARGS ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(INSTALLED) ## Make the virtual environment and install everything

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
		sys.exit(None if v >= (3, 11) else "expected Python 3.11 or newer, found %d.%d; name one: make PYTHON=..." % v[:2])'
	@echo "installing into $(VENV) (a minute or two) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e '.[sim,speech,dev]'
	@touch $@

.PHONY: demo
demo: $(INSTALLED) ## Train, publish, update and recognise, end to end, on synthetic speech
	@$(BIN)/ota-sim run quickstart --out runs/quickstart --resume

.PHONY: test
test: $(INSTALLED) ## Run the test suite
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

.PHONY: test-edge
test-edge: ## Test the device client in a clean environment with the edge extra alone
	@$(PYTHON) -m venv --clear $(VENV)-edge
	@$(VENV)-edge/bin/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt '.[edge]' pytest pytest-timeout
	@$(VENV)-edge/bin/python tests/architecture/edge_only.py
	@$(VENV)-edge/bin/python -m pytest tests/unit/edge_client tests/unit/speech $(PYTEST_ARGS)

.PHONY: test-arm
test-arm: $(INSTALLED) ## Compare every golden file's digest with aarch64, emulated
	@$(BIN)/python -m tests.arm

FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
.PHONY: fuzz
fuzz: $(INSTALLED) ## Fuzz the decoder and the header, FUZZ_SECONDS=60 each
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(FUZZ_TARGETS)

.PHONY: fuzz-native
fuzz-native: $(INSTALLED) ## Fuzz the C coder with sanitizers (needs clang), FUZZ_SECONDS=60 each
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@$(BIN)/python -m tests.fuzz --native --seconds $(FUZZ_SECONDS) $(FUZZ_TARGETS)

.PHONY: check
check: $(INSTALLED) ## Lint, format, types, import rules, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/python -m protos.generate --check
	$(BIN)/python -m protos.reference --check

.PHONY: protos
protos: $(INSTALLED) ## Generate the Python code and the reference of protos/ota/v1
	$(BIN)/python -m protos.generate
	$(BIN)/python -m protos.reference

.PHONY: vectors
vectors: $(INSTALLED) ## Write the golden files of tests/vectors again
	$(BIN)/python -m tests.vectors.regenerate

.PHONY: bench
bench: $(INSTALLED) ## Time encode, apply and the wire beside their peers
	$(BIN)/python -m benchmarks.run

.PHONY: clean
clean: ## Remove the virtual environments and the runs
	rm -rf $(VENV) $(VENV)-edge runs
