# make train   set everything up and run the embedded default recipe
# make test    set everything up and run the tests
# make check   format, lint, types, tests: what continuous integration runs
# make bench   the measurements of docs/benchmarks.md
#
# STACK=cpu|gpu chooses the dependencies; a machine with an NVIDIA driver gets gpu.
# RECIPE=name ARGS="key=value ..." choose and change what is trained.

STACK ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
PYTHON ?= python3.11
VENV ?= .venv
RECIPE ?= tiny
ARGS ?=

PY := $(VENV)/bin/python
LOCK := $(VENV)/.installed-$(STACK)-$(shell cat requirements/$(STACK).txt requirements/dev.txt setup.cfg | sha256sum | cut -c1-16)
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --no-compile
PIP_FLAGS := $(if $(filter cpu,$(STACK)),--no-deps,)

.PHONY: train test check format bench venv clean

train: venv
	$(PY) -m grpo.train --config-name $(RECIPE) $(ARGS)

test: venv
	HF_HUB_OFFLINE=1 $(PY) -m pytest

check: venv
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	HF_HUB_OFFLINE=1 $(PY) -m pytest

format: venv
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: venv
	$(PY) -m benchmarks.logprob_gap
	$(PY) -m benchmarks.overhead
	$(PY) -m benchmarks.seeds
	$(PY) -m benchmarks.control
	$(PY) -m benchmarks.grading

venv: $(LOCK)

$(LOCK):
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; install Python 3.11, or set PYTHON=path"; exit 78; }
	@echo "Installing the $(STACK) stack into $(VENV): about three minutes, once."
	@# Packages of the other stack may satisfy the pins of this one, and must not stay.
	@ls $(VENV)/.installed-* 2>/dev/null | grep -qv -- '-$(STACK)-' && rm -rf $(VENV) || true
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(PIP_FLAGS) -r requirements/$(STACK).txt
	$(PIP) --no-deps -r requirements/dev.txt
	$(PIP) --no-deps --editable .
	@# Byte code on all cores: pip makes it on one. Files for other Pythons do not compile and are not needed.
	@$(PY) -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true
	@rm -f $(VENV)/.installed-*
	@touch $@

clean:
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache
