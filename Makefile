# Each target works from a fresh clone and says what it installs. ARGS goes to the program: make test ARGS=tests/nerve
BIN := .venv/bin
MAKEFLAGS += --no-print-directory
BENCHES := $(addprefix bench-,pure convergence burst scale churn reload nerve)

.PHONY: help demo test check fmt schema lock bench $(BENCHES) clean runtime dev servers

help:
	@echo "make demo                see it work, a quarter of a minute (ARGS=--stay keeps it running)"
	@echo "make test                everything that is checked, against real servers (ARGS=tests/nerve: some of it)"
	@echo "make check               format, lint, types, import contracts, long modules"
	@echo "make fmt                 format the code"
	@echo "make bench               all benchmarks, about eight minutes (ARGS=--haproxy FILE); one: $(BENCHES)"
	@echo "make schema              write docs/schema anew, after a change of the files' keys"
	@echo "make lock                write the lock files anew (ARGS=--upgrade: with newer versions)"
	@echo "make clean               remove .venv and all caches"

demo: runtime
	@$(BIN)/dockstack demo $(ARGS)

test: dev servers
	@start=$$(date +%s); $(MAKE) check && $(BIN)/pytest $(ARGS); status=$$?; \
	echo "make test: $$(($$(date +%s) - start)) s"; exit $$status

check: dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy src tests bench scripts
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/long_modules.py

fmt: dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: dev servers
	@$(BIN)/python -m bench $(ARGS)

$(BENCHES): bench-%: dev servers
	@$(BIN)/python -m bench.$* $(ARGS)

schema: runtime
	@for role in nerve synapse; do $(BIN)/dockstack schema $$role > docs/schema/$$role.json || exit 1; done

lock:
	@sh scripts/lock.sh $(ARGS)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find src tests bench scripts -name __pycache__ -prune -exec rm -rf {} +

runtime dev:
	@sh scripts/venv.sh $@

servers:
	@sh scripts/servers.sh
